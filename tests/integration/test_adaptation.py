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
from candlecast.store.settlements import read_settled
from integration.store_rows import TICKERS, day, forecasts_of, with_symbols
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
    return after(start, rows)


def after(start, rows):
    found = {}
    for horizon in HORIZONS:
        own = rows.filter(horizon=horizon)
        values = (own[name].to_numpy() for name in ("pit", "as_of", "end_at"))
        state = updated(start[horizon], *values, own["horizon_bars"].max() or 1)
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
    for session in [*ASKED, DAYS[-1]]:
        then = at(stores, closing(session) + timedelta(minutes=5))
        put(then, BARS.filter(pl.col("ts") <= session))
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


def test_the_first_state_knows_no_outcome_that_training_did_not_know(stores):
    trained_at = closing(TRAINED)
    is_absent = (pl.col("symbol") == "IBM") & pl.col("ts").is_between(DAYS[-39], DAYS[-36])
    put(stores, BARS.filter((pl.col("ts") <= TRAINED) & ~is_absent))
    healed = at(stores, closing(DAYS[-10]))
    put(healed, BARS.filter(pl.col("ts") <= DAYS[-10]))
    version = train(healed, FOLLOWING, as_of=trained_at).version

    def is_unknown(horizon, first, last):
        asked = pl.col("ts").is_between(DAYS[first], DAYS[last])
        return (pl.col("symbol") == "IBM") & (pl.col("horizon") == horizon) & asked

    unknown = is_unknown("1D", -40, -40) | is_unknown("1W", -44, -41)
    run = run_name(FOLLOWING, version.training_set_id)
    rows = ledger.read_forecasts(
        stores.database, DAILY, origins=("walk_forward",), model_version=run, settled_only=True
    ).filter(pl.col("end_at") <= trained_at)
    assert len(rows.filter(unknown)) == 5  # settled since, with the bars that came
    zero = dict.fromkeys(HORIZONS, AdaptiveState())
    expected = after(zero, rows.filter(~unknown))
    found = state_of(stores, version.version, trained_at)
    assert {horizon: state for horizon, (_, state) in found.items()} == {
        horizon: state for horizon, (_, state) in expected.items()
    }
    assert found != {horizon: (0, state) for horizon, (_, state) in after(zero, rows).items()}


@pytest.mark.parametrize(
    ("delays", "is_begun"), [([1], False), ([0, 0, 1, 4], False), ([0, 0, 1, 4], True)]
)
def test_step_by_step_the_states_are_those_of_all_outcomes_at_once(
    stores, tmp_path, delays, is_begun
):
    version = a_version(FOLLOWS)
    stores.registry.add(version, with_file(tmp_path))
    start = AdaptiveState(0.2 * is_begun)
    if is_begun:
        first = StoredState(day(0), 0, start.to_mapping())
        write_states(stores.database, "har-1", dict.fromkeys(HORIZONS, first))
    rng = np.random.default_rng(len(delays))
    for now, due in settled_days(stores, rng.choice(delays, 72)):
        ledger.settle(stores.database, outcomes_of(due, now, rng))
        update_states(stores, DAILY, now)
        expected = by_definition(
            dict.fromkeys(HORIZONS, start), stores, "live", "har-1", LATER.replace(year=2030)
        )
        found = state_of(stores, "har-1", now)
        assert {h: told for h, told in found.items() if told[0]} == {
            h: told for h, told in expected.items() if told[0]
        }
    assert {n for n, _ in found.values()} == {36}


def test_only_what_is_new_is_read_and_only_where_something_is_new(stores, tmp_path, monkeypatch):
    for name in ("har-1", "har-2"):
        stores.registry.add(replace(a_version(FOLLOWS), version=name), with_file(tmp_path))
    read, asked = [], []

    def read_and_note(*arguments, **options):
        read.append(len(found := read_settled(*arguments, **options)))
        return found

    def states_and_note(database, name, **options):
        asked.append(name)
        return read_states(database, name, **options)

    monkeypatch.setattr("candlecast.pipelines.adaptation.read_settled", read_and_note)
    monkeypatch.setattr("candlecast.pipelines.adaptation.read_states", states_and_note)
    # Bars that come a day late come late for all: each day's outcomes are still the newest.
    rng = np.random.default_rng(0)
    for now, due in settled_days(stores, np.ones(72, dtype=int)):
        ledger.settle(stores.database, outcomes_of(due, now, rng))
        assert update_states(stores, DAILY, now) == (2 if len(due) else 0)
    assert read == [3] * 24
    assert set(asked) == {"har-1"}


FOLLOWS = '{"model": {"kind": "har", "is_adaptive": true}}'


def a_version(spec):
    return ModelVersion(
        version="har-1", kind="har", timeframe=Timeframe.parse("1d"), horizons=HORIZONS,
        spec=spec, metrics="{}", artifact_sha256="", training_from=LATER,
        training_until=LATER, training_set_id=None, stage="registered", is_active=False,
        created_at=LATER,
    )  # fmt: skip


def with_file(folder):
    made = folder / "artefact"
    made.mkdir(exist_ok=True)
    (made / "model.json").write_text("{}")
    return made


def settled_days(stores, delays):
    """Live forecasts of twelve days in the ledger; of each day, which are settled on it."""
    with_symbols(stores.database)
    batch = ledger.Batch(DAILY, "live", "har-1", None, day(0), "scaled")
    ledger.append(stores.database, forecasts_of(TICKERS, range(12), HORIZONS), batch)
    made = ledger.read_forecasts(stores.database, DAILY, columns=("id", "as_of", "end_at"))
    told = made.with_columns(at=pl.col("end_at") + pl.duration(days=pl.Series(delays)))
    for number in range(2, 20):
        yield day(number), told.filter(pl.col("at") == day(number))


def outcomes_of(due, settled_at, rng):
    return due.select(
        pl.col("id").alias("prediction_id"),
        *(pl.lit(0.1).alias(name) for name in ("realised", "pinball", "crps")),
        pl.lit(settled_at).alias("settled_at"),
        pl.Series("pit", rng.uniform(size=len(due))),
    )


def test_a_model_that_does_not_follow_is_served_as_it_is(stores):
    version = a_version('{"model": {"kind": "har"}}')
    quantiles = np.tile(dist.SCORES, (3, 2, 1))
    wide = {"1D": StoredState(LATER, 0, AdaptiveState(0.7).to_mapping())}
    write_states(stores.database, "har-1", wide)
    assert adapted_to(stores, version, LATER, quantiles) is quantiles
    follows = replace(version, spec=FOLLOWS)
    made = adapted_to(stores, follows, LATER, quantiles)
    assert made[:, 0] == pytest.approx(np.tile(dist.SCORES * np.exp(0.7), (3, 1)))
    assert np.array_equal(made[:, 1], quantiles[:, 1])
