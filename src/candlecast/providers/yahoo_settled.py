"""Which of Yahoo's bars cannot change any more, and how far an answer's silence is believed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl

from candlecast.domain.market import Timeframe, TradingCalendar, trading_calendar
from candlecast.domain.sources import Span
from candlecast.errors import NotFound
from candlecast.providers.rows import closed_bars
from candlecast.providers.sifting import Sifted, sift
from candlecast.providers.spans import Question, places, published_until
from candlecast.providers.yahoo_chart import PRICES, Chart, as_traded, local_midnights

SOURCE: Final = "yahoo"
DELAY_SECONDS: Final = 900.0
"""Yahoo tells some exchanges at once, others such as B3 a quarter of an hour late."""
FIRST_DAY: Final = datetime(1927, 1, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
MARGIN: Final = timedelta(hours=1)
"""How far within Yahoo's limit a span begins, for time passes until it is looked at."""
SILENT_SESSIONS: Final = 5
"""For how many ended sessions in a row the daily chart may lack rows of a symbol that lives."""
LOOK_BACK: Final = timedelta(days=21)
"""How far before a span the daily chart is read, so that silence shows in short spans too: more
than `SILENT_SESSIONS` sessions of any market, holidays included."""


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


@dataclass(frozen=True)
class YahooQuestion(Question):
    """The same, with what Yahoo makes of it."""

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


@dataclass(frozen=True, eq=False)
class Answered:
    """The settled bars of one symbol, which had ended by `until`, and the span they answer.

    `doubts` say why the span ends before what was asked for, where Yahoo's silence is not
    believed.
    """

    part: Sifted
    span: Span | None
    until: datetime
    doubts: tuple[str, ...] = ()


def settled(
    asked: YahooQuestion, start: datetime | None, rows: pl.DataFrame, day: Chart
) -> Answered:
    """The bars in a chart's `rows` that cannot change any more in the normal course.

    `day` is the daily chart from `LOOK_BACK` before `start` to now. NotFound: the bars do not
    begin where those of the symbol's calendar do.
    """
    calendar = trading_calendar(asked.symbol.calendar)
    is_daily = asked.timeframe.is_daily
    rows = rows.with_columns(ts=local_midnights(rows["at"], day.zone) if is_daily else "at")
    priced, waiting = _priced(rows, is_daily=is_daily)
    kept = priced if is_daily else priced.filter(_on_grid(asked, priced["at"], calendar))
    kept = as_traded(
        kept.unique("ts", keep="first", maintain_order=True),
        day.splits,
        day.zone,
        is_crypto=asked.symbol.asset_class == "crypto",
    ).with_columns(symbol=pl.lit(asked.symbol.ticker), source=pl.lit(SOURCE))
    part = sift(kept if start is None else kept.filter(pl.col("ts") >= start))
    bars = closed_bars(part.bars, asked.timeframe, calendar, asked.until)
    end = min(asked.end, published_until(asked.until, asked.timeframe, calendar), *waiting)
    first = start or bars["ts"].min()
    doubts = [_vanished(asked, first, day, calendar)]
    if not is_daily and isinstance(first, datetime):
        doubts.append(_unanswered(asked, (first, end), kept["ts"], day, calendar))
    told = [doubt for doubt in doubts if doubt is not None and doubt[0] < end]
    span = as_span(first, min([end, *(at for at, _ in told)]))
    return Answered(replace(part, bars=bars), span, asked.until, tuple(why for _, why in told))


def as_span(start: Any, end: datetime) -> Span | None:
    """From `start` to `end`; None where there is nothing between them."""
    return (start, end) if start is not None and start < end else None


def _priced(rows: pl.DataFrame, *, is_daily: bool) -> tuple[pl.DataFrame, list[datetime]]:
    # The rows with prices, each time once, and when the bars begin that are still to come.
    priced = rows.drop_nulls(PRICES).sort("at", maintain_order=True)
    newest = priced["at"].max() if len(priced) else FIRST_DAY
    waiting = rows.filter(pl.col("at") > newest)["ts"].to_list()
    # Of a row that is told twice the later one corrects the first.
    priced = priced.unique("at", keep="last", maintain_order=True)
    if is_daily and (twice := priced.tail(2)["ts"]).n_unique() < len(twice):
        waiting.append(twice[0])  # the day's bar and its last trade apart: not put together yet
        priced = priced.filter(pl.col("ts") != twice[0])
    return priced, waiting


def _on_grid(asked: YahooQuestion, at: pl.Series, calendar: TradingCalendar) -> pl.Series:
    # Rows where a bar begins. Outside the sessions there are none; within, only the newest row
    # may stand elsewhere, at the time of the last trade.
    is_within, is_begin = places(at, asked.timeframe, calendar)
    if np.any((is_within & ~is_begin)[:-1]):
        raise NotFound(
            f"Yahoo's {asked.timeframe} bars of {asked.name} do not begin where sessions of "
            f"{asked.symbol.calendar} do; correct the symbol's calendar, or ask for 1d"
        )
    return pl.Series(is_begin)


def _vanished(
    asked: YahooQuestion, start: Any, day: Chart, calendar: TradingCalendar
) -> tuple[datetime, str] | None:
    # Where the symbol's bars end, and the reason, if it has been silent for too long up to now.
    days = _days(day, day.rows.drop_nulls(PRICES)["at"])
    since = days.max() if len(days) else _naive((start or FIRST_DAY) - LOOK_BACK)
    has_ended = calendar.closes <= _naive(asked.until)
    if np.count_nonzero(has_ended & (calendar.sessions > since)) <= SILENT_SESSIONS:
        return None
    last = int(np.searchsorted(calendar.sessions, since, side="right")) - 1
    is_close = not asked.timeframe.is_daily and last >= 0
    end = calendar.closes[last] if is_close else since + np.timedelta64(1, "D")
    shown = since.astype("datetime64[D]")
    why = f"Yahoo has no bars of {asked.name} since {shown}; delisted or renamed? check the ticker"
    return _aware(end), f"{why}, or use another provider"


def _unanswered(
    asked: YahooQuestion, span: Span, ts: pl.Series, day: Chart, calendar: TradingCalendar
) -> tuple[datetime, str] | None:
    # The open of the first whole session without a bar on which the day's bar shows a volume.
    busy = _days(day, day.rows.filter(pl.col("volume") > 0)["at"])
    begun = np.searchsorted(calendar.opens, ts.dt.replace_time_zone(None).to_numpy(), side="right")
    is_whole = (calendar.opens >= _naive(span[0])) & (calendar.closes <= _naive(span[1]))
    is_silent = is_whole & np.isin(calendar.sessions, busy)
    is_silent[np.unique(begun) - 1] = False
    if not is_silent.any():
        return None
    first = int(np.argmax(is_silent))
    return _aware(calendar.opens[first]), (
        f"Yahoo has no {asked.timeframe} bars of {asked.name} on {calendar.sessions[first]}, when "
        "its day shows a volume; ask again later, or use another provider"
    )


def _days(day: Chart, at: pl.Series) -> Any:
    return local_midnights(at, day.zone).dt.replace_time_zone(None).to_numpy().astype("M8[D]")


def _naive(instant: datetime) -> np.datetime64:
    return np.datetime64(instant.astimezone(UTC).replace(tzinfo=None), "us")


def _aware(instant: Any) -> datetime:
    naive: datetime = instant.astype("M8[us]").astype(datetime)
    return naive.replace(tzinfo=UTC)
