"""What every label of the catalogue promises."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.catalog import LABELS
from candlecast.domain.frames import LABELS as FRAME
from candlecast.domain.frames import PRICES
from candlecast.domain.market import trading_calendar
from candlecast.errors import NotFound
from candlecast.validation.causality import audit, audit_isolation
from price_frames import DAILY, daily_prices

every_label = pytest.mark.parametrize("kind", LABELS.names())
HORIZONS = ("1D", "1W", "1M")
KEY = ("symbol", "ts", "horizon")
SMALL = daily_prices(seed=3, n_symbols=3, n_sessions=200)
KNOWN_AT = SMALL["known_at"].unique().sort()


def labels_of(kind, prices):
    calendars = dict.fromkeys(prices["symbol"].unique(), trading_calendar("XNYS"))
    return LABELS.get(kind)(prices, timeframe=DAILY, horizons=HORIZONS, calendars=calendars)


@every_label
def test_there_is_a_row_for_every_bar_and_horizon(kind, prices):
    labels = FRAME.check(labels_of(kind, prices))
    wanted = prices.select("symbol", "ts").join(pl.DataFrame({"horizon": HORIZONS}), how="cross")
    assert labels.select(KEY).equals(wanted.sort(KEY))


@every_label
def test_an_outcome_is_known_only_after_its_bar(kind, prices):
    ends = labels_of(kind, prices).join(prices, on=["symbol", "ts"])
    assert (ends["end_at"] > ends["close_at"]).all()


@every_label
def test_what_has_not_ended_is_null_and_still_says_when_it_ends(kind, prices):
    labels = labels_of(kind, prices)
    is_open = pl.col("end_at") > prices["known_at"].max()
    assert labels.filter(is_open)["value"].null_count() == labels.filter(is_open).height > 0
    assert labels["value"].is_finite().all()
    assert labels["value"].count() > 0.9 * len(labels)


@every_label
@settings(max_examples=10)
@given(cut=st.integers(40, len(KNOWN_AT) - 2))
def test_an_outcome_depends_on_nothing_after_its_end(kind, cut):
    findings = audit(
        lambda frame: labels_of(kind, frame), SMALL, [KNOWN_AT[cut]], key=KEY, stamp="end_at"
    )
    assert findings == []


@every_label
def test_a_symbol_is_labelled_by_its_own_prices_alone(kind):
    assert audit_isolation(lambda frame: labels_of(kind, frame), SMALL, "SYN01", key=KEY) == []


@every_label
def test_nothing_given_is_changed_and_twice_gives_the_same(kind):
    before = SMALL.clone()
    assert labels_of(kind, SMALL).equals(labels_of(kind, SMALL))
    assert SMALL.equals(before)


@every_label
def test_no_prices_give_no_labels(kind):
    assert labels_of(kind, PRICES.empty()).equals(FRAME.empty())


@every_label
def test_a_symbol_without_a_calendar_is_named(kind):
    with pytest.raises(NotFound, match="SYN00"):
        LABELS.get(kind)(SMALL, timeframe=DAILY, horizons=HORIZONS, calendars={})


@every_label
def test_it_says_what_it_is(kind):
    assert LABELS.describe(kind).endswith(".")
