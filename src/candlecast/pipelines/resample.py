"""Coarser bars derived from stored finer ones, kept up to date, and the bars that still form.

A derived bar's `source` names what it was made of, as in ``alpaca@1m``. It replaces no bar that a
vendor delivered for its timeframe, and none that was made of still finer bars. Each version that
the finer bars had at some time gives the version that the coarser bar had then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain import resample as domain
from candlecast.domain.buckets import check_multiples, coarser_timeframes, find_buckets, is_multiple
from candlecast.domain.frames import BARS, INSTANT
from candlecast.domain.market import MINUTES, Timeframe, TradingCalendar
from candlecast.pipelines.touched import Task, calendars_of, find_tasks, spans_behind
from candlecast.pipelines.universe import instants
from candlecast.store.bars import BarsWritten, read_bars, read_ends, write_bars
from candlecast.store.changes import note_derived, read_underived
from candlecast.store.pins import read_pins
from candlecast.store.stores import Stores

GRACE: Final = timedelta(minutes=1)
"""How long after its end a finer bar of a live feed may still arrive."""
TICK: Final = timedelta(microseconds=1)
KEY: Final = ["minutes", "symbol", "ts"]


def derive_bars(
    stores: Stores,
    timeframe: Timeframe,
    spans: pl.DataFrame | None = None,
    *,
    symbols: Sequence[str] | None = None,
    targets: Iterable[Timeframe] | None = None,
    delay: timedelta = GRACE,
) -> dict[Timeframe, BarsWritten]:
    """Make the coarser bars that have ended of stored bars of `timeframe`, and store them.

    Parameters
    ----------
    spans
        Where bars were written: symbol, start_at, end_at (start_at <= ts < end_at). Every bucket
        they touch is made anew. None: from each symbol's newest coarser bar on.
    symbols
        Whose bars, where no spans are given; None for all.
    targets
        What is made; by default all timeframes that consist of bars of `timeframe`.
    delay
        How long after its end a finer bar may still arrive in the normal course: the provider's
        delay, and the time to get here. A bucket whose last minutes had no trade ends that later.

    Returns
    -------
    What was written, for each of the targets. Doing it again writes nothing.
    """
    wanted = sorted(coarser_timeframes(timeframe) if targets is None else targets)
    check_multiples(timeframe, wanted)
    if spans is None:
        spans = spans_behind(stores, timeframe, symbols, wanted)
    totals = dict.fromkeys(wanted, BarsWritten())
    for task in find_tasks(stores, timeframe, spans, wanted):
        for target, written in _derive(stores, task, delay):
            totals[target] += written
    return totals


def derive_changed(
    stores: Stores, timeframe: Timeframe, *, delay: timedelta = GRACE
) -> dict[Timeframe, BarsWritten]:
    """Make the coarser bars of all that was written since this was done last, by whomever.

    Corrections, healed gaps and older history are followed, and what a killed process left.
    """
    changed, change = read_underived(stores.database, timeframe)
    spans = spans_behind(stores, timeframe, None, sorted(coarser_timeframes(timeframe)))
    if changed is None:
        ends = read_ends(stores.database, timeframe)
        changed = ends.select("symbol", first_ts="first", last_ts="last")
    after = pl.col("last_ts") + timedelta(minutes=timeframe.minutes)
    touched = changed.select("symbol", start_at="first_ts", end_at=after)
    both = pl.concat([spans, touched.cast(spans.schema)])
    whole = both.group_by("symbol").agg(pl.col("start_at").min(), pl.col("end_at").max())
    written = derive_bars(stores, timeframe, whole.sort("symbol"), delay=delay)
    note_derived(stores.database, timeframe, change)
    return written


def finest_timeframes(stores: Stores, symbols: Sequence[str] | None = None) -> dict[str, Timeframe]:
    """The finest timeframe that each of `symbols` (None: all) has bars of, if any."""
    found: dict[str, Timeframe] = {}
    for timeframe in map(Timeframe, MINUTES.values()):
        for ticker in read_ends(stores.database, timeframe, symbols)["symbol"]:
            found.setdefault(ticker, timeframe)
    return found


def open_bars(
    stores: Stores,
    timeframe: Timeframe,
    symbols: Sequence[str],
    *,
    as_of: datetime | None = None,
    delay: timedelta = GRACE,
) -> pl.DataFrame:
    """BARS that still form at `as_of` (by default now), for display: never stored.

    Each symbol's is made of the finest stored bars within the bucket; none for a symbol that has
    none there.
    """
    now = stores.clock.now()
    at = min(as_of or now, now)
    calendars = calendars_of(stores, symbols)
    parts = [BARS.empty()]
    missing = list(symbols)
    for finer in map(Timeframe, MINUTES.values()):
        if not missing or not is_multiple(timeframe, finer):
            continue
        for start, tickers in _forming(missing, calendars, timeframe, (at - delay, at)).items():
            bars = read_bars(stores.database, finer, symbols=tickers, start=start, as_of=at)
            made = domain.open_bars(bars, finer, timeframe, calendars, as_of=at, delay=delay)
            parts.append(_marked(made, finer))
        told = {ticker for part in parts for ticker in part["symbol"]}
        missing = [ticker for ticker in missing if ticker not in told]
    return BARS.conform(pl.concat(parts))


def _derive(
    stores: Stores, task: Task, delay: timedelta
) -> Iterator[tuple[Timeframe, BarsWritten]]:
    now = stores.clock.now()
    made = _made(stores, task, delay, now, None)
    stored = _stored(stores, task)
    versions = [made]
    late = _late(made, stored, task, delay)
    while len(late):
        at = late["known_at"].max()
        assert isinstance(at, datetime)
        newest = late.filter(pl.col("known_at") == at)
        older = _made(stores, task, delay, at - TICK, newest).join(newest, on=KEY, how="semi")
        versions.append(older)
        late = pl.concat([late.filter(pl.col("known_at") < at), _late(older, stored, task, delay)])
    for target in task.windows:
        written = BarsWritten()
        pins = read_pins(stores.database, target)
        for frame in _to_write(versions, stored, target, pins, now):
            written += write_bars(stores.database, target, frame)
        yield target, written


def _made(
    stores: Stores, task: Task, delay: timedelta, as_of: datetime, keys: pl.DataFrame | None
) -> pl.DataFrame:
    # What could be made at `as_of`, with the length of each bar in `minutes`; of the symbols and
    # days of `keys` only.
    start, end = task.span
    tickers = task.tickers
    if keys is not None:
        first, last = keys["ts"].min(), keys["ts"].max()
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        start = max(start, first - timedelta(days=1))
        end = min(end, last + timedelta(days=2))
        tickers = keys["symbol"].unique().sort().to_list()
    bars = read_bars(
        stores.database,
        task.timeframe,
        symbols=tickers,
        start=start,
        end=end - TICK,
        as_of=as_of,
    )
    made = domain.resample_all(
        bars,
        task.timeframe,
        dict.fromkeys(tickers, task.calendar),
        as_of=as_of,
        delay=delay,
        targets=task.windows,
    )
    return pl.concat(
        _marked(frame, task.timeframe)
        .filter(
            pl.col("ts").is_between(task.windows[target].first_ts, task.windows[target].last_ts)
        )
        .with_columns(minutes=pl.lit(target.minutes))
        for target, frame in made.items()
    )


def _marked(bars: pl.DataFrame, made_of: Timeframe) -> pl.DataFrame:
    origin = pl.col("source").str.replace(r"@.*$", "")
    return bars.with_columns(source=origin + f"@{made_of}")


def _stored(stores: Stores, task: Task) -> pl.DataFrame:
    # When the stored bars were known, and which of them are to be left alone.
    finer = [name for name, minutes in MINUTES.items() if minutes < task.timeframe.minutes]
    made_of = pl.col("source").str.extract(r"@(.*)$")
    return pl.concat(
        read_bars(
            stores.database,
            target,
            symbols=task.tickers,
            start=window.first_ts,
            end=window.last_ts,
        ).select(
            pl.lit(target.minutes).alias("minutes"),
            "symbol",
            "ts",
            stored_at="known_at",
            is_final=made_of.is_null() | made_of.is_in(finer),
        )
        for target, window in task.windows.items()
    )


def _late(made: pl.DataFrame, stored: pl.DataFrame, task: Task, delay: timedelta) -> pl.DataFrame:
    # Bars that may have had an earlier version, unless this one is stored or will not be. What
    # came within the delay is not looked into: live bars arrive then, and a look costs a read.
    parts = [made.select(*KEY, "known_at").with_columns(natural="known_at").clear()]
    for target in task.windows:
        part = made.filter(pl.col("minutes") == target.minutes).select(*KEY, "known_at")
        ends = pl.Series(task.calendar.close_at(instants(part["ts"]), target))
        parts.append(part.with_columns(natural=ends.dt.replace_time_zone("UTC") + delay))
    beside = pl.concat(parts).filter(pl.col("known_at") > pl.col("natural"))
    beside = beside.join(stored, on=KEY, how="left", maintain_order="left")
    is_settled = pl.col("is_final") | (pl.col("stored_at") >= pl.col("known_at"))
    return beside.filter(~is_settled.fill_null(value=False)).select(*KEY, "known_at")


def _to_write(
    versions: Sequence[pl.DataFrame],
    stored: pl.DataFrame,
    target: Timeframe,
    pins: pl.DataFrame,
    now: datetime,
) -> Iterator[pl.DataFrame]:
    # Older versions first. What is known of a past that a stored result was made of is known now.
    final = stored.filter("is_final")
    is_past = (pl.col("known_at") <= pl.col("pinned_at")).fill_null(value=False)
    for number, version in reversed(list(enumerate(versions))):
        part = version.filter(pl.col("minutes") == target.minutes).join(final, on=KEY, how="anti")
        part = part.join(pins, on="symbol", how="left", maintain_order="left")
        if number:
            part = part.filter(~is_past)
        known_at = pl.when(is_past).then(pl.lit(now).cast(INSTANT)).otherwise("known_at")
        yield BARS.conform(part.with_columns(known_at=known_at).drop("minutes", "pinned_at"))


def _forming(
    tickers: Sequence[str],
    calendars: Mapping[str, TradingCalendar],
    timeframe: Timeframe,
    at: tuple[datetime, datetime],
) -> dict[datetime, list[str]]:
    # From when on bars are needed: the start of the bucket in progress at the first of the
    # instants, or else at the second; no entry for symbols whose market is closed.
    instant = np.array([edge.replace(tzinfo=None) for edge in at], dtype="datetime64[us]")
    starts: dict[datetime, list[str]] = {}
    for ticker in tickers:
        begins = find_buckets(instant, timeframe, calendars[ticker]).start_at
        known = begins[~np.isnat(begins)]
        if len(known):
            starts.setdefault(known[0].item().replace(tzinfo=UTC), []).append(ticker)
    return starts
