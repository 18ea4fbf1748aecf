"""Bands of live forecasts follow how the forecasts of their model fared.

A model starts with the state that its walk-forward run ended with. From then on its state is
computed from that one and all outcomes of its live forecasts, each time anew: doing so twice
changes nothing, and an outcome that came late has its place among the others.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import orjson
import polars as pl

from candlecast.domain.distribution import FloatArray
from candlecast.domain.market import Timeframe
from candlecast.models.adaptive import AdaptiveState, updated
from candlecast.store import ledger
from candlecast.store.calibration import StoredState, read_states, write_states
from candlecast.store.registry import ModelVersion
from candlecast.store.stores import Stores

OUTCOMES = ("symbol", "as_of", "horizon", "horizon_bars", "end_at", "pit", "settled_at")


def is_adaptive(version: ModelVersion) -> bool:
    """Whether the bands of this version follow its outcomes."""
    return bool(orjson.loads(version.spec)["model"].get("is_adaptive", False))


def start_state(stores: Stores, version: ModelVersion, run_name: str) -> None:
    """Keep the state in which the version's walk-forward run ended, as known at the end of its
    training. A version that has one keeps it.
    """
    until = version.training_until
    if not is_adaptive(version) or read_states(stores.database, version.version, as_of=until):
        return
    outcomes = _outcomes(stores, version.timeframe, "walk_forward", run_name)
    known = outcomes.filter(pl.col("end_at") <= until)
    states = {horizon: AdaptiveState() for horizon in version.horizons}
    ended = {
        h: StoredState(until, 0, s.to_mapping()) for h, (s, _) in _after(states, known).items()
    }
    write_states(stores.database, version.version, ended)


def update_states(stores: Stores, timeframe: Timeframe, now: datetime) -> int:
    """Bring the states of all adaptive versions up to the outcomes settled by `now`; how many
    states are new.
    """
    n_new = 0
    for version in stores.registry.list():
        if version.timeframe == timeframe and is_adaptive(version):
            n_new += _update(stores, version, now)
    return n_new


def adapted_to(
    stores: Stores, version: ModelVersion, as_of: datetime, quantiles: FloatArray
) -> FloatArray:
    """(n_rows, n_horizons, 17) quantiles as the states that stood at `as_of` widen them."""
    if not is_adaptive(version):
        return quantiles
    stored = read_states(stores.database, version.version, as_of=as_of)
    states = [
        AdaptiveState.from_mapping(stored[horizon].state) if horizon in stored else AdaptiveState()
        for horizon in version.horizons
    ]
    return np.stack([state.adapt(quantiles[:, h]) for h, state in enumerate(states)], axis=1)


def _update(stores: Stores, version: ModelVersion, now: datetime) -> int:
    first = read_states(stores.database, version.version, as_of=now, is_first=True)
    newest = read_states(stores.database, version.version, as_of=now)
    settled = _outcomes(stores, version.timeframe, "live", version.version)
    known = settled.filter(pl.col("settled_at") <= now)
    begun = {
        horizon: AdaptiveState.from_mapping(first[horizon].state)
        if horizon in first
        else AdaptiveState()
        for horizon in version.horizons
    }
    n_before = {horizon: stored.n_settled for horizon, stored in newest.items()}
    moved = {
        horizon: StoredState(now, n_settled, state.to_mapping())
        for horizon, (state, n_settled) in _after(begun, known).items()
        if n_settled != n_before.get(horizon, 0)
    }
    return write_states(stores.database, version.version, moved)


def _outcomes(
    stores: Stores, timeframe: Timeframe, origin: ledger.Origin, model_version: str
) -> pl.DataFrame:
    return ledger.read_forecasts(
        stores.database,
        timeframe,
        origins=(origin,),
        model_version=model_version,
        settled_only=True,
        columns=OUTCOMES,
    )


def _after(
    states: dict[str, AdaptiveState], outcomes: pl.DataFrame
) -> dict[str, tuple[AdaptiveState, int]]:
    # Each horizon's state after its outcomes, and how many these were.
    found = {}
    for horizon, state in states.items():
        own = outcomes.filter(horizon=horizon)
        if len(own):
            as_of, end_at = (own[name].to_numpy() for name in ("as_of", "end_at"))
            n_bars = int(own["horizon_bars"][0])
            state = updated(state, own["pit"].to_numpy(), as_of, end_at, n_bars)  # noqa: PLW2901
        found[horizon] = (state, len(own))
    return found
