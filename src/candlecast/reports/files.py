"""A report as a folder of files: all of them or none, and never in place of anything else."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

import orjson
import polars as pl
import polars.selectors as cs

from candlecast.errors import Conflict
from candlecast.reports.evaluation import Evaluation
from candlecast.reports.page import page

METRICS, PAGE = "metrics.json", "report.html"
TABLES: Final = ("per_fold", "per_symbol", "per_year", "calibration", "importances")
NAMES: Final = frozenset({METRICS, PAGE, *(f"{name}.csv" for name in TABLES)})
"""All that a report is made of: a folder that holds another name is not only a report."""
FORMULA: Final = r"^([=+@\t])"
"""How a text begins that a spreadsheet would take for a formula."""
KIND: Final = "candlecast evaluation"
"""Stands in metrics.json: by it a folder is known as a report."""


def check_folder(folder: Path) -> Path:
    """The place of `folder`; Conflict where something is there that is neither empty nor a report
    of ours and nothing else, or where a new folder could not take its place.
    """
    place = folder.resolve()
    if Path.cwd().is_relative_to(place) or place.is_mount():
        raise Conflict(f"{place} cannot be replaced as a whole; name another folder, inside it")
    check_can_write(place)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise Conflict(f"{folder} is no folder; name another for the report")
    if place.is_dir():
        _check_content(place)
    return place


def check_can_write(place: Path) -> None:
    """Conflict unless something new can be put where `place` is, its folders made as needed."""
    parent = next(above for above in place.parents if os.access(above, os.F_OK))
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise Conflict(f"nothing can be written into {parent}; name another place than {place}")


def write_report(folder: Path, evaluation: Evaluation) -> None:
    """Write report.html, metrics.json and the tables as CSV, in place of an older report.

    The same evaluation gives the same bytes. Conflict as in `check_folder`.
    """
    folder = check_folder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as room:
        made, old = Path(room) / "made", Path(room) / "old"
        made.mkdir()
        for name, content in _files(evaluation).items():
            (made / name).write_bytes(content)
        _exchange(made, folder, old)


def _files(evaluation: Evaluation) -> dict[str, bytes]:
    values = {"kind": KIND, **evaluation.as_values()}
    return {
        METRICS: orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS),
        PAGE: page(evaluation).encode(),
        **{f"{name}.csv": _csv(getattr(evaluation, name)) for name in TABLES},
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
    # Symbols are anybody's text: an apostrophe keeps a spreadsheet from running it.
    texts = cs.string(include_categorical=True).cast(pl.String)
    return frame.with_columns(texts.str.replace(FORMULA, "'$1")).write_csv().encode()


def _check_content(folder: Path) -> None:
    try:
        found = {entry.name: entry.is_file(follow_symlinks=False) for entry in os.scandir(folder)}
    except OSError as error:
        raise Conflict(f"{folder} cannot be read ({error}); name another folder") from error
    if found and not _is_report(folder):
        raise Conflict(
            f"{folder} holds something else than a report and is left alone; name another folder"
        )
    if others := sorted(
        name for name, is_file in found.items() if name not in NAMES or not is_file
    ):
        raise Conflict(
            f"{folder} holds {', '.join(others[:5])} beside an older report and is left alone; "
            "move that elsewhere, or name another folder"
        )


def _is_report(folder: Path) -> bool:
    try:
        found = orjson.loads((folder / METRICS).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND
