"""Prices for the tests of everything that reads them: a fair market, and every nasty case."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import strategies as st

from candlecast.domain.frames import BARS
from candlecast.domain.market import Timeframe, TradingCalendar, trading_calendar
from candlecast.domain.prices import make_prices
from candlecast.providers.synthetic import make_market

DAILY = Timeframe.parse("1d")


def stamped(bars: pl.DataFrame, timeframe: Timeframe, calendar: TradingCalendar) -> pl.DataFrame:
    """BARS that were known when they closed."""
    opens = bars["ts"].dt.replace_time_zone(None).to_numpy()
    closes = pl.Series(calendar.close_at(opens, timeframe)).dt.replace_time_zone("UTC")
    return BARS.conform(bars.with_columns(known_at=closes, source=pl.lit("test")))


def daily_bars(*, seed: int = 1, n_symbols: int = 4, n_sessions: int = 520) -> pl.DataFrame:
    """BARS of a market with calm and wild times, in which the symbols are not alike.

    The second starts late, the third is silent for 30 sessions and for 3, the fourth ends early.
    """
    bars = make_market("regimes", seed=seed, n_symbols=n_symbols, n_sessions=n_sessions).bars
    place = pl.int_range(pl.len()).over("symbol")
    number = pl.col("symbol").str.slice(3).cast(pl.Int64) % 4
    is_silent = place.is_between(120, 149) | place.is_between(300, 302)
    is_missing = (
        ((number == 1) & (place < 60))
        | ((number == 2) & is_silent)
        | ((number == 3) & (place >= n_sessions - 7))
    )
    return stamped(bars.filter(~is_missing), DAILY, trading_calendar("XNYS"))


def daily_prices(*, seed: int = 1, n_symbols: int = 4, n_sessions: int = 520) -> pl.DataFrame:
    """PRICES of `daily_bars`."""
    return prices_of(daily_bars(seed=seed, n_symbols=n_symbols, n_sessions=n_sessions))


def prices_of(bars: pl.DataFrame, timeframe: Timeframe = DAILY, name: str = "XNYS") -> pl.DataFrame:
    """PRICES of BARS whose symbols all trade on one calendar."""
    calendar = trading_calendar(name)
    return make_prices(bars, timeframe, dict.fromkeys(bars["symbol"].unique(), calendar))


def nasty_prices(*, n_sessions: int = 520) -> pl.DataFrame:
    """PRICES of symbols that break careless arithmetic, each in its own way."""
    rng = np.random.default_rng(5)
    days = trading_calendar("XNYS").sessions
    days = days[days >= np.datetime64("2010-01-04")][:n_sessions].astype("datetime64[us]")
    walk = 20 * np.exp(np.cumsum(rng.normal(0, 0.02, n_sessions)))
    place = np.arange(n_sessions)
    still = np.where((place > 150) & (place < 300), walk[150], walk)
    volume = np.exp(rng.normal(12, 1, n_sessions))
    closes = {
        "ALL_CONSTANT": np.full(n_sessions, 0.1),
        "CEASED": np.where(place > 350, walk[350], walk),
        "CENT_TICKS": np.round(walk, 1),
        "FROZEN_FOR_LONG": still,
        "HUGE_JUMP": np.where((place > 200) & (place < 220), walk * 1e4, walk),
        "MINUTE_PRICE": walk * 1e-9,
        "NO_RANGE": walk,
        "NO_VOLUME": walk,
        "RISES_ONLY": np.exp(0.01 * place),
        "SHORT_LIFE": walk,
        "VAST_PRICE": walk * 1e9,
        "VOLUME_STOPS": walk,
    }
    volumes = {
        "NO_VOLUME": np.zeros(n_sessions),
        "VOLUME_STOPS": np.where((place > 100) & (place < 330), 0.0, volume * 1e9),
        "MINUTE_PRICE": volume * 1e-6,
        "CEASED": np.where(place > 350, 0.0, volume),
    }
    without_range = {"ALL_CONSTANT", "NO_RANGE", "CEASED", "FROZEN_FOR_LONG"}
    frames = []
    for symbol, close in closes.items():
        wide = 0.0 if symbol in without_range else 1.0
        opens = close * np.exp(wide * rng.normal(0, 0.005, n_sessions))
        frame = pl.DataFrame(
            {
                "symbol": [symbol] * n_sessions,
                "ts": pl.Series(days).dt.replace_time_zone("UTC"),
                "open": opens,
                "high": np.maximum(opens, close)
                * np.exp(wide * rng.exponential(0.005, n_sessions)),
                "low": np.minimum(opens, close)
                * np.exp(-wide * rng.exponential(0.005, n_sessions)),
                "close": close,
                "volume": volumes.get(symbol, volume),
            }
        )
        frames.append(frame.head(30) if symbol == "SHORT_LIFE" else frame)
    return prices_of(stamped(pl.concat(frames), DAILY, trading_calendar("XNYS")))


PIECES = st.tuples(
    st.sampled_from(["walk", "still", "untraded", "without_range", "ticks", "leap", "silence"]),
    st.integers(2, 90),
)
"""What happens to a symbol for some sessions; in a silence there are no bars."""


def drawn_prices(pieces: list[tuple[str, int]], seed: int) -> pl.DataFrame:
    """PRICES of one symbol to which `pieces` happen one after the other, after 70 sessions."""
    rng = np.random.default_rng(seed)
    frames, close, first = [], 50.0, 0
    days = trading_calendar("XNYS").sessions
    days = days[days >= np.datetime64("2010-01-04")].astype("datetime64[us]")
    for kind, n_sessions in [("walk", 70), *pieces]:
        dates = days[first : first + n_sessions]
        first += n_sessions
        if kind != "silence":
            frames.append(_piece(kind, dates, close, rng))
            close = float(frames[-1]["close"][-1])
    return prices_of(stamped(pl.concat(frames), DAILY, trading_calendar("XNYS")))


def _piece(kind: str, dates: np.ndarray, close: float, rng: np.random.Generator) -> pl.DataFrame:
    n_sessions = len(dates)
    closes = close * np.exp(np.cumsum(rng.normal(0, 0.02, n_sessions)))
    closes = {"still": np.full(n_sessions, close), "leap": closes * 30.0}.get(kind, closes)
    wide = 0.0 if kind in ("still", "without_range") else 0.01
    opens = closes * np.exp(wide * rng.normal(0, 0.5, n_sessions))
    high = np.maximum(opens, closes) * np.exp(wide * rng.exponential(0.5, n_sessions))
    low = np.minimum(opens, closes) * np.exp(-wide * rng.exponential(0.5, n_sessions))
    volume = np.exp(rng.normal(10, 1, n_sessions)).round()
    columns = {"open": opens, "high": high, "low": low, "close": closes}
    if kind == "ticks":
        columns = {name: np.maximum(np.round(value, 1), 0.1) for name, value in columns.items()}
    return pl.DataFrame(
        {
            "symbol": ["DRAWN"] * n_sessions,
            "ts": pl.Series(dates).dt.replace_time_zone("UTC"),
            **columns,
            "volume": volume * (kind not in ("untraded", "still")),
        }
    )
