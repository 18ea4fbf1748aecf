"""Arrow copy of the bars, memory-mapped, refreshed by what is new; the database stays the truth.

For each timeframe a folder holds a base segment, a few later ones, and a manifest that says
which state of the database they add up to: its identity, the count of its last change, and that
change's random token. A read first compares these three with the database's. When only the count
has moved on, the touched spans become one more segment; in any other doubt all is built anew.
Segments are never changed in place, and the manifest is replaced in one step, so other processes
may read meanwhile.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl
import sqlalchemy as sa

from candlecast.domain.market import Timeframe
from candlecast.errors import DatabaseBusy
from candlecast.store.bulk import Bulk
from candlecast.store.database import Database
from candlecast.store.migrate import file_lock
from candlecast.store.segments import COLUMNS, Layers, Selection, make_segment, merged
from candlecast.store.statements import schema_of
from candlecast.store.symbols import chosen, read_ids
from candlecast.store.tables import bar_changes, bar_revisions, bars, database_identity

FORMAT: Final = 1
STAMP: Final = {"identity": pl.String, "change": pl.Int64, "token": pl.Int64}
MANIFEST: Final = "manifest.json"
MAX_LATER_SEGMENTS: Final = 8
MAX_LATER_SHARE: Final = 0.1
"""Beyond these, later segments are merged with each other, or with the base."""


class Stamp(NamedTuple):
    """Which state of which database."""

    identity: str
    change: int
    token: int


@dataclass(frozen=True)
class Segment:
    """One file of the mirror."""

    name: str
    n_bytes: int
    n_rows: int


@dataclass(frozen=True)
class Manifest:
    """What the files of one timeframe add up to."""

    stamp: Stamp
    segments: tuple[Segment, ...]


class Unusable(Exception):
    """The files are not what their manifest says."""


class Mirror:
    """The bars of `database` as memory-mapped Arrow files below `folder`.

    `read` equals `store.bars.read_bars` and is faster: no row passes through the database's
    driver, and an untouched span is not even copied. Several threads and processes may share a
    folder. Deleting it loses nothing.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[Timeframe, tuple[Manifest, Layers]] = {}

    def read(
        self,
        timeframe: Timeframe,
        *,
        symbols: Sequence[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | None = None,
        is_first_version: bool = False,
    ) -> pl.DataFrame:
        """BARS as `read_bars` returns them, after taking in what is new in the database."""
        layers = self._refreshed(timeframe)
        if symbols is not None and not layers.newest.keys() >= set(symbols):
            chosen(read_ids(self._database), symbols)  # a symbol without bars is no mistake
        return layers.read(Selection(symbols, start, end, as_of, is_first_version))

    def stamp(self, timeframe: Timeframe) -> Stamp:
        """Which state of the bars a read shows now."""
        return _read_stamp(self._database, timeframe)

    def _refreshed(self, timeframe: Timeframe) -> Layers:
        stamp = _read_stamp(self._database, timeframe)
        lock = self._folder_of(timeframe) / "lock"
        with self._lock:
            if timeframe in self._open:
                manifest, layers = self._open[timeframe]
                if manifest.stamp == stamp and self._is_whole(timeframe, manifest):
                    return layers
            with file_lock(lock, is_shared=True):
                known = self._load(timeframe)
            if known is None or known[0].stamp != stamp:
                with file_lock(lock):
                    known = self._update(timeframe)
            self._open[timeframe] = known
            return known[1]

    def _load(self, timeframe: Timeframe) -> tuple[Manifest, Layers] | None:
        # Under the lock, so that no file goes while it is being opened.
        folder = self._folder_of(timeframe)
        try:
            manifest = _read_manifest(folder)
            if not self._is_whole(timeframe, manifest):
                return None
            n_known, layers = self._opened_part(timeframe, manifest)
            for segment in manifest.segments[n_known:]:
                layers = layers.with_segment(_map(folder / segment.name))
        except Unusable:
            return None
        return manifest, layers

    def _update(self, timeframe: Timeframe) -> tuple[Manifest, Layers]:
        known = self._load(timeframe)
        with self._database.snapshot() as snapshot:
            stamp = _read_stamp(snapshot, timeframe)
            if known is not None and known[0].stamp == stamp:
                return known
            segments: list[Segment] = []
            after = 0
            if known is not None and _is_past(snapshot, timeframe, known[0].stamp):
                segments, after = list(known[0].segments), known[0].stamp.change
            new = _read_segment(snapshot, timeframe, after)
        self._write(timeframe, stamp, segments, new)
        loaded = self._load(timeframe)
        if loaded is None:
            raise DatabaseBusy(f"{self._folder} changes under our hands; try again")
        return loaded

    def _opened_part(self, timeframe: Timeframe, manifest: Manifest) -> tuple[int, Layers]:
        # How many of the segments are open already, and what they add up to.
        if timeframe in self._open:
            opened, layers = self._open[timeframe]
            n_opened = len(opened.segments)
            if opened.segments == manifest.segments[:n_opened]:
                return n_opened, layers
        return 0, Layers()

    def _write(
        self, timeframe: Timeframe, stamp: Stamp, segments: list[Segment], new: pl.DataFrame
    ) -> None:
        folder = self._folder_of(timeframe)
        later = segments[1:]
        n_later = sum(segment.n_rows for segment in later) + len(new)
        if segments and n_later > MAX_LATER_SHARE * segments[0].n_rows:
            segments, later = [], segments
        elif len(later) >= MAX_LATER_SEGMENTS:
            segments = segments[:1]
        else:
            later = []
        if later:
            new = merged([*(_map(folder / segment.name) for segment in later), new])
        segments = [*segments, _write_segment(folder, new)]
        _write_manifest(folder, Manifest(stamp, tuple(segments)))
        kept = {MANIFEST, "lock", *(segment.name for segment in segments)}
        for path in folder.iterdir():
            if path.name not in kept:
                path.unlink()

    def _is_whole(self, timeframe: Timeframe, manifest: Manifest) -> bool:
        folder = self._folder_of(timeframe)
        try:
            sizes = [(folder / s.name).stat().st_size for s in manifest.segments]
        except OSError:
            return False
        return sizes == [segment.n_bytes for segment in manifest.segments]

    def _folder_of(self, timeframe: Timeframe) -> Path:
        return self._folder / timeframe.name


def _read_stamp(source: Database | Bulk, timeframe: Timeframe) -> Stamp:
    changes = bar_changes.c
    last = (
        sa.select(changes.change, changes.token)
        .where(changes.timeframe == timeframe.minutes)
        .order_by(changes.change.desc())
        .limit(1)
        .subquery()
    )
    query = sa.select(database_identity.c.identity, last.c.change, last.c.token).join_from(
        database_identity, last, sa.true(), isouter=True
    )
    identity, change, token = source.read(query, STAMP).row(0)
    return Stamp(identity, change or 0, token or 0)


def _is_past(snapshot: Bulk, timeframe: Timeframe, stamp: Stamp) -> bool:
    # Whether the database was once in the state `stamp`.
    changes = bar_changes.c
    query = (
        sa.select(database_identity.c.identity, changes.change, changes.token)
        .join_from(database_identity, bar_changes, sa.true())
        .where(changes.timeframe == timeframe.minutes, changes.change == stamp.change)
    )
    return stamp in {Stamp(*row) for row in snapshot.read(query, STAMP).iter_rows()}


def _read_segment(snapshot: Bulk, timeframe: Timeframe, after: int) -> pl.DataFrame:
    # All versions of the bars in the spans that changes later than `after` touched.
    ids = read_ids(snapshot)
    changes = bar_changes.c
    first, last = sa.func.min(changes.first_ts), sa.func.max(changes.last_ts)
    spans = (
        sa.select(changes.symbol_id, first.label("first"), last.label("last"))
        .where(changes.timeframe == timeframe.minutes, changes.change > after)
        .group_by(changes.symbol_id)
        .subquery()
    )
    parts = []
    for table in (bars, bar_revisions):
        columns = [table.c[name] for name in ("symbol_id", *COLUMNS) if name in table.c]
        query = sa.select(*columns).where(table.c.timeframe == timeframe.minutes)
        if after:
            is_same_symbol = spans.c.symbol_id == table.c.symbol_id
            is_within = table.c.ts.between(spans.c.first, spans.c.last)
            query = query.join_from(spans, table, sa.and_(is_same_symbol, is_within))
        rows = snapshot.read(query, schema_of(columns))
        parts.append(rows.join(ids, on="symbol_id", how="left", maintain_order="left"))
    never = pl.lit(None, dtype=COLUMNS["superseded_at"]).alias("superseded_at")
    return make_segment(parts[0].with_columns(never), parts[1])


def _read_manifest(folder: Path) -> Manifest:
    try:
        values: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise Unusable
        segments = tuple(Segment(**segment) for segment in values["segments"])
        return Manifest(Stamp(**values["stamp"]), segments)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Unusable from error


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    values = {
        "format": FORMAT,
        "stamp": manifest.stamp._asdict(),
        "segments": [vars(segment) for segment in manifest.segments],
    }
    unfinished = folder / f"{MANIFEST}.{secrets.token_hex(4)}"
    unfinished.write_text(json.dumps(values), encoding="utf-8")
    unfinished.replace(folder / MANIFEST)


def _write_segment(folder: Path, frame: pl.DataFrame) -> Segment:
    path = folder / f"{secrets.token_hex(8)}.arrow"
    with path.open("wb") as file:
        # Uncompressed and in one batch: what is mapped is what is used.
        frame.write_ipc(file, compression="uncompressed", record_batch_size=max(len(frame), 1))
        file.flush()
        os.fsync(file.fileno())
    return Segment(path.name, path.stat().st_size, len(frame))


def _map(path: Path) -> pl.DataFrame:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            frame = pl.from_arrow(pa.ipc.open_file(source).read_all())
    except (OSError, pa.ArrowException) as error:
        raise Unusable from error
    if not isinstance(frame, pl.DataFrame) or frame.schema != pl.Schema(COLUMNS):
        raise Unusable
    return frame
