"""Can the bars we hold be trusted? Findings in stored bars, or in files that are not stored yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

import polars as pl

from candlecast.domain.adjustment import judged_actions, placed_actions
from candlecast.domain.frames import ACTIONS, BARS, INSTANT, QUARANTINE, UNSTAMPED
from candlecast.domain.market import (
    Clock,
    Symbol,
    Timeframe,
    TradingCalendar,
    trading_calendar,
)
from candlecast.domain.sources import BarSource, Request
from candlecast.errors import InvalidSpec, NotFound
from candlecast.monitoring.quality import FINDINGS, KINDS, check_bars
from candlecast.pipelines.newest import not_before, read_newest
from candlecast.pipelines.universe import instants
from candlecast.store.coverage import merged_spans, read_coverage
from candlecast.store.facts import read_facts
from candlecast.store.quarantine import read_quarantine
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

State: TypeAlias = Literal["good", "look", "bad"]
STATES: Final[dict[str, State]] = {"bad": "bad", "suspect": "look", "note": "good"}
"""What the worst finding of a severity makes of a symbol: what is probably real does no harm."""


@dataclass(frozen=True)
class CheckQuery:
    """Which bars are checked, and what is told of them; None or empty leaves nothing out.

    `start` and `end` are the span whose findings are told: what is usual for a symbol is learned
    from all of its bars up to `end`, or from the newest ones, where `max_bars` is given: those in
    the span before its last bar that holds so many by the calendar, and no more than so many.
    """

    timeframe: str = "1d"
    symbols: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None
    kinds: tuple[str, ...] = ()
    max_bars: int | None = None

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise NotFound.among("kind of finding", kind, KINDS)
        if self.max_bars is not None and self.max_bars < 1:
            raise InvalidSpec(f"max_bars is {self.max_bars}; check at least one bar")


@dataclass(frozen=True, eq=False)
class CheckRun:
    """FINDINGS of all symbols checked, and how many bars of each there were."""

    as_of: datetime
    findings: pl.DataFrame
    n_bars: dict[str, int]
    failures: dict[str, str] = field(default_factory=dict)
    """Files, or symbols, that could not be read at all, with the reason."""

    @property
    def is_bad(self) -> bool:
        """Whether anything was found that cannot be true."""
        return bool((self.findings["severity"] == "bad").any()) or bool(self.failures)

    def counts(self) -> dict[str, dict[str, int]]:
        """How many findings of each kind each symbol has."""
        found: dict[str, dict[str, int]] = {ticker: {} for ticker in self.n_bars}
        for ticker, kind, n in self.findings.group_by("symbol", "kind").len().iter_rows():
            found[ticker][kind] = n
        return {t: {k: found[t][k] for k in KINDS if k in found[t]} for t in sorted(found)}

    def states(self) -> dict[str, State]:
        """good, look or bad: what the worst finding of each symbol says."""
        worst: dict[str, State] = dict.fromkeys(self.n_bars, "good")
        pairs = self.findings.select("symbol", "severity").unique()
        for severity in ("suspect", "bad"):
            named = pairs.filter(pl.col("severity") == severity)["symbol"]
            worst |= dict.fromkeys(named, STATES[severity])
        return {ticker: worst[ticker] for ticker in sorted(worst)}


def check_data(stores: Stores, query: CheckQuery) -> CheckRun:
    """What is wrong, or looks wrong, with stored bars as they are known now.

    NotFound names an unknown symbol or kind. A stored bar that was refused once and has been
    corrected since is a mere note. What was refused before the bars that are looked at, and has a
    time, is left out with the bars of that time.
    """
    timeframe = Timeframe.parse(query.timeframe)
    traded = _chosen(stores, query.symbols)
    now = stores.clock.now()
    as_of = now if query.end is None else min(query.end, now)
    bars, since = read_newest(
        stores, timeframe, traded, max_bars=query.max_bars, end=query.end, as_of=as_of
    )
    # Judged when `end` had come, with what is known now: later corrections count.
    bars = bars.with_columns(known_at=pl.min_horizontal("known_at", pl.lit(as_of)))
    tickers = bars["symbol"].unique().to_list()
    refused = not_before(read_quarantine(stores.database, timeframe, sorted(traded)), since)
    answered = read_coverage(stores.database, timeframe, tickers)
    actions = _known_actions(stores, tickers, as_of)
    calendars = {ticker: trading_calendar(traded[ticker].calendar) for ticker in tickers}
    covered = _covered(answered, refused, timeframe)
    found = check_bars(
        BARS.check(bars), timeframe, calendars, coverage=covered, actions=actions, as_of=as_of
    )
    odd = _impossible_actions(judged_actions(bars, placed_actions(actions, timeframe, calendars)))
    newest = bars.group_by("symbol").agg(newest=pl.col("ts").max())
    found = _still_traded(found, newest, traded)
    found = _merged(pl.concat([found, odd.select(found.columns)]), _quarantined(refused, bars))
    counts = dict(bars.group_by("symbol").len().iter_rows())
    n_bars = {ticker: int(counts.get(ticker, 0)) for ticker in traded}
    return CheckRun(now, _told(found, query), n_bars)


def check_files(source: BarSource, query: CheckQuery, *, calendar: str, clock: Clock) -> CheckRun:
    """The same of bars that a source offers, without storing them.

    Rows that the source refuses are findings; what is due is judged by the newest bar of all.
    """
    timeframe = Timeframe.parse(query.timeframe)
    wanted = tuple(Symbol(ticker, calendar=calendar) for ticker in query.symbols) or None
    fetched = source.fetch_bars(Request(wanted, None, query.end), timeframe, clock)
    market = trading_calendar(calendar)
    bars = _as_if_known(UNSTAMPED.check(fetched.bars), timeframe, market)
    as_of: datetime = bars["known_at"].max() or clock.now()  # type: ignore[assignment]
    calendars = dict.fromkeys(bars["symbol"].unique(), market)
    aside = QUARANTINE.empty() if fetched.quarantined is None else fetched.quarantined
    refused = aside.with_columns(seen_at=pl.lit(as_of).cast(INSTANT))
    covered = _covered(None, refused, timeframe)
    found = check_bars(bars, timeframe, calendars, coverage=covered, as_of=as_of)
    n_bars = dict.fromkeys(refused["symbol"], 0) | dict(bars.group_by("symbol").len().iter_rows())
    told = _told(_merged(found, _quarantined(refused, bars.clear())), query)
    return CheckRun(as_of, told, n_bars, fetched.failures)


def finding_rows(findings: pl.DataFrame) -> list[dict[str, Any]]:
    """FINDINGS as plain values, instants as ISO 8601."""
    return (
        findings.with_columns(pl.col("start", "end").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
        .with_columns(pl.when(pl.col("value").is_finite()).then("value").alias("value"))
        .to_dicts()
    )


def _chosen(stores: Stores, symbols: Sequence[str]) -> dict[str, Symbol]:
    known = {symbol.ticker: symbol for symbol in read_symbols(stores.database)}
    for ticker in symbols:
        if ticker not in known:
            raise NotFound.among("symbol", ticker, known)
    return {ticker: known[ticker] for ticker in symbols} if symbols else known


def _impossible_actions(judged: pl.DataFrame) -> pl.DataFrame:
    # Actions that adjust nothing because they cannot be true; one finding a symbol and day.
    remedy = "; prices are not adjusted for it: correct it at its source and ingest it again"
    return (
        judged.filter(pl.col("reason").is_not_null())
        .group_by("symbol", "ex_date", maintain_order=True)
        .agg(pl.col("value", "reason").first())
        .select(
            "symbol",
            start="ex_date",
            end="ex_date",
            kind=pl.lit("impossible_action"),
            n_bars=pl.lit(1, dtype=pl.Int64),
            value="value",
            severity=pl.lit("bad"),
            message=pl.col("reason") + remedy,
        )
    )


def _known_actions(stores: Stores, tickers: list[str], as_of: datetime) -> pl.DataFrame:
    # What is known today explains a jump of the past, even if it was learned late.
    actions = read_facts(stores.database, ACTIONS, symbols=tickers)
    return actions.with_columns(known_at=pl.min_horizontal("known_at", pl.lit(as_of)))


def _as_if_known(
    bars: pl.DataFrame, timeframe: Timeframe, calendar: TradingCalendar
) -> pl.DataFrame:
    # A file does not say when its bars were known: when they had ended.
    ends = pl.Series(calendar.close_at(instants(bars["ts"]), timeframe), dtype=pl.Datetime("us"))
    by_clock = pl.col("ts") + timedelta(minutes=timeframe.minutes)
    known_at = pl.coalesce(ends.dt.replace_time_zone("UTC"), by_clock)
    return BARS.conform(bars.with_columns(known_at=known_at))


def _still_traded(
    found: pl.DataFrame, newest: pl.DataFrame, traded: Mapping[str, Symbol]
) -> pl.DataFrame:
    # Nothing is due of a symbol that is no longer active.
    gone = [ticker for ticker, symbol in traded.items() if not symbol.is_active]
    is_stale = (
        pl.col("symbol").is_in(gone)
        & (pl.col("kind") == "gap")
        & (pl.col("start") > pl.col("newest"))
    )
    beside = found.join(newest, on="symbol", how="left", maintain_order="left")
    return beside.filter(~is_stale).select(found.columns)


def _covered(
    answered: pl.DataFrame | None, refused: pl.DataFrame, timeframe: Timeframe
) -> pl.DataFrame:
    # A bar that was refused is not missing: it is found as what it is.
    length = timedelta(minutes=timeframe.minutes)
    spans = refused.drop_nulls("ts").select("symbol", start_at="ts", end_at=pl.col("ts") + length)
    both = spans if answered is None else pl.concat([answered, spans])
    return merged_spans(both, ["symbol"])


def _quarantined(refused: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    # Rows that were refused and kept aside; one finding for each symbol and time.
    at = pl.coalesce("ts", "seen_at")
    present = bars.select("symbol", "ts", is_corrected=pl.lit(value=True))
    corrected = pl.col("is_corrected").fill_null(value=False)
    remedy = (
        pl.when(corrected)
        .then(pl.lit("; a correct bar stands there now"))
        .otherwise(pl.lit("; correct it at its source and ingest it again"))
    )
    return (
        refused.join(present, on=["symbol", "ts"], how="left", maintain_order="left")
        .with_columns(
            at=at,
            severity=pl.when(corrected).then(pl.lit("note")).otherwise(pl.lit("bad")),
            said=pl.format("refused at {}: {}", "place", "reason"),
            remedy=remedy,
        )
        .group_by("symbol", "at", maintain_order=True)
        .agg(pl.col("severity").min(), pl.len(), pl.col("said", "remedy").first())
        .select(
            "symbol",
            start="at",
            end="at",
            kind=pl.lit("impossible"),
            n_bars=pl.col("len").cast(pl.Int64),
            value=pl.lit(None, dtype=pl.Float64),
            severity="severity",
            message=pl.col("said") + pl.col("remedy"),
        )
    )


def _merged(found: pl.DataFrame, refused: pl.DataFrame) -> pl.DataFrame:
    both = pl.concat([found, refused.select(found.columns)])
    return FINDINGS.conform(both.unique(FINDINGS.key, keep="first", maintain_order=True))


def _told(findings: pl.DataFrame, query: CheckQuery) -> pl.DataFrame:
    if query.kinds:
        findings = findings.filter(pl.col("kind").is_in(query.kinds))
    if query.start is not None:
        findings = findings.filter(pl.col("end") >= query.start)
    return findings if query.end is None else findings.filter(pl.col("start") <= query.end)
