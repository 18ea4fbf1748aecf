"""Computed features as memory-mapped files, each the answer to one question on one state of data.

A question is the hash of what was asked for; a state says of what data and code the answer was
made. The manifest of a question names its file and checksum and is replaced in one step, so that
other processes may read meanwhile; files are never changed in place. Answers on a state that is
past are removed and, beyond a bound, those that were asked for longest ago. Deleting all loses
nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl

from candlecast.domain.frames import FEATURES
from candlecast.errors import BadFrame
from candlecast.store.migrate import file_lock
from candlecast.store.schema import EPOCH

FORMAT: Final = 1
MAX_FILES: Final = 32
MAX_BYTES: Final = 4 << 30
ROW_WORDS: Final = 1024
ROWS_AT_ONCE: Final = 64
"""Of so many words in rows a checksum is made at once, within a processor's cache."""
DATA: Final = ".arrow"
UNFINISHED: Final = ".part"
MANIFEST: Final = ".json"
State: TypeAlias = Mapping[str, str | int | None]


@dataclass(frozen=True)
class Answer:
    """One file: its question, the state it was made on, when, and what is in it."""

    state: dict[str, str | int | None]
    made_at_microseconds: int
    name: str
    n_bytes: int
    checksum: int


class FeatureFiles:
    """FEATURES below `folder`, which is made when first written to.

    Parameters
    ----------
    folder : where the files are; several processes may share it
    max_files, max_bytes : beyond either, what was asked for longest ago is removed; the newest
        file stays
    """

    def __init__(
        self, folder: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES
    ) -> None:
        self._folder = folder
        self._max_files, self._max_bytes = max_files, max_bytes

    def read(
        self, group: str, question: str, state: State, now: datetime | None = None
    ) -> pl.DataFrame | None:
        """The answer to `question` on exactly this `state`, or None: absent, damaged, outdated.

        With `now` an answer made later than that is none.
        """
        place = self._folder / group
        if not place.is_dir():
            return None
        with file_lock(place / "lock", is_shared=True):
            answer = _read_manifest(place / f"{question}{MANIFEST}")
            if answer is None or answer.state != dict(state):
                return None
            if now is not None and answer.made_at_microseconds > _microseconds(now):
                return None
            frame = _mapped(place / answer.name, answer)
        if frame is not None:
            with suppress(FileNotFoundError):  # a user may delete files at any time
                os.utime(place / f"{question}{MANIFEST}")
        return frame

    def write(
        self, group: str, question: str, state: State, features: pl.DataFrame, now: datetime
    ) -> None:
        """Keep `features` as the answer to `question` on `state`, and remove what it supersedes.

        Where the folder is deleted meanwhile, nothing is kept.
        """
        FEATURES.check(features)
        place = self._folder / group
        with suppress(FileNotFoundError):
            self._write(
                place, question, Answer(dict(state), _microseconds(now), "", 0, 0), features
            )

    def _write(self, place: Path, question: str, answer: Answer, features: pl.DataFrame) -> None:
        name = f"{question}-{secrets.token_hex(8)}"
        unfinished = place / f"{name}{UNFINISHED}"
        with ExitStack() as stack:
            with file_lock(place / "lock", is_shared=True):
                file = stack.enter_context(unfinished.open("wb"))
                fcntl.flock(file, fcntl.LOCK_EX)  # while it is held, nobody clears the file away
            size = max(len(features), 1)  # in one batch: what is mapped is what is used
            features.write_ipc(file, compression="uncompressed", record_batch_size=size)
            file.flush()
            os.fsync(file.fileno())
            n_bytes, checksum = unfinished.stat().st_size, _checksum(unfinished)
            answer = replace(answer, name=f"{name}{DATA}", n_bytes=n_bytes, checksum=checksum)
            with file_lock(place / "lock"):
                unfinished.replace(place / answer.name)
                _write_manifest(place / f"{question}{MANIFEST}", answer)
                self._clear(place, question, answer)

    def _clear(self, place: Path, question: str, newest: Answer) -> None:
        # Under the lock. What is mapped elsewhere stays readable there until it is let go.
        own = place / f"{question}{MANIFEST}"
        others = [path for path in place.glob(f"*{MANIFEST}") if path != own]
        kept, n_bytes = {newest.name}, newest.n_bytes
        for path in sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            answer = _read_manifest(path)
            is_kept = answer is not None and _is_same_state(answer.state, newest.state)
            if answer is not None and is_kept and len(kept) < self._max_files:
                n_bytes += answer.n_bytes
                if n_bytes <= self._max_bytes:
                    kept.add(answer.name)
                    continue
            path.unlink(missing_ok=True)
        for path in place.iterdir():
            is_data = path.suffix == DATA and path.name not in kept
            if is_data or (path.suffix == UNFINISHED and _is_abandoned(path)):
                path.unlink(missing_ok=True)


def _is_same_state(state: State, newest: State) -> bool:
    # Of a question that does not depend on all that another does, what both depend on counts.
    return all(state[name] == newest[name] for name in state.keys() & newest.keys())


def _is_abandoned(path: Path) -> bool:
    # Whoever writes it holds its lock; a process that died does not.
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _read_manifest(path: Path) -> Answer | None:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") != FORMAT:
            return None
        return Answer(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _write_manifest(path: Path, answer: Answer) -> None:
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    unfinished.write_text(json.dumps({"format": FORMAT, **asdict(answer)}), encoding="utf-8")
    unfinished.replace(path)


def _mapped(path: Path, answer: Answer) -> pl.DataFrame | None:
    import pyarrow as pa

    try:
        if path.stat().st_size != answer.n_bytes or _checksum(path) != answer.checksum:
            return None
        with pa.memory_map(str(path)) as source:
            frame = pl.from_arrow(pa.ipc.open_file(source).read_all())
        assert isinstance(frame, pl.DataFrame)
        _check_columns(frame)
    except (OSError, pa.ArrowException, BadFrame):
        return None
    return frame


def _check_columns(frame: pl.DataFrame) -> None:
    # Order and keys were checked when it was written, and the checksum is the same since.
    FEATURES.check(frame.head(0))


def _checksum(path: Path) -> int:
    # A hash over the sums of its 64-bit words, laid out in rows, by row and by column: about as
    # quick as memory is read, and it sees any changed bit and any two words that changed places.
    digest, columns = hashlib.blake2b(digest_size=8), np.zeros(ROW_WORDS, "<u8")
    n_rows = path.stat().st_size // (ROW_WORDS * 8)
    if n_rows:
        words = np.memmap(path, mode="r", dtype="<u8", shape=(n_rows, ROW_WORDS))
        for start in range(0, n_rows, ROWS_AT_ONCE):
            part = words[start : start + ROWS_AT_ONCE]
            digest.update(part.sum(axis=1).data)
            columns += part.sum(axis=0)
    digest.update(columns.data)
    with path.open("rb") as file:
        file.seek(n_rows * ROW_WORDS * 8)
        digest.update(file.read())
    return int.from_bytes(digest.digest(), "little")


def _microseconds(instant: datetime) -> int:
    return (instant - EPOCH) // timedelta(microseconds=1)
