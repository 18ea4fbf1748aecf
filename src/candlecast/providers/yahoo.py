"""Yahoo Finance through yfinance: raw bars, splits, dividends and last prices, without a key."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

import polars as pl

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.frames import ACTIONS, INSTANT, QUARANTINE, QUOTES, UNSTAMPED
from candlecast.domain.market import Clock, Symbol, Timeframe, trading_calendar
from candlecast.domain.sources import Fetched, FetchedRows, Request, Span
from candlecast.domain.tickers import vendor_names
from candlecast.errors import InvalidSpec, NotFound
from candlecast.providers.http import Politeness
from candlecast.providers.patience import PATIENT
from candlecast.providers.sifting import Sifted, fetched_of
from candlecast.providers.spans import built_from, published_until
from candlecast.providers.yahoo_chart import ROWS, Chart, actions_of, read_chart
from candlecast.providers.yahoo_client import YahooClient
from candlecast.providers.yahoo_settled import (
    DAY,
    DELAY_SECONDS,
    FIRST_DAY,
    LIMITS,
    LOOK_BACK,
    SOURCE,
    Answered,
    YahooQuestion,
    as_span,
    settled,
)

NOTHING_ASKED: Final = Sifted(UNSTAMPED.empty(), (), QUARANTINE.empty())


@PROVIDERS.register(SOURCE)
class YahooProvider:
    """Bars, splits, dividends and last prices of Yahoo Finance: worldwide, free, without a key.

    Prices and volumes are those of their day: Yahoo restates the past in today's shares, so every
    question reaches to now for the splits since, and each bar is taken back by them; `adj_close`
    is null, for `fetch_actions` tells what adjusted prices are derived from. Bars of 10m, 30m and
    4h are built from finer ones. Bars before and after the session are left out, and so is the
    newest row as long as its bar may still change. A bar on which Yahoo gives no price is one
    without trade, unless no later bar has one: then it is not there yet. Of our clock and Yahoo's
    the slower one says which bars have ended.

    Silence is believed within bounds. Where the daily chart, which is always asked for up to now,
    has had no row for more than `SILENT_SESSIONS` ended sessions, `covered` ends with the last one
    that it has; where it shows a volume on a session of which there is not one intraday bar,
    `covered` ends before that session. Either way the symbol stands in `failures`, with its bars.

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
            asked = YahooQuestion(symbol, name, timeframe, request.start, end, now)
            try:
                answered = self._answer(asked)
            except NotFound as error:
                failures[symbol.ticker] = str(error)
                continue
            parts.append(answered.part)
            if answered.span is not None:
                covered[symbol.ticker] = answered.span
            if reasons := [*_beyond(asked), *answered.doubts]:
                failures[symbol.ticker] = "; ".join(reasons)
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

    def _answer(self, asked: YahooQuestion) -> Answered:
        if asked.native == asked.timeframe:
            return self._native(asked)
        end = min(asked.end + timedelta(minutes=asked.timeframe.minutes), asked.now)
        finer = self._native(replace(asked, timeframe=asked.native, end=end))
        if finer.span is None:
            return replace(finer, part=replace(finer.part, bars=UNSTAMPED.empty()))
        start, told = finer.span
        bars = built_from(finer.part.bars, asked.native, asked.timeframe, asked.symbol, finer.until)
        whole = replace(finer.part, bars=bars.filter(pl.col("ts") >= start))
        known = published_until(told, asked.timeframe, trading_calendar(asked.symbol.calendar))
        return replace(finer, part=whole, span=as_span(start, min(asked.end, known)))

    def _native(self, asked: YahooQuestion) -> Answered:
        start = asked.start
        if not asked.timeframe.is_daily:
            start = max(start or asked.earliest, asked.earliest)
            if asked.end <= start:
                return Answered(NOTHING_ASKED, None, asked.until)
        day = self._daily(asked.name, (start or FIRST_DAY) - LOOK_BACK, asked.now)
        charts = [day] if start is None or asked.timeframe.is_daily else self._pages(asked, start)
        # Of our clock and Yahoo's the slower one says what has ended.
        clocks = [at for chart in (day, *charts) if (at := chart.answered_at) is not None]
        rows = pl.concat([pl.DataFrame(schema=ROWS), *(chart.rows for chart in charts)])
        return settled(replace(asked, now=min([asked.now, *clocks])), start, rows, day)

    def _pages(self, asked: YahooQuestion, start: datetime) -> list[Chart]:
        limit = LIMITS[asked.timeframe.minutes]
        step = timedelta(days=limit.days_a_request)
        pages = []
        while start < asked.end:
            until = min(start + step, asked.end)
            pages.append(self._chart(asked.name, limit.interval, start, until))
            start = until
        return pages

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
        chart = self._client.fetch(path, parameters, lambda answer: read_chart(answer, name))
        return replace(chart, answered_at=self._client.answered_at)


def _named(request: Request) -> tuple[dict[str, Symbol], dict[str, str]]:
    if request.symbols is None:
        raise InvalidSpec("Yahoo has too many symbols to ask for all; name the symbols")
    tickers, failures = vendor_names(SOURCE, request.symbols)
    by_ticker = {symbol.ticker: symbol for symbol in request.symbols}
    return {name: by_ticker[ticker] for name, ticker in tickers.items()}, failures


def _beyond(asked: YahooQuestion) -> list[str]:
    # What to do about the part of the span that Yahoo does not keep.
    if asked.timeframe.is_daily or asked.start is None or asked.start >= asked.earliest:
        return []
    limit = LIMITS[asked.native.minutes]
    why = (
        f"Yahoo keeps {limit.interval} bars for {limit.days_back} days, so it has none of "
        f"{asked.name} before {asked.earliest:%Y-%m-%d}; ask for a later span, for 1d bars, or "
        "another provider"
    )
    return [why]
