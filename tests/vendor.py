"""A provider whose truth is known: it answers spans, corrects itself, fails on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from candlecast.domain.frames import UNSTAMPED
from candlecast.domain.market import Clock, Symbol, Timeframe, trading_calendar
from candlecast.domain.sources import Fetched, Request
from candlecast.pipelines.universe import instants

MINUTE = Timeframe.parse("1m")


def true_minutes(
    *tickers: str, start: datetime, n_sessions: int, seed: int = 1, calendar: str = "XNYS"
) -> pl.DataFrame:
    """UNSTAMPED one-minute bars of whole sessions; every ninth minute nothing was traded."""
    market = trading_calendar(calendar)
    first = int(np.searchsorted(market.sessions, np.datetime64(start.replace(tzinfo=None), "D")))
    sessions = range(first, first + n_sessions)
    step = np.timedelta64(1, "m")
    ts = np.concatenate([np.arange(market.opens[i], market.closes[i], step) for i in sessions])
    generator = np.random.default_rng(seed)
    parts = []
    for ticker in sorted(tickers):
        traded = ts[generator.random(len(ts)) > 1 / 9]
        close = 100 * np.exp(np.cumsum(1e-3 * generator.standard_normal(len(traded))))
        stamps = pl.Series(traded.astype("datetime64[us]")).dt.replace_time_zone("UTC")
        values = {"open": close, "high": close * 1.001, "low": close * 0.999, "close": close}
        volume = generator.integers(1, 1000, len(traded)).astype(float)
        parts.append(
            pl.DataFrame({"ts": stamps, **values, "volume": volume}).with_columns(
                symbol=pl.lit(ticker), source=pl.lit("vendor")
            )
        )
    return UNSTAMPED.conform(pl.concat(parts, how="vertical"))


@dataclass
class Vendor:
    """Serves `truth` as far as it has ended; `corrections` are (from when, ticker, ts, close).

    `hidden` bars (ticker, ts, until when) come late; `fault` is called before each answer and
    may raise, or return failures by ticker.
    """

    truth: pl.DataFrame
    calendar: str = "XNYS"
    delay_seconds: float = 0.0
    source: str = "vendor"
    corrections: list[tuple[datetime, str, datetime, float]] = field(default_factory=list)
    hidden: list[tuple[str, datetime, datetime]] = field(default_factory=list)
    fault: Callable[[Request], dict[str, str] | None] | None = None
    requests: list[Request] = field(default_factory=list)

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        """The bars of the span, and what could not be answered."""
        self.requests.append(request)
        failures = (self.fault(request) if self.fault else None) or {}
        now = clock.now()
        published = now - timedelta(seconds=self.delay_seconds)
        assert request.start is not None
        end = min(request.end or now, published.replace(second=0, microsecond=0))
        asked = [t for t in request.tickers or () if t not in failures]
        rows = self.as_seen(now, timeframe).filter(
            pl.col("symbol").is_in(asked), pl.col("ts") >= request.start, pl.col("ts") < end
        )
        spans = dict.fromkeys(asked, (request.start, end))
        return Fetched(rows, failures=failures, covered=spans)

    def as_seen(self, now: datetime, timeframe: Timeframe = MINUTE) -> pl.DataFrame:
        """UNSTAMPED: all that the vendor shows at `now`."""
        closes = trading_calendar(self.calendar).close_at(instants(self.truth["ts"]), timeframe)
        ends = pl.Series(closes).dt.replace_time_zone("UTC")
        shown = self.truth.filter(ends + timedelta(seconds=self.delay_seconds) <= now)
        for ticker, ts, until in self.hidden:
            if now < until:
                shown = shown.filter((pl.col("symbol") != ticker) | (pl.col("ts") != ts))
        for since, ticker, ts, close in self.corrections:
            if since <= now:
                is_it = (pl.col("symbol") == ticker) & (pl.col("ts") == ts)
                close_now = pl.when(is_it).then(pl.lit(close)).otherwise("close")
                shown = shown.with_columns(close=close_now)
        return shown.with_columns(source=pl.lit(self.source))


@dataclass
class Short(Vendor):
    """A vendor whose history begins late, and who says so by what it covers."""

    begins: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        """The bars from `begins` on."""
        fetched = super().fetch_bars(request, timeframe, clock)
        spans = {t: (max(a, self.begins), b) for t, (a, b) in fetched.covered.items()}
        rows = fetched.bars.filter(pl.col("ts") >= self.begins)
        return Fetched(rows, failures=fetched.failures, covered=spans)


@dataclass
class Boasting(Vendor):
    """A vendor that answers more than it was asked, and claims to know the future."""

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        """All bars there are of all symbols."""
        super().fetch_bars(request, timeframe, clock)
        future = clock.now() + timedelta(days=900)
        tickers = self.truth["symbol"].unique().to_list()
        spans = {ticker: (datetime(1999, 1, 1, tzinfo=UTC), future) for ticker in tickers}
        return Fetched(self.as_seen(clock.now(), timeframe), covered=spans)


def symbols(*tickers: str, calendar: str = "XNYS", **fields: object) -> tuple[Symbol, ...]:
    """Symbols of one calendar."""
    return tuple(Symbol(ticker, calendar=calendar, **fields) for ticker in tickers)  # type: ignore[arg-type]
