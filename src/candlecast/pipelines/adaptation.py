"""Bands of live forecasts follow how the forecasts of their model fared.

A model starts with the state that its walk-forward run ended with, an updated one with that of the
model it comes from. From then on its state is made of that one and all outcomes of its live
forecasts, in the order in which they ended. What is new is added to the newest state; where an
outcome came late, the state is computed anew, so that it has its place among the others.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import numpy as np
import orjson
import polars as pl

from candlecast import metrics
from candlecast.domain.distribution import FloatArray
from candlecast.domain.frames import QUANTILES
from candlecast.domain.market import Timeframe
from candlecast.models.adaptive import AdaptiveState, updated
from candlecast.pipelines.dataset import TrainingSet
from candlecast.store import ledger
from candlecast.store.calibration import StoredState, read_states, write_states
from candlecast.store.registry import ModelVersion
from candlecast.store.settlements import Settled, count_settled, read_extent, read_settled
from candlecast.store.stores import Stores

KEYS: Final = ("symbol", "as_of", "horizon")


def is_adaptive(version: ModelVersion) -> bool:
    """Whether the bands of this version follow its outcomes."""
    return bool(orjson.loads(version.spec)["model"].get("is_adaptive", False))


def start_state(
    stores: Stores, version: ModelVersion, run_name: str, training: TrainingSet
) -> None:
    """Keep the state in which the version's walk-forward run ended, told by the outcomes that its
    training set knows and no others. A version that has one keeps it.
    """
    until = version.training_until
    if not is_adaptive(version) or read_states(stores.database, version.version, as_of=until):
        return
    outcomes = _walked_outcomes(stores, version, run_name, training)
    ended = {
        horizon: StoredState(until, 0, _after(AdaptiveState(), outcomes, horizon).to_mapping())
        for horizon in version.horizons
    }
    write_states(stores.database, version.version, ended)


def carry_states(stores: Stores, old: ModelVersion, new: ModelVersion) -> None:
    """Let `new` begin with the states of `old` as they stood at the end of the new training."""
    if not is_adaptive(new):
        return
    until = new.training_until
    stood = read_states(stores.database, old.version, as_of=until)
    begun = {
        horizon: StoredState(until, 0, _state(stood.get(horizon)).to_mapping())
        for horizon in new.horizons
    }
    write_states(stores.database, new.version, begun)


def update_states(stores: Stores, timeframe: Timeframe, now: datetime) -> int:
    """Bring the states of all adaptive versions up to the outcomes settled by `now`; how many
    states are new.
    """
    n_new = 0
    counted = count_settled(stores.database, timeframe, until=now)
    for version in stores.registry.list():
        n_settled = counted.get(version.version)
        if n_settled and version.timeframe == timeframe and is_adaptive(version):
            n_new += _update(stores, version, now, n_settled)
    return n_new


def adapted_to(
    stores: Stores, version: ModelVersion, as_of: datetime, quantiles: FloatArray
) -> FloatArray:
    """(n_rows, n_horizons, 17) quantiles as the states that stood at `as_of` widen them."""
    if not is_adaptive(version):
        return quantiles
    stored = read_states(stores.database, version.version, as_of=as_of)
    states = [_state(stored.get(horizon)) for horizon in version.horizons]
    return np.stack([state.adapt(quantiles[:, h]) for h, state in enumerate(states)], axis=1)


def _update(stores: Stores, version: ModelVersion, now: datetime, counted: dict[str, int]) -> int:
    newest = read_states(stores.database, version.version, as_of=now)
    moved = {}
    for horizon in version.horizons:
        n_settled, before = counted.get(horizon, 0), newest.get(horizon)
        if n_settled != (before.n_settled if before else 0):
            state = _gone_on(stores, version, (horizon, before), now)
            state = state or _anew(stores, version, horizon, now)
            moved[horizon] = StoredState(now, n_settled, state.to_mapping())
    return write_states(stores.database, version.version, moved)


def _gone_on(
    stores: Stores, version: ModelVersion, reached: tuple[str, StoredState | None], now: datetime
) -> AdaptiveState | None:
    # From the newest state on, where all that is new lies after all that it was made of.
    horizon, before = reached
    if before is None:
        return None
    asked = Settled(version.timeframe, version.version, horizon)
    n_included, last_end_at = read_extent(stores.database, asked, until=before.updated_at)
    if n_included != before.n_settled:  # settled since, as of an earlier time
        return None
    new = read_settled(stores.database, asked, after=before.updated_at, until=now)
    if last_end_at is not None and (new["end_at"] <= last_end_at).any():
        return None
    return _after(_state(before), new, horizon)


def _anew(stores: Stores, version: ModelVersion, horizon: str, now: datetime) -> AdaptiveState:
    first = read_states(stores.database, version.version, as_of=now, is_first=True).get(horizon)
    # A state that was made of outcomes is no start: they would count twice.
    begun = _state(first) if first and first.n_settled == 0 else AdaptiveState()
    asked = Settled(version.timeframe, version.version, horizon)
    return _after(begun, read_settled(stores.database, asked, until=now), horizon)


def _state(stored: StoredState | None) -> AdaptiveState:
    return AdaptiveState.from_mapping(stored.state) if stored else AdaptiveState()


def _walked_outcomes(
    stores: Stores, version: ModelVersion, run_name: str, training: TrainingSet
) -> pl.DataFrame:
    # The walk-forward forecasts beside what the training set knows of their outcomes. The ledger
    # may have settled them with bars that came, or were healed, after the training's as_of.
    made = ledger.read_forecasts(
        stores.database,
        version.timeframe,
        origins=("walk_forward",),
        model_version=run_name,
        columns=(*KEYS, "horizon_bars", *QUANTILES),
    )
    examples = training.examples
    known = pl.concat(
        training.keys.select("symbol", "as_of").with_columns(
            pl.lit(horizon).alias("horizon"),
            pl.Series("y", examples.y[:, column]),
            pl.Series("end_at", examples.end_at[:, column]).cast(pl.Datetime("us", "UTC")),
        )
        for column, horizon in enumerate(examples.horizons)
    ).filter(pl.col("y").is_not_nan(), pl.col("end_at") <= version.training_until)
    told = made.join(known, on=KEYS, how="inner")
    quantiles = told.select(QUANTILES).to_numpy().astype(float)
    return told.with_columns(pl.Series("pit", metrics.pit(quantiles, told["y"].to_numpy())))


def _after(state: AdaptiveState, outcomes: pl.DataFrame, horizon: str) -> AdaptiveState:
    own = outcomes.filter(horizon=horizon)
    if own.is_empty():
        return state
    as_of, end_at = (own[name].to_numpy() for name in ("as_of", "end_at"))
    return updated(state, own["pit"].to_numpy(), as_of, end_at, int(own["horizon_bars"][0]))
