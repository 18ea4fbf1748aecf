"""Qlib beside us: our bars as Qlib stores them, and how long it makes a data set of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from measure import Steps
from peers import interpreter, run

FIELDS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class QlibPeer:
    """Qlib with the bars below `folder`, asked for the data set of `fields` (its expressions)."""

    python: Path
    folder: Path
    fields: tuple[str, ...]

    @classmethod
    def make(cls, folder: Path, bars: pl.DataFrame, fields: Sequence[str]) -> QlibPeer:
        """Qlib installed, and `bars` of one calendar written for it; PeerMissing without Qlib."""
        python = interpreter("qlib")
        write_bars(folder / "data", bars)
        return cls(python, folder, tuple(fields))

    def steps(self) -> Steps:
        """A side of a measurement: without caches, and with both filled."""
        yield "uncached", float(self._ask(has_caches=False)["seconds"])
        yield "cached", float(self._ask(has_caches=True)["seconds"])

    def filling(self) -> float:
        """Seconds while both caches, empty before, are filled."""
        data = self.folder / "data"
        for name in ("dataset_cache", "features_cache"):
            shutil.rmtree(data / name, ignore_errors=True)
        return float(self._ask(has_caches=True)["seconds"])

    def values(self) -> tuple[np.ndarray, str]:
        """(n_rows, n_fields) float32, by symbol and date, and Qlib's version."""
        path = self.folder / "values.npy"
        version = self._ask(has_caches=False, save=str(path))["version"]
        return np.load(path, mmap_mode="r"), version

    def _ask(self, *, has_caches: bool, save: str = "") -> dict[str, Any]:
        wanted = {"fields": self.fields, "has_caches": has_caches, "save": save}
        return run(self.python, "qlib_runner.py", str(self.folder), json.dumps(wanted))


def write_bars(folder: Path, bars: pl.DataFrame) -> None:
    """Daily `bars`, each symbol on every session, in the binary files that Qlib reads.

    A file holds one field of one symbol as float32: the place of its first value in the calendar,
    then the values.
    """
    days = bars["ts"].unique().sort().dt.strftime("%Y-%m-%d")
    for name in ("calendars", "instruments", "features"):
        (folder / name).mkdir(parents=True)
    (folder / "calendars" / "day.txt").write_text("\n".join(days) + "\n", encoding="utf-8")
    spans = []
    for (symbol,), part in bars.group_by("symbol", maintain_order=True):
        if len(part) != len(days):
            raise ValueError(f"{symbol} has {len(part)} bars on {len(days)} sessions")
        own = folder / "features" / str(symbol).lower()
        own.mkdir()
        for field in FIELDS:
            values = np.concatenate([[0.0], part[field].to_numpy()]).astype("<f4")
            values.tofile(own / f"{field}.day.bin")
        spans.append(f"{symbol}\t{days[0]}\t{days[-1]}\n")
    (folder / "instruments" / "all.txt").write_text("".join(spans), encoding="utf-8")
