"""Coarser bars follow the stored finer ones: made once ended, revised with them, never early."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.frames import BARS
from candlecast.domain.market import Symbol, Timeframe, trading_calendar
from candlecast.domain.resample import resample
from candlecast.domain.sources import is_simulated
from candlecast.errors import InvalidSpec, NotFound
from candlecast.pipelines.resample import derive_bars, finest_timeframes, open_bars
from candlecast.store.bars import read_bars, write_bars
from candlecast.store.coverage import SPANS
from candlecast.store.pins import pin
from candlecast.store.symbols import read_symbols, write_symbols
from pipeline_rows import at, opened

NAMES = ("5m", "10m", "15m", "30m", "1h", "4h", "1d")
M1, M5, M15, H1, H4, D1 = map(Timeframe.parse, ("1m", "5m", "15m", "1h", "4h", "1d"))
OPEN = datetime(2020, 11, 27, 14, 30, tzinfo=UTC)
CLOSE = datetime(2020, 11, 27, 18, 0, tzinfo=UTC)  # a half-day of XNYS
NEVER = timedelta(0)
MINUTE = timedelta(minutes=1)
VALUES = [name for name in BARS.columns if name not in ("source", "known_at")]
CALENDARS = {"AAPL": "XNYS", "BTC-USD": "24/7"}


@pytest.fixture
def stores(database_url, tmp_path):
    with opened(database_url, tmp_path, CLOSE) as stores:
        symbols = [Symbol(ticker, calendar=name) for ticker, name in CALENDARS.items()]
        write_symbols(stores.database, symbols)
        yield stores


def bars(minutes, *, symbol="AAPL", close=None, source="alpha", known=None, step=1, start=OPEN):
    """Bars of `step` minutes, so many minutes after `start`; known at their end, or at `known`."""
    minutes = list(minutes)
    opens = [start + minute * MINUTE for minute in minutes]
    price = [100.0 + minute % 7 for minute in minutes] if close is None else [close] * len(minutes)
    return BARS.conform(
        pl.DataFrame(
            {
                "symbol": symbol,
                "ts": opens,
                "open": price,
                "high": [value + 1 for value in price],
                "low": [value - 1 for value in price],
                "close": price,
                "volume": [float(minute % 5) for minute in minutes],
                "vwap": price,
                "trade_count": 3,
                "source": source,
                "known_at": [known or ts + step * MINUTE for ts in opens],
            },
            schema_overrides=BARS.columns,
        )
    )


def span(minutes, symbol="AAPL", start=OPEN):
    begin, end = start + minutes[0] * MINUTE, start + (minutes[-1] + 1) * MINUTE
    return pl.DataFrame([(symbol, begin, end)], schema=SPANS, orient="row")


def put(stores, frame, timeframe=M1):
    write_bars(stores.database, timeframe, frame)


def stored(stores, timeframe, as_of=None, **which):
    return read_bars(stores.database, timeframe, as_of=as_of, **which)


def expected(stores, timeframe, as_of, finer=M1):
    calendars = {ticker: trading_calendar(name) for ticker, name in CALENDARS.items()}
    known = stored(stores, finer, as_of)
    return resample(known, finer, timeframe, calendars, as_of=as_of)


def test_all_coarser_bars_of_a_half_day_are_stored_and_named_after_what_they_are_made_of(stores):
    put(stores, bars(range(210)))
    written = derive_bars(stores, M1)
    counts = dict(zip(NAMES, (42, 21, 14, 7, 4, 1, 1), strict=True))
    assert {target.name: result.inserted for target, result in written.items()} == counts
    for target in written:
        made = stored(stores, target)
        assert made.select(VALUES).equals(expected(stores, target, CLOSE).select(VALUES))
        assert set(made["source"]) == {"alpha@1m"}
        assert (made["known_at"] <= CLOSE).all()
    again = derive_bars(stores, M1, span(range(210)))
    assert {(r.inserted, r.revised) for r in again.values()} == {(0, 0)}


def test_only_ended_buckets_are_stored_and_the_rest_follow_when_they_end(stores):
    put(stores, bars(range(67)))
    live = at(stores, OPEN + 67 * MINUTE)
    written = derive_bars(live, M1, span(range(67)))
    counts = {target.name: result.inserted for target, result in written.items()}
    assert counts == {"5m": 13, "10m": 6, "15m": 4, "30m": 2, "1h": 1, "4h": 0, "1d": 0}
    put(stores, bars(range(67, 70)))
    live = at(stores, OPEN + 70 * MINUTE)
    counts = {t.name: r.inserted for t, r in derive_bars(live, M1, span(range(67, 70))).items()}
    assert counts == {"5m": 1, "10m": 1, "15m": 0, "30m": 0, "1h": 0, "4h": 0, "1d": 0}
    assert (
        stored(stores, M5)
        .select(VALUES)
        .equals(expected(stores, M5, OPEN + 70 * MINUTE).select(VALUES))
    )


def test_a_correction_revises_the_touched_buckets_and_every_version_stays_readable(stores):
    put(stores, bars(range(210)))
    derive_bars(stores, M1)
    first = {target: stored(stores, target) for target in (M5, H1, D1)}
    for number in range(3):
        seen = CLOSE + (number + 1) * 60 * MINUTE
        put(stores, bars([61], close=150.0 + number, known=seen))
        revised = derive_bars(at(stores, seen), M1, span([61]))
        assert {result.revised for result in revised.values()} == {1}
        assert {result.inserted for result in revised.values()} == {0}
    for target, before in first.items():
        assert stored(stores, target, CLOSE + 59 * MINUTE).equals(before)
        assert stored(stores, target, is_first_version=True).equals(before)
        for number in range(3):
            then = stored(stores, target, CLOSE + (number + 1) * 60 * MINUTE)
            assert then["high"].max() == 151.0 + number
            assert then["known_at"].max() == CLOSE + (number + 1) * 60 * MINUTE


def test_a_healed_gap_revises_what_was_made_without_it_and_adds_what_was_missing(stores):
    put(stores, bars([*range(62), *range(68, 210)]))
    derive_bars(stores, M1)
    gappy = stored(stores, M5)
    healed_at = CLOSE + 90 * MINUTE
    put(stores, bars(range(62, 68), known=healed_at))
    written = derive_bars(at(stores, healed_at), M1, span(range(62, 68)))
    assert (written[M5].inserted, written[M5].revised) == (0, 2)
    assert (written[H1].inserted, written[H1].revised) == (0, 1)
    assert stored(stores, M5, healed_at - MINUTE).equals(gappy)
    whole = bars(range(210))
    now = resample(whole, M1, M5, {"AAPL": trading_calendar("XNYS")}, as_of=healed_at)
    assert stored(stores, M5).select(VALUES).equals(now.select(VALUES))


@pytest.mark.parametrize("seed", range(2))
def test_at_any_instant_the_coarser_bars_are_what_the_finer_ones_made_then(stores, seed):
    rng = np.random.default_rng(seed)
    now, known = OPEN + 400 * MINUTE, set()
    events = []
    for number in range(7):
        minutes = np.sort(rng.choice(210, 40 if number else 120, replace=False)).tolist()
        fresh = [minute for minute in minutes if not number or minute not in known]
        again = [minute for minute in minutes if number and minute in known]
        known |= set(fresh)
        put(stores, bars(fresh, known=now if number else None))
        put(stores, bars(again, close=float(rng.integers(200, 300)), known=now))
        if rng.random() < 0.6:  # not after every write
            derive_bars(at(stores, now), M1, span(minutes), delay=NEVER)
        events.append(now)
        now += int(rng.integers(1, 90)) * MINUTE
    derive_bars(at(stores, now), M1, span(range(210)), delay=NEVER)
    instants = [OPEN + minute * MINUTE for minute in range(0, 240, 31)]
    for as_of in [*instants, *events, *(event - MINUTE for event in events)]:
        for target in (M5, M15, H4, D1):
            told = stored(stores, target, as_of).select(VALUES)
            assert told.equals(expected(stores, target, as_of).select(VALUES)), (as_of, target)


def test_a_bar_that_a_vendor_delivered_is_left_alone(stores):
    own = bars([5], step=5, close=500.0, source="vendor")
    put(stores, own, M5)
    put(stores, bars(range(20)))
    derive_bars(stores, M1, span(range(20)), targets=[M5])
    put(stores, bars([6], close=90.0, known=CLOSE))
    derive_bars(stores, M1, span([6]), targets=[M5])
    kept = stored(stores, M5)
    assert kept.filter(pl.col("source") == "vendor").equals(own)
    assert kept["source"].to_list() == ["alpha@1m", "vendor", "alpha@1m", "alpha@1m"]


def test_what_finer_bars_made_is_not_replaced_by_what_coarser_ones_make(stores):
    put(stores, bars(range(15)))
    derive_bars(stores, M1, targets=[M15])
    put(stores, bars([0, 5, 10, 15, 20, 25], step=5, close=70.0, known=CLOSE), M5)
    derive_bars(stores, M5, targets=[M15])
    assert stored(stores, M15)["source"].to_list() == ["alpha@1m", "alpha@5m"]


def test_simulated_components_are_recognised_in_what_is_made_of_them(stores):
    put(stores, bars([0, 1, 3, 4]))
    put(stores, bars([2], source="synthetic"))
    put(stores, bars(range(5, 10), source="synthetic"))
    put(stores, bars(range(10, 15)))
    derive_bars(stores, M1, targets=[M5])
    made = stored(stores, M5)
    assert made["source"].to_list() == ["simulated@1m", "synthetic@1m", "alpha@1m"]
    assert made.select(is_simulated(pl.col("source"))).to_series().to_list() == [True, True, False]


def test_a_bucket_whose_last_minutes_had_no_trade_waits_for_them_before_it_is_stored(stores):
    put(stores, bars([0, 1, 2]))
    for delay, n_stored in ((0, 0), (5, 0), (19, 0), (20, 1)):
        live = at(stores, OPEN + (5 + delay) * MINUTE)
        derive_bars(live, M1, targets=[M5], delay=20 * MINUTE)
        assert len(stored(stores, M5)) == n_stored
    assert stored(stores, M5)["known_at"].item() == OPEN + 25 * MINUTE


def test_symbols_of_several_calendars_go_together(stores):
    midnight = datetime(2020, 11, 27, tzinfo=UTC)
    put(stores, bars(range(60)))
    put(stores, bars(range(0, 300, 3), symbol="BTC-USD", start=midnight))
    spans = pl.concat([span(range(60)), span(range(300), "BTC-USD", midnight)])
    derive_bars(stores, M1, spans, targets=[H1, H4])
    hours = stored(stores, H1)
    assert hours.group_by("symbol", maintain_order=True).len().rows() == [
        ("AAPL", 1),
        ("BTC-USD", 5),
    ]
    assert stored(stores, H4)["ts"].to_list() == [midnight, midnight + 240 * MINUTE]


def test_bars_outside_the_session_make_no_coarser_bar(stores):
    put(stores, bars(range(-30, 0)))
    written = derive_bars(stores, M1, span(range(-30, 0)))
    assert {result.inserted for result in written.values()} == {0}
    assert derive_bars(stores, M1, span(range(-30, 0)), targets=[D1])[D1].inserted == 0


def test_what_a_stored_result_was_made_of_is_not_added_to_afterwards(stores):
    put(stores, bars(range(10)))
    live = at(stores, OPEN + 30 * MINUTE)
    pin(
        stores.database,
        M5,
        [symbol.ticker for symbol in read_symbols(stores.database)],
        OPEN + 20 * MINUTE,
    )
    derive_bars(live, M1, targets=[M5])
    assert stored(stores, M5, OPEN + 20 * MINUTE).is_empty()
    assert stored(stores, M5, OPEN + 30 * MINUTE)["ts"].to_list() == [OPEN, OPEN + 5 * MINUTE]


def test_an_interrupted_derivation_is_made_good_from_where_it_stopped(stores):
    put(stores, bars(range(50)))
    derive_bars(at(stores, OPEN + 51 * MINUTE), M1, targets=[M5])
    put(stores, bars(range(50, 210)))
    derive_bars(stores, M1)
    for target in (M5, H1, D1):
        assert (
            stored(stores, target)
            .select(VALUES)
            .equals(expected(stores, target, CLOSE).select(VALUES))
        )


def test_the_forming_bar_is_made_of_the_finest_bars_there_are(stores):
    put(stores, bars(range(64)))
    put(stores, bars([60], step=5, close=900.0), M5)
    midnight = datetime(2020, 11, 27, tzinfo=UTC)
    coarse = bars([840, 870], symbol="BTC-USD", step=30, start=midnight)
    put(stores, coarse, Timeframe.parse("30m"))
    live = at(stores, OPEN + 66 * MINUTE)
    forming = open_bars(live, H1, ["AAPL", "BTC-USD"])
    assert forming.select("symbol", "ts", "source").rows() == [
        ("AAPL", OPEN + 60 * MINUTE, "alpha@1m"),
    ]
    assert forming["high"].item() == 1 + max(100 + minute % 7 for minute in range(60, 64))
    earlier = open_bars(live, H1, ["AAPL", "BTC-USD"], as_of=OPEN + 20 * MINUTE)
    assert earlier.select("symbol", "ts", "source").rows() == [
        ("AAPL", OPEN, "alpha@1m"),
        ("BTC-USD", midnight + 840 * MINUTE, "alpha@30m"),
    ]
    assert earlier["known_at"].max() == OPEN + 20 * MINUTE
    assert stored(stores, H1).is_empty()


def test_nothing_forms_while_the_market_is_closed(stores):
    put(stores, bars(range(210)))
    closed = at(stores, CLOSE + 30 * MINUTE)
    assert open_bars(closed, D1, ["AAPL"]).is_empty()
    assert len(open_bars(at(stores, CLOSE - MINUTE), D1, ["AAPL"])) == 1


def test_the_finest_timeframe_of_each_symbol_is_told(stores):
    put(stores, bars(range(3)))
    put(stores, bars([0, 1440], symbol="BTC-USD", step=1440), D1)
    put(stores, bars([0], step=1440, start=datetime(2020, 11, 27, tzinfo=UTC)), D1)
    assert finest_timeframes(stores) == {"AAPL": M1, "BTC-USD": D1}
    assert finest_timeframes(stores, ["BTC-USD"]) == {"BTC-USD": D1}


def test_what_cannot_be_made_is_refused(stores):
    with pytest.raises(InvalidSpec, match="5m"):
        derive_bars(stores, H1, targets=[M5])
    with pytest.raises(NotFound, match="AAPL"):
        derive_bars(stores, M1, span([0], "AAPLE"))
    with pytest.raises(NotFound, match="AAPL"):
        open_bars(stores, M5, ["AAPLE"])
