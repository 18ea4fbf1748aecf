"""Invented bars of any symbol: what a chain of providers may end with, if the user says so."""

from __future__ import annotations

import zlib
from datetime import datetime
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.distribution import FloatArray
from candlecast.domain.frames import UNSTAMPED
from candlecast.domain.market import Clock, Symbol, Timeframe, TradingCalendar, trading_calendar
from candlecast.domain.sources import Fetched, Request
from candlecast.errors import InvalidSpec
from candlecast.providers.rows import closed_bars

SOURCE: Final = "simulated"
N_STEPS: Final = 8
"""Steps of the path within a bar, which give it a high and a low."""
NIGHT_SHARE: Final = 0.2
"""Share of a session's variance that falls between two sessions; none where trade never rests."""
MAX_VOLATILITY: Final = 0.5
PRICES: Final = (1e-6, 1e9)
"""With these bounds no walk through a whole calendar leaves the range of a float."""


@PROVIDERS.register(SOURCE)
class SimulatedProvider:
    """Random walks with constant volatility for whatever symbols are asked for.

    Parameters
    ----------
    seed : not negative; the same seed, symbol and timeframe give the same bars for any span
    volatility_daily : standard deviation of a session's log return, at most 0.5
    start_price : of the first session of the calendar

    Notes
    -----
    Nothing can be forecast but the volatility. The bars say so by their source, ``simulated``;
    they are refused as training data unless they are asked for. Bars of different timeframes
    share their sessions' closes, not their paths.

    Raises
    ------
    InvalidSpec : no symbols are named, or a parameter is out of its range.
    """

    delay_seconds = 0.0
    is_simulated = True

    def __init__(
        self, *, seed: int = 7, volatility_daily: float = 0.015, start_price: float = 100.0
    ) -> None:
        if seed < 0:
            raise InvalidSpec(f"seed is {seed}; give a whole number that is not negative")
        if not 0 < volatility_daily <= MAX_VOLATILITY:
            raise InvalidSpec(
                f"volatility_daily is {volatility_daily}; it is above 0 and at most "
                f"{MAX_VOLATILITY:g}"
            )
        if not PRICES[0] <= start_price <= PRICES[1]:
            raise InvalidSpec(
                f"start_price is {start_price}; it lies between {PRICES[0]:g} and {PRICES[1]:g}"
            )
        self.seed = seed
        self.volatility_daily = volatility_daily
        self.start_price = start_price

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        """Closed bars of the symbols within the request's span."""
        if request.symbols is None or request.start is None:
            raise InvalidSpec("say which symbols to simulate, and from when (--symbols, --start)")
        end = min(request.end or clock.now(), clock.now())
        parts = [
            closed_bars(
                self._bars(symbol, timeframe, request.start, end),
                timeframe,
                trading_calendar(symbol.calendar),
                clock.now(),
            )
            for symbol in request.symbols
        ]
        return Fetched(UNSTAMPED.conform(pl.concat([UNSTAMPED.empty(), *parts])))

    def _bars(
        self, symbol: Symbol, timeframe: Timeframe, start: datetime, end: datetime
    ) -> pl.DataFrame:
        calendar = trading_calendar(symbol.calendar)
        low, high = (np.datetime64(i.replace(tzinfo=None), "us") for i in (start, end))
        first = int(np.searchsorted(calendar.closes, low, side="right"))
        opened = (
            calendar.sessions.astype("datetime64[us]") if timeframe.is_daily else calendar.opens
        )
        last = int(np.searchsorted(opened, high, side="left"))
        code = zlib.crc32(symbol.ticker.encode())
        daily = np.random.default_rng([self.seed, code]).standard_normal(len(calendar.sessions))
        closes = np.log(self.start_price) + np.cumsum(self.volatility_daily * daily)
        night = NIGHT_SHARE if calendar.opens[1] > calendar.closes[0] else 0.0
        frames = [
            _frame(
                symbol.ticker,
                _opens(calendar, index, timeframe),
                _path(
                    np.random.default_rng([self.seed, code, timeframe.minutes, index]),
                    (closes[index - 1] if index else closes[0], closes[index]),
                    len(_opens(calendar, index, timeframe)),
                    (self.volatility_daily, night),
                ),
            )
            for index in range(first, last)
        ]
        bars = UNSTAMPED.conform(pl.concat(frames)) if frames else UNSTAMPED.empty()
        return bars.filter(pl.col("ts") >= start, pl.col("ts") < end)


def _opens(calendar: TradingCalendar, index: int, timeframe: Timeframe) -> NDArray[np.datetime64]:
    if timeframe.is_daily:
        return calendar.sessions[index : index + 1].astype("datetime64[us]")
    step = np.timedelta64(timeframe.minutes, "m")
    return np.arange(calendar.opens[index], calendar.closes[index], step)


def _path(
    generator: np.random.Generator,
    ends: tuple[float, float],
    n_bars: int,
    spread: tuple[float, float],
) -> FloatArray:
    # (n_bars, N_STEPS + 1) log prices: a bridge from the opening price to the session's close.
    volatility, night = spread
    opening = ends[0] + np.sqrt(night) * (ends[1] - ends[0])
    n_steps = n_bars * N_STEPS
    steps = generator.standard_normal(n_steps) * volatility * np.sqrt((1 - night) / n_steps)
    walk = np.concatenate([[0.0], np.cumsum(steps)])
    share = np.linspace(0, 1, n_steps + 1)
    line = opening + walk + share * (ends[1] - opening - walk[-1])
    starts = np.arange(n_bars)[:, None] * N_STEPS
    return np.asarray(line[starts + np.arange(N_STEPS + 1)])


def _frame(ticker: str, opens: NDArray[np.datetime64], path: FloatArray) -> pl.DataFrame:
    prices = np.exp(path)
    return pl.DataFrame(
        {
            "symbol": [ticker] * len(opens),
            "ts": pl.Series(opens.astype("datetime64[us]")).dt.replace_time_zone("UTC"),
            "open": prices[:, 0],
            "high": prices.max(axis=1),
            "low": prices.min(axis=1),
            "close": prices[:, -1],
            "volume": np.full(len(opens), 1e6 / len(opens)),
            "source": [SOURCE] * len(opens),
        }
    )
