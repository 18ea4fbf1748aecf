"""A report as a folder of files: all of them or none, and never in place of anything else."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import orjson
import polars as pl

from candlecast.errors import Conflict
from candlecast.reports.evaluation import Evaluation
from candlecast.reports.page import page

METRICS, PAGE = "metrics.json", "report.html"
KIND: Final = "candlecast evaluation"
"""Stands in metrics.json: by it a folder is known as a report."""


def check_folder(folder: Path) -> None:
    """Conflict where something is at `folder` that is neither empty nor a report of ours."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise Conflict(f"{folder} is no folder; name another for the report")
    if folder.is_dir() and any(folder.iterdir()) and not _is_report(folder):
        raise Conflict(
            f"{folder} holds something else than a report and is left alone; name another folder"
        )


def write_report(folder: Path, evaluation: Evaluation) -> None:
    """Write report.html, metrics.json and the tables as CSV, in place of an older report.

    The same evaluation gives the same bytes. Conflict as in `check_folder`.
    """
    check_folder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as room:
        made, old = Path(room) / "made", Path(room) / "old"
        made.mkdir()
        for name, content in _files(evaluation).items():
            (made / name).write_bytes(content)
        _exchange(made, folder, old)


def _files(evaluation: Evaluation) -> dict[str, bytes]:
    values = {"kind": KIND, **evaluation.as_values()}
    tables = {
        "per_fold": evaluation.per_fold,
        "per_symbol": evaluation.per_symbol,
        "per_year": evaluation.per_year,
        "calibration": evaluation.calibration,
        "importances": evaluation.importances,
    }
    return {
        METRICS: orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS),
        PAGE: page(evaluation).encode(),
        **{f"{name}.csv": _csv(frame) for name, frame in tables.items()},
    }


def _exchange(made: Path, folder: Path, old: Path) -> None:
    # Where the new one cannot take its place, the old one comes back.
    if folder.exists():
        folder.rename(old)
    try:
        made.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise


def _csv(frame: pl.DataFrame) -> bytes:
    return frame.write_csv().encode()


def _is_report(folder: Path) -> bool:
    try:
        found = orjson.loads((folder / METRICS).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND
