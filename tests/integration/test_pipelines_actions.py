"""Raw bars and corporate actions, stored: what a model learns from, as of any instant."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from action_frames import DAILY, XNYS
from candlecast.api.app import create_app
from candlecast.domain.frames import ACTIONS
from candlecast.domain.market import Symbol
from candlecast.pipelines.dataset import make_training_set
from candlecast.pipelines.universe import read_market
from candlecast.store.bars import write_bars
from candlecast.store.facts import write_facts
from candlecast.store.symbols import write_symbols
from pipeline_rows import HAR, LATER, at, closing, opened, sample_bars
from price_frames import stamped
from served import asking

SYMBOLS = ("AAPL", "IBM", "MSFT")
ADJUSTED = stamped(sample_bars(*SYMBOLS, n_sessions=900), DAILY, XNYS)
DAYS = ADJUSTED["ts"].unique().sort()
SPLIT_DAY = DAYS[-100]
IBM = pl.col("symbol") == "IBM"
SHARES = pl.when(IBM & (pl.col("ts") >= SPLIT_DAY)).then(4.0).otherwise(1.0)


def split_bars():
    """Raw bars as if IBM had been split 4:1 at SPLIT_DAY."""
    prices = [pl.col(name) / SHARES for name in ("open", "high", "low", "close")]
    raw = pl.lit(None, pl.Float64)
    return ADJUSTED.with_columns(*prices, pl.col("volume") * SHARES, adj_close=raw)


def split(known_at, value=4.0, ticker="IBM"):
    row = {"symbol": ticker, "ex_date": SPLIT_DAY, "kind": "split", "value": value}
    return ACTIONS.conform(pl.DataFrame([row | {"source": "test", "known_at": known_at}]))


def dividends():
    """The dividends that the adjusted closes tell of, for shares as they were then."""
    factor = pl.col("adj_close") / pl.col("close")
    step = (factor.shift() / factor).over("symbol")
    paid = ADJUSTED.with_columns(
        value=(pl.col("close").shift() * (1 - step)).over("symbol") / SHARES
    )
    rows = paid.filter(pl.col("value") > 0.01)
    return ACTIONS.conform(
        rows.select(
            "symbol", "value", "source", ex_date="ts", known_at="ts", kind=pl.lit("dividend")
        )
    )


def fill(stores, bars, *actions):
    write_symbols(stores.database, [Symbol(ticker) for ticker in SYMBOLS])
    write_bars(stores.database, DAILY, bars)
    for action in actions:
        assert write_facts(stores.database, ACTIONS, action) == len(action)


def largest_move(market):
    return market.prices.select(pl.col("close").log().diff().over("symbol").abs().max()).item()


@pytest.fixture
def stores(database_url, tmp_path):
    with opened(database_url, tmp_path) as opened_stores:
        yield opened_stores


def test_raw_bars_and_events_give_the_returns_of_the_adjusted_closes(stores):
    paid = dividends()
    assert paid.group_by("symbol").len().filter(pl.col("len") > 1).height == 3
    fill(stores, split_bars(), paid, split(SPLIT_DAY))
    truth = ADJUSTED.select("symbol", "ts", close="adj_close")
    for is_newest in (False, True):
        prices = read_market(stores, DAILY, (), None, is_newest=is_newest).prices
        found, wanted = (
            frame.select(pl.col("close").log().diff().over("symbol"))["close"].drop_nulls()
            for frame in (prices, truth)
        )
        np.testing.assert_allclose(found, wanted, atol=1e-4)  # the source rounds to cents
        assert prices["known_at"].equals(ADJUSTED["known_at"])


def test_a_split_told_late_is_a_jump_until_then_and_past_reads_stay_as_they_were(stores):
    told_at = closing(DAYS[-98]) + timedelta(hours=2)
    fill(stores, split_bars())
    before = told_at - timedelta(seconds=1)
    unknowing = {is_newest: read(stores, before, is_newest) for is_newest in (False, True)}
    now_unknowing = read(stores, None, True)
    write_facts(stores.database, ACTIONS, split(told_at))
    for is_newest, market in unknowing.items():
        assert largest_move(market) > np.log(3.5)
        again = read(stores, before, is_newest)
        assert again.sha256() == market.sha256()
        assert again.prices.equals(market.prices)
        told = read(stores, told_at, is_newest)
        assert largest_move(told) < 0.2
        assert told.as_of == told_at
    newest = read(stores, None, True)
    assert newest.as_of == now_unknowing.as_of == ADJUSTED["known_at"].max()
    assert newest.sha256() != now_unknowing.sha256()


def read(stores, as_of, is_newest):
    return read_market(stores, DAILY, (), as_of, is_newest=is_newest)


def test_training_learns_no_false_return_and_knows_a_late_split_no_earlier(stores):
    told_at = closing(DAYS[-90]) + timedelta(hours=2)
    fill(stores, split_bars(), split(told_at))
    market = read(stores, None, False)
    training = make_training_set(HAR, market)
    assert np.nanmax(np.abs(training.examples.y)) < 0.5
    assert (training.keys["as_of"] >= training.keys["close_at"]).all()
    # Of the bars between the split and its being told only the newest could be acted on.
    own = training.keys.filter(IBM & (pl.col("ts") >= SPLIT_DAY) & (pl.col("as_of") <= told_at))
    assert own["ts"].to_list() == [DAYS[-90]]
    others = training.keys.filter(~IBM & pl.col("ts").is_between(SPLIT_DAY, DAYS[-90]))
    assert len(others) == 2 * len(DAYS[-100:-89])
    # An outcome that spans the split is no part of anything before the split was told.
    asked = make_training_set(HAR, read(stores, told_at - timedelta(seconds=1), False))
    spans = training.keys["ts"].to_numpy() < np.datetime64(SPLIT_DAY.replace(tzinfo=None))
    is_ibm = (training.keys["symbol"] == "IBM").to_numpy()
    ends = training.end_at[spans & is_ibm]
    is_after = ends >= np.datetime64(closing(SPLIT_DAY).replace(tzinfo=None))
    assert is_after.any()
    assert ends[is_after].min() == np.datetime64(told_at.replace(tzinfo=None))
    assert asked.set_id != training.set_id


def test_a_cancelled_split_is_one_until_it_was_cancelled(stores):
    cancelled_at = LATER - timedelta(days=30)
    fill(stores, split_bars(), split(SPLIT_DAY))
    write_facts(stores.database, ACTIONS, split(cancelled_at, 1.0))
    held = read(stores, cancelled_at - timedelta(seconds=1), True)
    assert largest_move(held) < 0.2
    assert largest_move(read(stores, cancelled_at, True)) > np.log(3.5)


def test_actions_that_touch_no_price_change_no_training_set(stores):
    fill(stores, ADJUSTED)
    before = make_training_set(HAR, read(stores, None, False))
    write_facts(stores.database, ACTIONS, split(LATER - timedelta(days=1)))
    after = make_training_set(HAR, read(stores, None, False))
    assert after.set_id == before.set_id


def test_the_chart_is_drawn_through_a_split_to_the_newest_raw_close(stores):
    fill(stores, split_bars(), split(SPLIT_DAY))
    raw = split_bars().filter(IBM)["close"]
    with asking(create_app(stores)) as client:
        bars = (
            client.get("/api/v1/chart/IBM", params={"limit": 300}).raise_for_status().json()["bars"]
        )
    closes = np.array([bar["close"] for bar in bars])
    assert len(closes) == 300
    assert closes[-1] == raw[-1]
    assert np.abs(np.diff(np.log(closes))).max() < 0.2
    early = at(stores, closing(DAYS[-101]))
    with asking(create_app(early)) as client:
        bars = client.get("/api/v1/chart/IBM").raise_for_status().json()["bars"]
    assert [bar["close"] for bar in bars[-5:]] == raw[-105:-100].to_list()
