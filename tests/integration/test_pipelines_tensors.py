"""Stored bars of several timeframes become windows, the same in training as when they are used."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.facts import Facts
from candlecast.domain.frames import BARS, NEWS
from candlecast.domain.market import Symbol, Timeframe
from candlecast.domain.specs import TensorSpec
from candlecast.errors import InvalidSpec, NotEnoughHistory, NotFound
from candlecast.features.compute import Plan
from candlecast.pipelines import tensors as tensors_module
from candlecast.pipelines.score import read_known_facts
from candlecast.pipelines.tensors import make_windows, newest_windows
from candlecast.store.bars import write_bars, write_symbols
from candlecast.store.facts import write_facts
from pipeline_rows import at, opened
from tensor_markets import TRADED, bar_opens, bars_at, keys_at, utc

TIMEFRAMES = ("1h", "4h", "1d")
FEATURES = ("return_1", "rsi_14", "day_of_week")
SPEC = TensorSpec(TIMEFRAMES, FEATURES, n_steps=12)
NOW = datetime(2022, 6, 1, 12, 30, tzinfo=UTC)
N_SESSIONS = {"1h": 150, "4h": 300, "1d": 500}
LAST_SESSION = utc(2022, 5, 31)


def bars_of(ticker, name, seed):
    timeframe = Timeframe.parse(name)
    days = N_SESSIONS[name] * (1 if TRADED[ticker] == "24/7" else 365 / 252)
    first = LAST_SESSION - timedelta(days=int(days))
    opens = bar_opens(timeframe, TRADED[ticker], first, N_SESSIONS[name] + 5)
    bars = bars_at(np.random.default_rng(seed), ticker, timeframe, opens)
    return bars.filter(pl.col("known_at") <= NOW - timedelta(hours=1))


BARS_OF = {
    (ticker, name): bars_of(ticker, name, seed)
    for seed, (ticker, name) in enumerate((t, n) for t in TRADED for n in TIMEFRAMES)
}


def put(stores, *, without=()):
    write_symbols(stores.database, [Symbol(t, calendar=c) for t, c in TRADED.items()])
    for (ticker, name), bars in BARS_OF.items():
        if (ticker, name) not in without:
            write_bars(stores.database, Timeframe.parse(name), bars)


@pytest.fixture
def stores(tmp_path):
    with opened(f"sqlite:///{tmp_path}/bars.db", tmp_path, NOW) as found:
        put(found)
        yield found


def everything(windows):
    return windows.take(np.arange(len(windows)))


def test_there_is_a_row_for_each_bar_of_the_finest_timeframe(stores):
    run = make_windows(stores, SPEC)
    assert run.failures == {}
    assert run.as_of == max(bars["known_at"].max() for bars in BARS_OF.values())
    n_hours = sum(len(bars) for (_, name), bars in BARS_OF.items() if name == "1h")
    assert len(run.windows) == n_hours
    last = run.windows.take(np.arange(n_hours - 3, n_hours))
    assert last.values.shape == (3, 12, 3, 3)
    assert last.mask.all()
    assert np.isfinite(last.values).all()


def test_what_is_read_for_now_is_what_training_sees_of_that_instant(stores, monkeypatch):
    expected = make_windows(stores, SPEC)
    n_computed, compute = [], tensors_module.compute

    def counted(prices, *given):
        n_computed.append(len(prices))
        return compute(prices, *given)

    monkeypatch.setattr(tensors_module, "compute", counted)
    run = newest_windows(stores, SPEC)
    needed = SPEC.n_steps - 1 + Plan.of(FEATURES).window_bars
    assert max(n_computed) == len(TRADED) * needed
    assert run.windows.keys["symbol"].to_list() == sorted(TRADED)
    assert run.windows.keys["as_of"].unique().to_list() == [NOW]
    live, trained = everything(run.windows), everything(expected.windows.at(run.windows.keys))
    assert live.mask.all()
    np.testing.assert_array_equal(live.mask, trained.mask)
    np.testing.assert_allclose(live.values, trained.values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(live.age_bars, trained.age_bars)
    n_kept = [len(line.as_of) for line in run.windows.timelines]
    assert n_kept == [len(TRADED) * SPEC.n_steps] * 3


def test_the_windows_of_an_earlier_instant_are_those_that_were_seen_then(stores):
    then = NOW - timedelta(days=9, hours=3)
    known = at(stores, then)
    keys = keys_at([(ticker, then) for ticker in sorted(TRADED)])
    expected = everything(make_windows(known, SPEC).windows.at(keys))
    for found in (
        make_windows(stores, SPEC).windows.at(keys),
        make_windows(stores, SPEC, as_of=then).windows.at(keys),
    ):
        np.testing.assert_array_equal(everything(found).values, expected.values)
        np.testing.assert_array_equal(everything(found).mask, expected.mask)
        np.testing.assert_array_equal(everything(found).age_bars, expected.age_bars)
    live = everything(newest_windows(stores, SPEC, as_of=then).windows)
    np.testing.assert_allclose(live.values, expected.values, rtol=1e-5, atol=1e-6)
    assert expected.mask.any()


def test_a_correction_changes_no_window_in_training_or_in_use(stores):
    before = everything(newest_windows(stores, SPEC).windows)
    hour = BARS_OF["BTC", "1h"].tail(3)
    corrected = hour.with_columns(
        *(pl.col(name) * 2 for name in ("open", "high", "low", "close")),
        known_at=pl.lit(NOW - timedelta(minutes=5)),
    )
    write_bars(stores.database, Timeframe.parse("1h"), BARS.conform(corrected))
    np.testing.assert_array_equal(
        everything(newest_windows(stores, SPEC).windows).values, before.values
    )


@pytest.mark.parametrize("chunk", [{"CHUNK_SYMBOLS": 1}, {"CHUNK_BARS": 10}, {"CHUNK_SYMBOLS": 2}])
def test_chunks_of_symbols_yield_what_all_together_do(stores, monkeypatch, chunk):
    expected = make_windows(stores, SPEC)
    (name, size) = next(iter(chunk.items()))
    monkeypatch.setattr(tensors_module, name, size)
    read, read_market = [], tensors_module.read_market

    def noted(stores, timeframe, symbols, *given, **options):
        read.append(symbols)
        return read_market(stores, timeframe, symbols, *given, **options)

    monkeypatch.setattr(tensors_module, "read_market", noted)
    found = make_windows(stores, SPEC)
    assert max(map(len, read)) == {"CHUNK_SYMBOLS": size, "CHUNK_BARS": 1}[name]
    assert found.windows.keys.equals(expected.windows.keys)
    rows = np.arange(0, len(found.windows), 29)
    np.testing.assert_array_equal(
        found.windows.take(rows).values, expected.windows.take(rows).values
    )
    np.testing.assert_array_equal(found.windows.take(rows).mask, expected.windows.take(rows).mask)


def test_symbols_that_are_compared_are_read_together(stores, monkeypatch):
    spec = TensorSpec(("4h", "1d"), ("return_1", "return_rank_21"), n_steps=5)
    expected = make_windows(stores, spec).windows
    monkeypatch.setattr(tensors_module, "CHUNK_SYMBOLS", 1)
    run = newest_windows(stores, spec)
    live, trained = everything(run.windows), everything(expected.at(run.windows.keys))
    np.testing.assert_array_equal(live.mask, trained.mask)
    np.testing.assert_allclose(live.values, trained.values, rtol=1e-5, atol=1e-6)
    assert {*np.unique(live.values[..., 1])} > {0.0}


@pytest.mark.parametrize("ticker", TRADED)
def test_a_symbol_asked_for_alone_is_compared_with_all_the_store_knows(stores, ticker):
    names = ("return_1", "return_rank_21", "market_return_1", "market_beta_126")
    spec = TensorSpec(("4h", "1d"), names, n_steps=5)
    keys = keys_at([(ticker, NOW)])
    expected = everything(make_windows(stores, spec).windows.at(keys))
    assert expected.mask.all()
    assert (expected.values[..., 1] != 0).any()
    newest = newest_windows(stores, spec, (ticker,))
    trained = make_windows(stores, spec, (ticker,))
    assert newest.windows.keys.equals(keys)
    assert {*trained.windows.keys["symbol"]} == {ticker}
    for found in (newest.windows, trained.windows.at(keys)):
        np.testing.assert_array_equal(everything(found).mask, expected.mask)
        np.testing.assert_allclose(everything(found).values, expected.values, rtol=1e-5, atol=1e-6)
        assert all(line.tickers == (ticker,) for line in found.timelines)


def test_who_is_only_compared_with_needs_no_bars_of_each_timeframe(tmp_path):
    spec = TensorSpec(("4h", "1d"), ("return_1", "return_rank_21"), n_steps=5)
    with opened(f"sqlite:///{tmp_path}/bars.db", tmp_path, NOW) as stores:
        put(stores, without={("ZZZ", "4h"), ("BTC", "1d")})
        for make in (make_windows, newest_windows):
            run = make(stores, spec, ("AAA",))
            assert run.failures == {}
            last = run.windows.take(np.array([len(run.windows) - 1]))
            assert {*np.abs(last.values[0, :, 1, 1])} == {0.25}


def test_headlines_of_the_store_are_seen_as_they_were_known(stores):
    names = ("return_1", "news_sentiment_score", "has_news")
    spec = TensorSpec(("4h", "1d"), names, n_steps=5)
    told = [("AAA", 30, "AAA profit soars to a record"), ("ZZZ", 50, "ZZZ files for bankruptcy")]
    for ticker, hours, headline in told:
        at_once = NOW - timedelta(hours=hours)
        stamps = {"published_at": at_once, "known_at": at_once}
        row = {"id": headline, "headline": headline, "symbols": [ticker], "source": "wire"} | stamps
        write_facts(stores.database, NEWS, NEWS.conform(pl.DataFrame([row])))
    facts = read_known_facts(stores, (), NOW)
    score = dict(zip(facts.texts["symbols"].list.first(), facts.texts["score"], strict=True))
    for make in (make_windows, newest_windows):
        windows = make(stores, spec).windows.at(keys_at([("AAA", NOW), ("ZZZ", NOW)]))
        values = everything(windows).values
        np.testing.assert_array_equal(
            values, everything(make(stores, spec, facts=facts).windows.at(windows.keys)).values
        )
        news, is_told = values[:, -1, :, 1], values[..., 2]
        np.testing.assert_allclose(news[0], score["AAA"], atol=1e-4)
        np.testing.assert_allclose(news[1], score["ZZZ"], atol=1e-4)
        assert {*np.unique(is_told)} == {0.0, 1.0}
        without = everything(make(stores, spec, facts=Facts.none()).windows.at(windows.keys))
        assert not without.values[..., 2].any()


def test_a_symbol_without_bars_of_a_timeframe_is_named_and_has_no_row(tmp_path):
    with opened(f"sqlite:///{tmp_path}/bars.db", tmp_path, NOW) as stores:
        put(stores, without={("AAA", "4h"), ("AAA", "1d")})
        for run in (make_windows(stores, SPEC), newest_windows(stores, SPEC)):
            assert {*run.windows.keys["symbol"]} == {"BTC", "ZZZ"}
            assert run.failures == {
                "AAA": "it has no traded 4h, 1d bars known at 2022-06-01 12:30; ingest them or "
                "finer ones, or leave the symbol out"
            }
        with pytest.raises(NotEnoughHistory, match="no 4h bars that were traded are known"):
            make_windows(stores, SPEC, ("AAA",))


def test_symbols_of_which_none_has_all_timeframes_are_refused_with_the_reason(tmp_path):
    with opened(f"sqlite:///{tmp_path}/bars.db", tmp_path, NOW) as stores:
        put(stores, without={("AAA", "4h"), ("ZZZ", "1d")})
        with pytest.raises(NotEnoughHistory, match="AAA: it has no traded 4h bars known at"):
            make_windows(stores, SPEC, ("AAA", "ZZZ"))


def test_a_timeframe_that_nobody_has_names_the_remedy(stores):
    spec = TensorSpec(("15m", "1d"), FEATURES)
    with pytest.raises(NotEnoughHistory, match=r"no 15m bars .*or leave the timeframe out"):
        make_windows(stores, spec)
    with pytest.raises(NotEnoughHistory, match="no 1h bars"):
        make_windows(stores, SPEC, as_of=utc(2001, 1, 1))


def test_an_unknown_symbol_or_feature_names_the_close_ones(stores):
    with pytest.raises(NotFound, match="did you mean BTC"):
        make_windows(stores, SPEC, ("BTX",))
    with pytest.raises(NotFound, match=r"did you mean .*rsi_14"):
        make_windows(stores, TensorSpec(("1d",), ("rsi_41",)))


def test_a_feature_that_no_model_may_see_is_refused(stores):
    with pytest.raises(InvalidSpec, match="no model may see these"):
        make_windows(stores, TensorSpec(("1d",), ("return_1", "close_price")))


def test_units_are_learnt_from_the_training_span_of_stored_bars(stores):
    until = NOW - timedelta(days=40)
    run = make_windows(stores, SPEC)
    normaliser = run.windows.fit_normaliser(until)
    earlier = make_windows(at(stores, until), SPEC).windows.fit_normaliser(until)
    assert normaliser.to_mapping() == earlier.to_mapping()
    rows = np.arange(len(run.windows))[-200:]
    values = run.windows.normalised(normaliser).take(rows)
    assert np.abs(np.median(values.values[values.mask][:, 1])) < 0.5
