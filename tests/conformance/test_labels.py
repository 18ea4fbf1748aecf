"""What every label of the catalogue promises."""

from __future__ import annotations

import inspect

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.catalog import LABELS
from candlecast.domain.frames import LABELS as FRAME
from candlecast.domain.frames import PRICES
from candlecast.domain.market import Horizon, Timeframe, trading_calendar
from candlecast.errors import InvalidSpec, NotFound
from candlecast.validation.causality import audit, audit_isolation
from label_prices import awkward_prices
from price_frames import DAILY, daily_prices

every_label = pytest.mark.parametrize("kind", LABELS.names())
HORIZONS = ("1D", "1W", "1M")
KEY = ("symbol", "ts", "horizon")
SMALL = daily_prices(seed=3, n_symbols=3, n_sessions=200)
KNOWN_AT = SMALL["known_at"].unique().sort()
QUARTERS = Timeframe.parse("15m")
OF_ALL_SYMBOLS = {"sector_rotation"}
"""Labels of a market: they compare its symbols."""
CLASSES = {"price_direction", "regime_change", "sector_rotation", "triple_barrier"}


def labels_of(kind, prices, *, timeframe=DAILY, horizons=HORIZONS, calendar="XNYS", **parameters):
    if kind == "sector_rotation":
        parameters = {"leader": str(prices["symbol"].last())} | parameters
    calendars = dict.fromkeys(prices["symbol"].unique(), trading_calendar(calendar))
    return LABELS.get(kind).compute(
        prices, timeframe=timeframe, horizons=horizons, calendars=calendars, **parameters
    )


@every_label
def test_there_is_a_row_for_every_bar_and_horizon(kind, prices):
    labels = FRAME.check(labels_of(kind, prices))
    wanted = prices.select("symbol", "ts").join(pl.DataFrame({"horizon": HORIZONS}), how="cross")
    assert labels.select(KEY).equals(wanted.sort(KEY))


@every_label
def test_an_outcome_is_known_only_after_its_bar(kind, prices):
    ends = labels_of(kind, prices).join(prices, on=["symbol", "ts"])
    assert (ends["end_at"] > ends["close_at"]).all()
    assert (ends["end_at"] >= ends["known_at"]).all()


@every_label
def test_what_has_not_ended_is_null_and_still_says_when_it_ends(kind, prices):
    labels = labels_of(kind, prices)
    is_open = pl.col("end_at") > prices["known_at"].max()
    assert labels.filter(is_open)["value"].null_count() == labels.filter(is_open).height > 0
    assert labels["value"].is_finite().all()
    assert labels["value"].count() > 0.7 * len(labels)


@every_label
def test_confidence_is_a_share_that_differs_from_outcome_to_outcome(kind, prices, nasty):
    for frame in (prices, nasty):
        labels = labels_of(kind, frame)
        known = labels["confidence"].drop_nulls()
        assert known.is_between(0, 1).all()
        assert known.n_unique() > 0.05 * len(known) > 100
        assert labels.filter(pl.col("value").is_null())["confidence"].null_count() == (
            labels["value"].null_count()
        )
    assert 0.2 < labels_of(kind, prices)["confidence"].mean() < 0.8


@every_label
def test_values_are_finite_whatever_the_prices(kind, nasty):
    values = labels_of(kind, nasty)["value"]
    assert values.is_finite().all()
    if kind in CLASSES:
        assert set(values.drop_nulls().unique()) == {-1.0, 0.0, 1.0}


@every_label
def test_where_nothing_moves_nobody_is_sure_of_anything(kind, nasty):
    still = labels_of(kind, nasty.filter(pl.col("symbol") == "ALL_CONSTANT"))
    assert still["confidence"].null_count() == len(still)
    assert set(still["value"].drop_nulls()) <= {0.0}


@every_label
@settings(max_examples=5)
@given(cut=st.integers(40, len(KNOWN_AT) - 2))
def test_an_outcome_depends_on_nothing_after_its_end(kind, cut):
    findings = audit(
        lambda frame: labels_of(kind, frame), SMALL, [KNOWN_AT[cut]], key=KEY, stamp="end_at"
    )
    assert findings == []


@every_label
@settings(max_examples=2)
@given(seed=st.integers(0, 10**6))
def test_nor_does_it_where_bars_were_healed_late(kind, seed):
    prices = awkward_prices(seed, n_sessions=180)
    findings = audit(lambda frame: labels_of(kind, frame), prices, key=KEY, stamp="end_at")
    assert findings == []


@every_label
@settings(max_examples=2)
@given(seed=st.integers(0, 10**6), is_late=st.booleans())
def test_nor_does_it_within_sessions_and_over_holidays(kind, seed, is_late):
    prices = awkward_prices(seed, timeframe=QUARTERS, n_sessions=8, is_late=is_late, share=0.6)
    # The terciles of healed outcomes are those of today, as its documentation says.
    own = {"threshold": "fixed:0.004"} if is_late and kind == "price_direction" else {}
    findings = audit(
        lambda frame: labels_of(kind, frame, timeframe=QUARTERS, horizons=("1h", "1D"), **own),
        prices,
        key=KEY,
        stamp="end_at",
    )
    assert findings == []


@every_label
def test_a_symbol_is_labelled_by_its_own_prices_alone(kind):
    findings = audit_isolation(
        lambda frame: labels_of(kind, frame), SMALL, "SYN01", key=(*KEY, "end_at")
    )
    assert bool(findings) == (kind in OF_ALL_SYMBOLS)


@every_label
def test_nothing_given_is_changed_and_twice_gives_the_same(kind):
    before = SMALL.clone()
    assert labels_of(kind, SMALL).equals(labels_of(kind, SMALL))
    assert SMALL.equals(before)


@every_label
def test_a_horizon_is_labelled_alone_as_among_others(kind):
    together = labels_of(kind, SMALL).filter(pl.col("horizon") == "1W")
    assert labels_of(kind, SMALL, horizons=("1W",)).equals(together)


@every_label
def test_no_prices_give_no_labels(kind):
    empty = PRICES.empty()
    labels = LABELS.get(kind).compute(empty, timeframe=DAILY, horizons=HORIZONS, calendars={})
    assert labels.equals(FRAME.empty())


@every_label
def test_a_symbol_without_a_calendar_is_named(kind):
    with pytest.raises(NotFound, match="SYN00"):
        LABELS.get(kind).compute(SMALL, timeframe=DAILY, horizons=HORIZONS, calendars={})


@every_label
def test_a_horizon_that_is_no_whole_number_of_bars_is_refused(kind):
    with pytest.raises(InvalidSpec, match="whole number of 15m bars"):
        labels_of(kind, awkward_prices(1, timeframe=QUARTERS, n_sessions=3), timeframe=QUARTERS,
                  horizons=("20m",))  # fmt: skip


@every_label
def test_it_says_what_it_is_and_what_comes_back(kind):
    text = inspect.getdoc(LABELS.get(kind).compute) or ""
    assert LABELS.describe(kind).endswith(".")
    for part in (
        "Parameters\n-----",
        "Returns\n-----",
        "Raises\n-----",
        "`confidence`",
        "`end_at`",
    ):
        assert part in text
    for parameter in inspect.signature(LABELS.get(kind).compute).parameters.values():
        assert parameter.name in text
        is_own = parameter.name not in {"prices", "timeframe", "horizons", "calendars"}
        assert (parameter.default is not inspect.Parameter.empty) == is_own


@every_label
def test_its_default_horizons_are_horizons_of_their_bars(kind):
    label, xnys = LABELS.get(kind), trading_calendar("XNYS")
    for horizon in label.daily:
        assert Horizon.parse(horizon).bars(DAILY, xnys) >= 1
    for horizon in label.intraday:
        assert Horizon.parse(horizon).bars(QUARTERS, xnys) >= 1
