"""The newest bars of a long history are drawn as the whole of it says, and read without it."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.api.app import create_app
from candlecast.api.chart import rebased
from candlecast.domain.frames import ACTIONS, BARS, INSTANT
from candlecast.domain.market import FixedClock, Symbol, Timeframe, trading_calendar
from candlecast.domain.prices import factored_bars
from candlecast.store.bars import write_bars
from candlecast.store.facts import read_facts, write_facts
from candlecast.store.mirror import Mirror
from candlecast.store.symbols import write_symbols
from served import asking, open_at

MINUTE = Timeframe.parse("1m")
N_BARS = 20_000
START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + timedelta(minutes=N_BARS)
ALWAYS = trading_calendar("24/7")
SPLIT_AT = START + timedelta(days=12)
# Which of the bars their source gave adjusted closes for.
GIVEN = {
    "RAW": np.zeros(N_BARS, dtype=bool),
    "GIVEN": np.ones(N_BARS, dtype=bool),
    "EARLY": np.arange(N_BARS) < 9_000,
    "LATE": np.arange(N_BARS) >= N_BARS - 500,
    "ODD": np.arange(N_BARS) % 700 == 0,
}
SPARSE = "SPARSE"


def bars_of(ticker, given, step=1):
    ts = pl.datetime_range(START, END, "1m", closed="left", eager=True, time_zone="UTC")
    close = 100 * np.exp(np.cumsum(np.random.default_rng(3).standard_normal(N_BARS) * 1e-3))
    factor = np.linspace(0.25, 0.5, N_BARS)
    frame = pl.DataFrame(
        {
            "symbol": [ticker] * N_BARS,
            "ts": ts.cast(INSTANT),
            **dict.fromkeys(("open", "high", "low", "close"), close),
            "volume": np.full(N_BARS, 10.0),
            "adj_close": pl.Series(np.where(given, close * factor, np.nan)).fill_nan(None),
            "source": ["test"] * N_BARS,
            "known_at": ts.cast(INSTANT) + timedelta(minutes=1),
        }
    )
    return BARS.conform(frame.gather_every(step))


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    opened = open_at(tmp_path_factory.mktemp("chart"), FixedClock(END))
    tickers = sorted([*GIVEN, SPARSE])
    write_symbols(opened.database, [Symbol(ticker, "crypto", "24/7") for ticker in tickers])
    parts = {ticker: bars_of(ticker, given) for ticker, given in GIVEN.items()}
    parts[SPARSE] = bars_of(SPARSE, GIVEN["RAW"], step=97)
    write_bars(opened.database, MINUTE, pl.concat(parts[ticker] for ticker in tickers))
    acted = [
        {"symbol": ticker, "ex_date": day, "kind": kind, "value": value, "source": "test"}
        for ticker in tickers
        for day, kind, value in (
            (START + timedelta(days=4), "split", 3.0),
            (SPLIT_AT, "dividend", 7.0),
            (SPLIT_AT, "split", 2.0),
        )
    ]
    rows = pl.DataFrame(acted).with_columns(known_at="ex_date")
    write_facts(opened.database, ACTIONS, ACTIONS.conform(rows))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(stores):
    with asking(create_app(stores)) as opened:
        yield opened


@pytest.fixture
def n_read(monkeypatch):
    """How many rows each read of the mirror gave."""
    counts = []
    read = Mirror.read

    def counted(self, *arguments, **options):
        frame = read(self, *arguments, **options)
        counts.append(len(frame))
        return frame

    monkeypatch.setattr(Mirror, "read", counted)
    return counts


def whole(stores, ticker):
    bars = stores.mirror.read(MINUTE, symbols=[ticker], as_of=END)
    actions = read_facts(stores.database, ACTIONS, as_of=END, symbols=[ticker])
    return factored_bars(bars, MINUTE, {ticker: ALWAYS}, actions=actions)


@pytest.mark.parametrize("limit", [1, 10, 600, 5000])
@pytest.mark.parametrize("ticker", [*GIVEN, SPARSE])
def test_the_newest_bars_are_those_of_the_whole_history(stores, client, ticker, limit):
    answer = client.get(f"/api/v1/chart/{ticker}?timeframe=1m&limit={limit}")
    drawn = pl.DataFrame(answer.json()["bars"])
    expected = rebased(whole(stores, ticker).tail(limit))
    assert drawn["time"].to_list() == expected["time"].to_list()
    for name in ("open", "high", "low", "close", "volume"):
        np.testing.assert_allclose(drawn[name], expected[name], rtol=1e-12)


@pytest.mark.parametrize("ticker", ["RAW", "GIVEN", "EARLY", SPARSE])
def test_a_few_bars_are_read_of_many(client, n_read, ticker):
    answer = client.get(f"/api/v1/chart/{ticker}?timeframe=1m&limit=10")
    assert len(answer.json()["bars"]) == 10
    assert 10 <= max(n_read) <= 50


def test_a_symbol_without_bars_has_an_empty_chart(stores, client):
    write_symbols(stores.database, [Symbol("SILENT", "crypto", "24/7")])
    assert client.get("/api/v1/chart/SILENT?timeframe=1m").json()["bars"] == []


def test_bars_that_are_not_known_yet_are_not_counted(stores):
    earlier = open_at(stores.mirror._folder.parent, FixedClock(SPLIT_AT))
    try:
        with asking(create_app(earlier)) as client:
            answer = client.get("/api/v1/chart/RAW?timeframe=1m&limit=5").json()["bars"]
    finally:
        earlier.close()
    last = int((SPLIT_AT - timedelta(minutes=1)).timestamp())
    assert [bar["time"] for bar in answer] == [last - 60 * back for back in (4, 3, 2, 1, 0)]
