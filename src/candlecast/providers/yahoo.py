"""Yahoo Finance through yfinance: raw bars, splits, dividends and last prices, without a key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import numpy as np
import polars as pl

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.frames import ACTIONS, INSTANT, QUARANTINE, QUOTES, UNSTAMPED
from candlecast.domain.market import Clock, Symbol, Timeframe, TradingCalendar, trading_calendar
from candlecast.domain.sources import Fetched, FetchedRows, Request
from candlecast.domain.tickers import vendor_names
from candlecast.errors import InvalidSpec, NotFound
from candlecast.providers.http import Politeness
from candlecast.providers.patience import PATIENT
from candlecast.providers.rows import closed_bars
from candlecast.providers.sifting import Sifted, fetched_of, sift
from candlecast.providers.spans import built_from, places, published_until
from candlecast.providers.yahoo_chart import (
    PRICES,
    ROWS,
    Chart,
    actions_of,
    as_traded,
    local_midnights,
    read_chart,
)
from candlecast.providers.yahoo_client import YahooClient

SOURCE: Final = "yahoo"
DELAY_SECONDS: Final = 900.0
"""Yahoo tells some exchanges at once, others such as B3 a quarter of an hour late."""
FIRST_DAY: Final = datetime(1927, 1, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
MARGIN: Final = timedelta(hours=1)
"""How far within Yahoo's limit a span begins, for time passes until it is looked at."""


@dataclass(frozen=True)
class Limit:
    """Yahoo's name for intraday bars, how far back they go, and how much it gives at once."""

    interval: str
    days_back: int
    days_a_request: int


LIMITS: Final = {
    1: Limit("1m", 30, 7),
    5: Limit("5m", 60, 60),
    15: Limit("15m", 60, 60),
    60: Limit("1h", 730, 730),
}
FINER: Final = {10: 5, 30: 15, 240: 60}
"""What the others are built from; Yahoo's own 30m bars are at times bars of 60m."""
Span: TypeAlias = tuple[datetime, datetime]
NOTHING_ASKED: Final = Sifted(UNSTAMPED.empty(), (), QUARANTINE.empty())


@dataclass(frozen=True)
class Question:
    """Bars of one symbol that open in start <= ts < end, as told at `now`."""

    symbol: Symbol
    name: str
    timeframe: Timeframe
    start: datetime | None
    end: datetime
    now: datetime

    @property
    def native(self) -> Timeframe:
        """The timeframe that Yahoo is asked for."""
        return Timeframe(FINER.get(self.timeframe.minutes, self.timeframe.minutes))

    @property
    def until(self) -> datetime:
        """Bars that had ended by then have been published."""
        return self.now - timedelta(seconds=DELAY_SECONDS)

    @property
    def earliest(self) -> datetime:
        """Where the bars that Yahoo keeps begin."""
        if self.timeframe.is_daily:
            return FIRST_DAY
        return self.now - timedelta(days=LIMITS[self.native.minutes].days_back) + MARGIN


@PROVIDERS.register(SOURCE)
class YahooProvider:
    """Bars, splits, dividends and last prices of Yahoo Finance: worldwide, free, without a key.

    Prices and volumes are those of their day: Yahoo restates the past in today's shares, so every
    question reaches to now for the splits since, and each bar is taken back by them; `adj_close`
    is null, for `fetch_actions` tells what adjusted prices are derived from. Bars of 10m, 30m and
    4h are built from finer ones. Bars before and after the session are left out, and so is the
    newest row as long as its bar may still change. A bar on which Yahoo gives no price is one
    without trade, unless no later bar has one: then it is not there yet.

    Yahoo keeps 1m bars for 30 days, 5m and 15m (so 10m and 30m) for 60, 1h (so 4h) for 730: of a
    longer span what is there is returned, `covered` says from when on, and the symbol stands in
    `failures` with the remedy. Of crypto Yahoo tells the volume in quote currency: it is divided by
    the close. Where a volume before a split is no multiple of its shares, Yahoo has rounded it.

    Parameters
    ----------
    base_url : where to ask instead of Yahoo's own hosts
    politeness : limits of tries and time

    Raises
    ------
    RateLimited, ProviderUnavailable : as told by Yahoo or the network; nothing is returned then.
    InvalidSpec : no symbols are named, or yfinance is not installed.
    """

    delay_seconds = DELAY_SECONDS

    def __init__(
        self, *, base_url: str | None = None, politeness: Politeness | None = None
    ) -> None:
        self._client = YahooClient(base_url, politeness or PATIENT)

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        """Closed bars that open within the request's span; symbols fail one by one."""
        now = clock.now()
        names, failures = _named(request)
        end = min(request.end or now, now)
        covered: dict[str, Span] = {}
        parts = []
        for name, symbol in names.items():
            asked = Question(symbol, name, timeframe, request.start, end, now)
            try:
                part, span = self._answer(asked)
            except NotFound as error:
                failures[symbol.ticker] = str(error)
                continue
            parts.append(part)
            if span is not None:
                covered[symbol.ticker] = span
            if (beyond := _beyond(asked)) is not None:
                failures[symbol.ticker] = beyond
        return fetched_of(parts, request, failures, covered)

    def fetch_actions(self, request: Request, clock: Clock) -> FetchedRows:
        """ACTIONS of kind split and dividend, known from the open of their ex-date on."""
        now = clock.now()
        names, failures = _named(request)
        parts = [ACTIONS.empty()]
        for name, symbol in names.items():
            try:
                chart = self._daily(name, request.start or FIRST_DAY, now)
            except NotFound as error:
                failures[symbol.ticker] = str(error)
                continue
            parts.append(actions_of(chart, symbol.ticker, SOURCE))
        rows = pl.concat(parts)
        is_asked = pl.lit(value=True)
        if request.start is not None:
            is_asked &= pl.col("ex_date") >= request.start
        if request.end is not None:
            is_asked &= pl.col("ex_date") < request.end
        return FetchedRows(ACTIONS.conform(rows.filter(is_asked)), failures)

    def fetch_quotes(self, request: Request, clock: Clock) -> FetchedRows:
        """QUOTES with the last price and its time; Yahoo's chart tells no bid and no offer."""
        now = clock.now()
        names, failures = _named(request)
        rows = []
        for name, symbol in names.items():
            try:
                told = self._daily(name, now - DAY, now).quote
            except NotFound as error:
                failures[symbol.ticker] = str(error)
                continue
            if told is None:
                failures[symbol.ticker] = f"Yahoo tells no last price of {name}; ask again later"
                continue
            rows.append((symbol.ticker, told[0], datetime.fromtimestamp(told[1], UTC)))
        frame = pl.DataFrame(
            rows,
            schema={"symbol": pl.String, "price": pl.Float64, "trade_at": INSTANT},
            orient="row",
        )
        stamped = frame.with_columns(source=pl.lit(SOURCE), known_at=pl.lit(now).cast(INSTANT))
        return FetchedRows(QUOTES.conform(stamped), failures)

    def _answer(self, asked: Question) -> tuple[Sifted, Span | None]:
        if asked.native == asked.timeframe:
            return self._native(asked)
        end = min(asked.end + timedelta(minutes=asked.timeframe.minutes), asked.now)
        part, span = self._native(replace(asked, timeframe=asked.native, end=end))
        if span is None:
            return part, None
        built = built_from(part.bars, asked.native, asked.timeframe, asked.symbol, asked.until)
        known = published_until(span[1], asked.timeframe, trading_calendar(asked.symbol.calendar))
        whole = replace(part, bars=built.filter(pl.col("ts") >= span[0]))
        return whole, _span(span[0], min(asked.end, known))

    def _native(self, asked: Question) -> tuple[Sifted, Span | None]:
        if asked.timeframe.is_daily:
            chart = self._daily(asked.name, asked.start or FIRST_DAY, asked.now)
            return _settled(asked, asked.start, chart.rows, chart)
        limit = LIMITS[asked.timeframe.minutes]
        start = max(asked.start or asked.earliest, asked.earliest)
        if asked.end <= start:
            return NOTHING_ASKED, None
        day = self._daily(asked.name, start, asked.now)
        step = timedelta(days=limit.days_a_request)
        parts = [pl.DataFrame(schema=ROWS)]
        since = start
        while since < asked.end:
            until = min(since + step, asked.end)
            parts.append(self._chart(asked.name, limit.interval, since, until).rows)
            since = until
        return _settled(asked, start, pl.concat(parts), day)

    def _daily(self, name: str, start: datetime, now: datetime) -> Chart:
        # A day more on both sides: dates are those of the exchange.
        return self._chart(name, "1d", start - DAY, now + DAY)

    def _chart(self, name: str, interval: str, start: datetime, end: datetime) -> Chart:
        parameters: dict[str, str | int] = {
            "period1": int(start.timestamp()),
            "period2": int(end.timestamp()),
            "interval": interval,
            "includePrePost": "false",
            "events": "div,splits",
        }
        path = f"/v8/finance/chart/{quote(name)}"
        return self._client.fetch(path, parameters, lambda answer: read_chart(answer, name))


def _named(request: Request) -> tuple[dict[str, Symbol], dict[str, str]]:
    if request.symbols is None:
        raise InvalidSpec("Yahoo has too many symbols to ask for all; name the symbols")
    tickers, failures = vendor_names(SOURCE, request.symbols)
    by_ticker = {symbol.ticker: symbol for symbol in request.symbols}
    return {name: by_ticker[ticker] for name, ticker in tickers.items()}, failures


def _beyond(asked: Question) -> str | None:
    # What to do about the part of the span that Yahoo does not keep.
    if asked.timeframe.is_daily or asked.start is None or asked.start >= asked.earliest:
        return None
    limit = LIMITS[asked.native.minutes]
    return (
        f"Yahoo keeps {limit.interval} bars for {limit.days_back} days, so it has none of "
        f"{asked.name} before {asked.earliest:%Y-%m-%d}; ask for a later span, for 1d bars, or "
        "another provider"
    )


def _settled(
    asked: Question, start: datetime | None, rows: pl.DataFrame, day: Chart
) -> tuple[Sifted, Span | None]:
    # The bars that cannot change any more in the normal course, and the span they answer.
    calendar = trading_calendar(asked.symbol.calendar)
    is_daily = asked.timeframe.is_daily
    rows = rows.with_columns(ts=local_midnights(rows["at"], day.zone) if is_daily else "at")
    priced = rows.drop_nulls(PRICES).sort("at", maintain_order=True)
    newest = priced["at"].max() if len(priced) else FIRST_DAY
    silent = rows.filter(pl.col("at") > newest)["ts"].to_list()
    # Of a row that is told twice the later one corrects the first.
    priced = priced.unique("at", keep="last", maintain_order=True)
    if is_daily and (twice := priced.tail(2)["ts"]).n_unique() < len(twice):
        silent.append(twice[0])  # the day's bar and its last trade apart: not put together yet
        priced = priced.filter(pl.col("ts") != twice[0])
    kept = priced if is_daily else priced.filter(_on_grid(asked, priced["at"], calendar))
    kept = as_traded(
        kept.unique("ts", keep="first", maintain_order=True),
        day.splits,
        day.zone,
        is_crypto=asked.symbol.asset_class == "crypto",
    ).with_columns(symbol=pl.lit(asked.symbol.ticker), source=pl.lit(SOURCE))
    part = sift(kept)
    bars = closed_bars(part.bars, asked.timeframe, calendar, asked.until)
    ends = [asked.end, published_until(asked.until, asked.timeframe, calendar), *silent]
    return replace(part, bars=bars), _span(start or bars["ts"].min(), min(ends))


def _on_grid(asked: Question, at: pl.Series, calendar: TradingCalendar) -> pl.Series:
    # Rows where a bar begins. Outside the sessions there are none; within, only the newest row
    # may stand elsewhere, at the time of the last trade.
    is_within, is_begin = places(at, asked.timeframe, calendar)
    if np.any((is_within & ~is_begin)[:-1]):
        raise NotFound(
            f"Yahoo's {asked.timeframe} bars of {asked.name} do not begin where sessions of "
            f"{asked.symbol.calendar} do; correct the symbol's calendar, or ask for 1d"
        )
    return pl.Series(is_begin)


def _span(start: Any, end: datetime) -> Span | None:
    return (start, end) if start is not None and start < end else None
