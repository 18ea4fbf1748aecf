"""Bars in sorted segments, later ones overriding earlier ones, put together slice by slice.

A segment is one frame: the newest version of its bars, sorted by symbol and ts, and behind them
the versions that were superseded. A slice of the first segment that no later one touches stays
what it is, a view of a memory-mapped file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.frames import BARS, INSTANT
from candlecast.store.schema import EPOCH
from candlecast.store.statements import aware

COLUMNS: Final[dict[str, Any]] = {
    **BARS.columns,
    "first_known_at": INSTANT,  # known_at of the bar's first version
    "superseded_at": INSTANT,  # known_at of the version that followed; null for the newest
}
IS_NEWEST: Final = pl.col("superseded_at").is_null()


class Slice(NamedTuple):
    """Rows start to stop of a frame, all of one symbol, ascending in ts (microseconds)."""

    frame: pl.DataFrame
    ts: NDArray[np.int64]
    start: int
    stop: int

    def between(self, first: int | None, last: int | None) -> Slice:
        """The part with first <= ts <= last."""
        ts = self.ts[self.start : self.stop]
        n_before = 0 if first is None else int(np.searchsorted(ts, first, side="left"))
        n_until = len(ts) if last is None else int(np.searchsorted(ts, last, side="right"))
        start = self.start + n_before
        return self._replace(start=start, stop=max(start, self.start + n_until))

    def rows(self) -> pl.DataFrame:
        """The rows themselves, not copied."""
        return self.frame.slice(self.start, len(self.ts[self.start : self.stop]))


@dataclass(frozen=True)
class Selection:
    """What to read: bars with start <= ts <= end of `symbols` (None: all), in which version."""

    symbols: Sequence[str] | None
    start: datetime | None
    end: datetime | None
    as_of: datetime | None
    is_first_version: bool

    def __post_init__(self) -> None:
        for instant in (self.start, self.end, self.as_of):
            if instant is not None:
                aware(instant)

    @property
    def span(self) -> tuple[int | None, int | None]:
        """The two ends in microseconds."""
        return _microseconds(self.start), _microseconds(self.end)

    def in_force(self) -> pl.Expr:
        """Whether a version is the one asked for."""
        is_wanted = pl.lit(value=True)
        if self.as_of is not None:
            is_wanted = pl.col("known_at") <= self.as_of
        if self.is_first_version:
            return is_wanted & (pl.col("known_at") == pl.col("first_known_at"))
        return is_wanted & (IS_NEWEST | (pl.col("superseded_at") > self.as_of))


@dataclass(frozen=True)
class Layers:
    """What segments add up to: for each symbol its slices in order, and its superseded rows."""

    newest: dict[str, list[Slice]] = field(default_factory=dict)
    superseded: dict[str, Slice] = field(default_factory=dict)
    last_known_at: datetime = EPOCH

    def with_segment(self, segment: pl.DataFrame) -> Layers:
        """These layers with `segment` laid over them."""
        if segment.is_empty():
            return self
        n_newest = segment["superseded_at"].null_count()
        newest, superseded = dict(self.newest), dict(self.superseded)
        for symbol, piece in by_symbol(segment.head(n_newest)):
            known = newest.get(symbol)
            newest[symbol] = [piece] if known is None else _overlaid(known, piece)
        for symbol, piece in by_symbol(segment.tail(len(segment) - n_newest)):
            superseded[symbol] = _united(superseded.get(symbol), piece)
        latest = segment["known_at"].max()
        assert isinstance(latest, datetime)
        return replace(
            self,
            newest=newest,
            superseded=superseded,
            last_known_at=max(latest, self.last_known_at),
        )

    def read(self, wanted: Selection) -> pl.DataFrame:
        """BARS as `read_bars` returns them."""
        is_all = wanted.symbols is None
        chosen = sorted(self.newest if is_all else self.newest.keys() & set(wanted.symbols or ()))
        pieces = {
            symbol: [piece.between(*wanted.span) for piece in self.newest[symbol]]
            for symbol in chosen
        }
        if wanted.is_first_version or wanted.as_of is not None:
            pieces.update(self._versioned(pieces, wanted))
        frame = joined([piece for symbol in chosen for piece in pieces[symbol]])
        if wanted.as_of is not None and self.last_known_at > wanted.as_of:
            frame = frame.filter(pl.col("known_at") <= wanted.as_of)
        return frame.select(*BARS.columns)

    def _versioned(
        self, pieces: dict[str, list[Slice]], wanted: Selection
    ) -> Iterator[tuple[str, list[Slice]]]:
        # Only symbols that were ever revised are copied, all at once.
        old = {s: self.superseded[s].between(*wanted.span) for s in pieces if s in self.superseded}
        if not old:
            return
        newest = _ranked([pieces[symbol] for symbol in old])
        versions = _ranked([[piece] for piece in old.values()])
        yield from ((symbol, []) for symbol in old)
        yield from (
            (symbol, [piece]) for symbol, piece in by_symbol(_chosen(newest, versions, wanted))
        )


def make_segment(newest: pl.DataFrame, superseded: pl.DataFrame) -> pl.DataFrame:
    """A segment of these rows, unique by key, in any order."""
    order = ["symbol", "ts", "known_at"]
    parts = [part.select(*COLUMNS).sort(order) for part in (newest, superseded)]
    return pl.concat(parts, rechunk=True)


def merged(segments: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One segment that says what `segments` say, the later ones prevailing."""
    newest = pl.concat([segment.filter(IS_NEWEST) for segment in segments])
    superseded = pl.concat([segment.filter(~IS_NEWEST) for segment in segments])
    return make_segment(
        newest.unique(["symbol", "ts"], keep="last", maintain_order=True),
        superseded.unique(["symbol", "ts", "known_at"]),
    )


def by_symbol(frame: pl.DataFrame) -> Iterator[tuple[str, Slice]]:
    """The symbols of a frame sorted by symbol and ts, with their rows."""
    ts = frame["ts"].to_physical().to_numpy()
    start = 0
    for length, symbol in frame.select(pl.col("symbol").rle()).unnest("symbol").iter_rows():
        yield symbol, Slice(frame, ts, start, start + length)
        start += length


def joined(pieces: Sequence[Slice]) -> pl.DataFrame:
    """The rows of all `pieces`; neighbours in one frame are not copied."""
    runs: list[Slice] = []
    for piece in pieces:
        if piece.start == piece.stop:
            continue
        if runs and runs[-1].frame is piece.frame and runs[-1].stop == piece.start:
            runs[-1] = runs[-1]._replace(stop=piece.stop)
        else:
            runs.append(piece)
    if not runs:
        return pl.DataFrame(schema=COLUMNS)
    return pl.concat([run.rows() for run in runs], rechunk=len(runs) > 1)


def _ranked(groups: Sequence[Sequence[Slice]]) -> pl.DataFrame:
    # The rows of all groups, each row with the rank of its group.
    lengths = [sum(piece.stop - piece.start for piece in group) for group in groups]
    rows = joined([piece for group in groups for piece in group])
    return rows.with_columns(pl.Series("rank", np.repeat(np.arange(len(groups)), lengths)))


def _chosen(newest: pl.DataFrame, versions: pl.DataFrame, wanted: Selection) -> pl.DataFrame:
    # The version in force of each bar: put in the place of the newest one, so the order stays.
    key = ["rank", "ts"]
    others = newest.select(pl.int_range(pl.len()).alias("at"), *key, ok=wanted.in_force())
    in_force = versions.filter(wanted.in_force())
    moved = in_force.join(others.filter(~pl.col("ok")), on=key, maintain_order="left")
    columns = [
        newest[name] if name in ("symbol", "ts") else newest[name].scatter(moved["at"], moved[name])
        for name in COLUMNS
    ]
    return pl.DataFrame(columns).filter(wanted.in_force())


def _overlaid(known: list[Slice], piece: Slice) -> list[Slice]:
    # What lies before the new piece, the piece with what lies within its span, what lies after.
    first, last = int(piece.ts[piece.start]), int(piece.ts[piece.stop - 1])
    before = [old.between(None, first - 1) for old in known]
    within = [old.between(first, last) for old in known]
    after = [old.between(last + 1, None) for old in known]
    if any(part.stop > part.start for part in within):
        rows = joined([*within, piece]).unique("ts", keep="last", maintain_order=True).sort("ts")
        piece = Slice(rows, rows["ts"].to_physical().to_numpy(), 0, len(rows))
    return [part for part in (*before, piece, *after) if part.stop > part.start]


def _united(known: Slice | None, piece: Slice) -> Slice:
    # A superseded version stays for ever, so the same one may come again but never another.
    if known is None:
        return piece
    rows = joined([known, piece]).unique(["ts", "known_at"]).sort("ts", "known_at")
    return Slice(rows, rows["ts"].to_physical().to_numpy(), 0, len(rows))


def _microseconds(instant: datetime | None) -> int | None:
    return None if instant is None else (instant - EPOCH) // timedelta(microseconds=1)
