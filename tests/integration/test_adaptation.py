"""Adaptive bands, live: they begin where the walk-forward run ended and follow the ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain import distribution as dist
from candlecast.domain.frames import QUANTILES
from candlecast.domain.market import Timeframe
from candlecast.domain.specs import LabelSpec, ModelSpec, SplitSpec
from candlecast.models.adaptive import AdaptiveState, updated
from candlecast.pipelines.adaptation import adapted_to, update_states
from candlecast.pipelines.evaluate import run_name
from candlecast.pipelines.forecast import forecast
from candlecast.pipelines.settle import settle
from candlecast.pipelines.train import train
from candlecast.store import ledger
from candlecast.store.calibration import StoredState, read_states, write_states
from candlecast.store.registry import ModelVersion
from pipeline_rows import DAILY, HAR, LATER, at, closing, opened, put, sample_bars

BARS = sample_bars("AAPL", "IBM", "MSFT", n_sessions=420)
DAYS = BARS["ts"].unique().sort()
HORIZONS = ("1D", "1W")
FOLLOWING = replace(
    HAR,
    labels=LabelSpec(horizons=HORIZONS),
    splits=SplitSpec(n_splits=1),
    model=ModelSpec("har", is_adaptive=True),
)
TRAINED = DAYS[-20]
ASKED = DAYS[-19:-7:4].to_list()


@pytest.fixture
def stores(database_url, tmp_path):
    with opened(database_url, tmp_path, closing(TRAINED)) as ready:
        yield ready


def state_of(stores, version, now):
    found = read_states(stores.database, version, as_of=now)
    return {horizon: (stored.n_settled, stored.state) for horizon, stored in found.items()}


def by_definition(start, stores, origin, name, until):
    """The states and their numbers of outcomes, from all that the ledger says."""
    columns = ("symbol", "as_of", "horizon", "horizon_bars", "end_at", "pit")
    rows = ledger.read_forecasts(
        stores.database, DAILY, origins=(origin,), model_version=name, settled_only=True,
        columns=columns,
    ).filter(pl.col("end_at") <= until)  # fmt: skip
    found = {}
    for horizon in HORIZONS:
        own = rows.filter(horizon=horizon)
        values = (own[name].to_numpy() for name in ("pit", "as_of", "end_at"))
        state = updated(start[horizon], *values, own["horizon_bars"][0])
        found[horizon] = (len(own), state.to_mapping())
    return found


def test_a_model_lives_through_training_forecasts_settlements_and_questions_of_the_past(stores):
    put(stores, BARS.filter(pl.col("ts") <= TRAINED))
    version = train(stores, FOLLOWING).version
    name, trained_at = version.version, version.training_until
    zero = dict.fromkeys(HORIZONS, AdaptiveState())
    run = run_name(FOLLOWING, version.training_set_id)
    begun = {
        horizon: state
        for horizon, (_, state) in by_definition(
            zero, stores, "walk_forward", run, trained_at
        ).items()
    }
    first = {horizon: (0, state) for horizon, state in begun.items()}
    assert state_of(stores, name, trained_at) == first
    assert all(state != AdaptiveState().to_mapping() for state in begun.values())
    assert state_of(stores, name, trained_at - timedelta(seconds=1)) == {}

    asked_at = []
    for day in [*ASKED, DAYS[-1]]:
        then = at(stores, closing(day) + timedelta(minutes=5))
        put(then, BARS.filter(pl.col("ts") <= day))
        settle(then)
        asked_at.append(forecast(then, version=name).as_of)
    now = then.clock.now()
    start = {horizon: AdaptiveState.from_mapping(state) for horizon, state in begun.items()}
    expected = by_definition(start, then, "live", name, now)
    assert {horizon: n for horizon, (n, _) in expected.items()} == {"1D": 9, "1W": 9}
    assert state_of(then, name, now) == expected

    # Settling again tells nothing new; what was known earlier is still there.
    rows = read_states(then.database, name, as_of=now)
    settle(then)
    assert update_states(then, DAILY, now) == 0
    assert read_states(then.database, name, as_of=now) == rows
    assert state_of(then, name, trained_at) == first

    # A question of the past is answered by the state of then: the same forecast again.
    forecast(at(stores, LATER), version=name, as_of=asked_at[2] + timedelta(minutes=5))
    told = ledger.read_forecasts(stores.database, DAILY, model_version=name)
    again, lived = (
        told.filter(pl.col("as_of") == asked_at[2], origin=origin).select("symbol", *QUANTILES)
        for origin in ("simulated", "live")
    )
    assert len(again) == 6
    assert again.equals(lived)
    assert state_of(stores, name, asked_at[2] + timedelta(minutes=5)) != expected


def test_states_are_added_and_read_as_they_stood(stores):
    early, late = LATER - timedelta(days=2), LATER - timedelta(days=1)
    state = AdaptiveState(0.7).to_mapping()
    first = {"1D": StoredState(early, 0, state), "1W": StoredState(early, 0, state)}
    newer = {"1D": StoredState(late, 4, AdaptiveState(0.1).to_mapping())}
    assert write_states(stores.database, "har-1", first) == 2
    assert write_states(stores.database, "har-1", newer) == 1
    assert write_states(stores.database, "har-1", {"1D": replace(newer["1D"], n_settled=9)}) == 0
    assert write_states(stores.database, "har-1", {}) == 0
    assert read_states(stores.database, "har-1", as_of=LATER) == first | newer
    assert read_states(stores.database, "har-1", as_of=LATER, is_first=True) == first
    assert read_states(stores.database, "har-1", as_of=late - timedelta(seconds=1)) == first
    assert read_states(stores.database, "har-1", as_of=early - timedelta(seconds=1)) == {}
    assert read_states(stores.database, "har-2", as_of=LATER) == {}


def test_a_model_that_does_not_follow_is_served_as_it_is(stores):
    version = ModelVersion(
        version="har-1", kind="har", timeframe=Timeframe.parse("1d"), horizons=HORIZONS,
        spec='{"model": {"kind": "har"}}', metrics="{}", artifact_sha256="", training_from=LATER,
        training_until=LATER, training_set_id=None, stage="registered", is_active=False,
        created_at=LATER,
    )  # fmt: skip
    quantiles = np.tile(dist.SCORES, (3, 2, 1))
    wide = {"1D": StoredState(LATER, 0, AdaptiveState(0.7).to_mapping())}
    write_states(stores.database, "har-1", wide)
    assert adapted_to(stores, version, LATER, quantiles) is quantiles
    follows = replace(version, spec='{"model": {"kind": "har", "is_adaptive": true}}')
    made = adapted_to(stores, follows, LATER, quantiles)
    assert made[:, 0] == pytest.approx(np.tile(dist.SCORES * np.exp(0.7), (3, 1)))
    assert np.array_equal(made[:, 1], quantiles[:, 1])
