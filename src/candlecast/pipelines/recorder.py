"""What a live stream stores: bars as they close, what the feed answers for, quotes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, cast

import polars as pl

from candlecast.domain.bar_builder import MINUTE, RefusedTick
from candlecast.domain.frames import BARS, INSTANT, QUARANTINE, QUOTES, UNSTAMPED
from candlecast.domain.market import Symbol, Timeframe, trading_calendar
from candlecast.domain.sources import FeedBar, Fetched, Quote, Span, Trade, is_simulated
from candlecast.pipelines.inlet import SourcedBar
from candlecast.pipelines.stamping import store_fetched, without_inventions_over
from candlecast.store.bars import BarsWritten, read_bars, write_bars
from candlecast.store.coverage import make_coverage
from candlecast.store.quarantine import write_quarantine
from candlecast.store.quotes import write_quotes
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols, write_symbols

TIMEFRAME: Final = Timeframe(1)
MICROSECOND: Final = timedelta(microseconds=1)


class Recorder:
    """Writes for one stream; a correction is stamped later than what it corrects.

    Parameters
    ----------
    source : the name that bars carry which were built here or come without a source.
    is_covering : whether absent bars were not traded; otherwise nothing is noted about them.
    """

    def __init__(
        self, stores: Stores, symbols: Sequence[Symbol], source: str, *, is_covering: bool
    ) -> None:
        self._stores, self._source, self._is_covering = stores, source, is_covering
        stored = {symbol.ticker for symbol in read_symbols(stores.database)}
        write_symbols(stores.database, [s for s in symbols if s.ticker not in stored])
        self._symbols = {symbol.ticker: symbol for symbol in symbols}
        self._stamped_at = stores.clock.now()
        self._stamped: set[tuple[str, datetime]] = set()

    def write_closed(self, bars: Sequence[FeedBar]) -> tuple[pl.DataFrame, BarsWritten]:
        """Store bars that have closed just now, at once.

        Left out are bars outside their market's sessions, which archives do not tell either, and
        invented ones where a real one is stored.
        """
        now = self._stamp({(bar.symbol, bar.ts) for bar in bars})
        rows = [
            (
                *(bar.symbol, bar.ts, bar.open, bar.high, bar.low, bar.close, bar.volume),
                bar.adj_close if isinstance(bar, SourcedBar) else None,
                *(bar.vwap, bar.trade_count),
                (bar.source if isinstance(bar, SourcedBar) else "") or self._source,
                max(now, bar.ts + MINUTE),  # a vendor whose clock is ahead closes too early
            )
            for bar in bars
        ]
        made = pl.DataFrame(rows, schema=BARS.columns, orient="row")
        frame = BARS.conform(self._within_sessions(made))
        if frame.select(is_simulated(pl.col("source")).any()).item():
            frame = without_inventions_over(frame, self._stores, TIMEFRAME)
        return frame, self._write(frame, {}, now)

    def write_covered(self, covered: Mapping[str, Span]) -> None:
        """Note what the feed has answered for."""
        self._write(BARS.empty(), covered, self._stores.clock.now())

    def _within_sessions(self, bars: pl.DataFrame) -> pl.DataFrame:
        # Bars close together: a look for each time and calendar, not for each bar.
        calendars = {ticker: symbol.calendar for ticker, symbol in self._symbols.items()}
        names = pl.col("symbol").replace_strict(calendars, return_dtype=pl.String)
        named = bars.with_columns(calendar=names)
        closed = [
            (name, ts)
            for name, ts in named.select("calendar", "ts").unique().iter_rows()
            if not trading_calendar(name).is_open(ts)
        ]
        schema: dict[str, Any] = {"calendar": pl.String, "ts": INSTANT}
        away = pl.DataFrame(closed, schema=schema, orient="row")
        return named.join(away, on=["calendar", "ts"], how="anti").drop("calendar")

    def write_healed(self, fetched: Fetched) -> tuple[pl.DataFrame, BarsWritten]:
        """Store bars that were fetched because the feed had not brought them: known from now on."""
        now = self._stamp(set(fetched.bars.select("symbol", "ts").iter_rows()))
        bars = UNSTAMPED.conform(fetched.bars).filter(pl.col("ts") + MINUTE <= now)
        frame = BARS.conform(bars.with_columns(known_at=pl.lit(now).cast(INSTANT)))
        written = self._write(frame, fetched.covered, now)
        if fetched.quarantined is not None:
            write_quarantine(self._stores.database, TIMEFRAME, fetched.quarantined, now)
        return frame, written

    def write_backfilled(
        self, fetched: Fetched, delay_seconds: float
    ) -> tuple[pl.DataFrame, BarsWritten]:
        """Store bars that were fetched when the stream began, stamped as those of an ingest."""
        stored = store_fetched(
            self._stores,
            fetched if self._is_covering else replace(fetched, covered={}),
            make_symbol=self._symbols.__getitem__,
            timeframe=TIMEFRAME,
            delay_seconds=delay_seconds,
            source=self._source,
        )
        if stored.written.inserted + stored.written.revised == 0:
            return BARS.empty(), stored.written
        keys = fetched.bars.select("symbol", "ts")
        first = cast("datetime", keys["ts"].min())
        bars = read_bars(self._stores.database, TIMEFRAME, symbols=stored.symbols, start=first)
        return bars.join(keys, on=["symbol", "ts"], how="semi"), stored.written

    def write_quotes(self, quotes: Mapping[str, Quote], trades: Mapping[str, Trade]) -> None:
        """Store the newest quote and trade of each symbol that had any."""
        rows = []
        for symbol in sorted({*quotes, *trades}):
            quote, trade = quotes.get(symbol), trades.get(symbol)
            row: dict[str, Any] = {"symbol": symbol}
            if quote is not None:
                row |= {"bid": quote.bid, "bid_size": quote.bid_size, "quote_at": quote.at}
                row |= {"ask": quote.ask, "ask_size": quote.ask_size}
            if trade is not None:
                row |= {"price": trade.price, "size": trade.size, "trade_at": trade.at}
            rows.append(row | {"source": self._source, "known_at": self._stores.clock.now()})
        if rows:
            write_quotes(self._stores.database, QUOTES.conform(pl.DataFrame(rows)))

    def write_refused(self, refused: Sequence[RefusedTick]) -> None:
        """Keep bars aside that cannot be true; the newest refusal of each counts."""
        rows: dict[tuple[str, datetime], dict[str, Any]] = {}
        for tick, reason in ((r.tick, r.reason) for r in refused if isinstance(r.tick, FeedBar)):
            assert isinstance(tick, FeedBar)
            rows[tick.symbol, tick.ts] = {
                "symbol": tick.symbol,
                "source": self._source,
                "place": tick.ts.isoformat(),
                "ts": tick.ts,
                "open": tick.open,
                "high": tick.high,
                "low": tick.low,
                "close": tick.close,
                "volume": tick.volume,
                "reason": reason,
            }
        if rows:
            frame = QUARANTINE.conform(pl.DataFrame(list(rows.values())))
            write_quarantine(self._stores.database, TIMEFRAME, frame, self._stores.clock.now())

    def _write(self, bars: pl.DataFrame, covered: Mapping[str, Span], now: datetime) -> BarsWritten:
        answered = covered if self._is_covering else {}
        coverage = make_coverage(answered, self._source, now)
        return write_bars(self._stores.database, TIMEFRAME, bars, coverage)

    def _stamp(self, keys: set[tuple[str, datetime]]) -> datetime:
        # The present; a moment later only where one of these bars was stamped with it before.
        now = max(self._stores.clock.now(), self._stamped_at)
        if now == self._stamped_at and keys & self._stamped:
            now += MICROSECOND
        if now > self._stamped_at:
            self._stamped_at, self._stamped = now, set()
        self._stamped |= keys
        return now
