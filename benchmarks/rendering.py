"""Sections and the machine they were measured on, as one page of Markdown."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from measure import Row, Section

LIBRARIES = (
    *("candlecast", "polars", "numpy", "pyarrow", "SQLAlchemy", "adbc-driver-postgresql"),
    *("polars-talib", "TA-Lib", "lightgbm", "onnxruntime"),
)
COMMAND = "make bench"
DATE = "%Y-%m-%d %H:%M UTC"
REACHED, MISSED = "reached", "**missed**"
INTRODUCTION = (
    "What candlecast takes beside the bare library doing the same, on the same data and in the "
    "same run. Both sides take turns, and the best of several repetitions counts for each. A "
    "ratio is our time over the peer's: below 1 we are faster. Goals that are missed are listed "
    "like those that are reached."
)


@dataclass(frozen=True)
class Entry:
    """A section as it stands on the page: `goals` are its rows of the table of goals."""

    title: str
    text: str
    goals: tuple[tuple[str, ...], ...]
    measured_at: str


def entry_of(section: Section, measured_at: datetime) -> Entry:
    """A section that was measured now."""
    return Entry(section.title, _section(section), _goals(section), f"{measured_at:{DATE}}")


def page(entries: Sequence[Entry], measured_at: datetime) -> str:
    """All that was measured: the goals first, then a table for each section."""
    goals = [goal for entry in entries for goal in entry.goals]
    parts = [
        "# Benchmarks",
        f"<!-- written by `{COMMAND}`; edits are lost -->",
        INTRODUCTION,
        f"To reproduce: `{COMMAND}`",
        "## Goals",
        table(("section", "what", "goal", "measured", "verdict"), goals),
        *(f"{entry.text}\n\nMeasured {entry.measured_at}." for entry in entries),
        "## Measured on",
        table(("what", "which"), machine(measured_at).items()),
    ]
    return "\n\n".join(parts) + "\n"


def machine(measured_at: datetime) -> Mapping[str, str]:
    """Date, hardware and versions."""
    n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return {
        "date": f"{measured_at:{DATE}}",
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{n_bytes / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "load of 1, 5, 15 minutes at the end": load,
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        **{name: version(name) for name in LIBRARIES},
    }


def _goals(section: Section) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (section.title, row.what, _goal(row), _measured(row), _verdict(row))
        for row in section.rows
        if row.is_reached is not None
    )


def _section(section: Section) -> str:
    rows = [
        (
            row.what,
            _duration(row.seconds),
            "" if row.peer_seconds is None else _duration(row.peer_seconds),
            "" if row.ratio is None else _times(row.ratio),
            "" if row.n_items is None else f"{row.n_items / row.seconds:,.0f}",
            "" if row.is_reached is None else f"{_goal(row)}: {_verdict(row)}",
        )
        for row in section.rows
    ]
    header = ("what", "candlecast", "bare peer", "ratio", "rows/s", "goal")
    data = f"Data: {section.data}; sha256 `{section.data_sha256}`."
    return "\n\n".join([f"## {section.title}", section.about, data, table(header, rows)])


def _goal(row: Row) -> str:
    if row.most_seconds is not None:
        return f"≤ {row.most_seconds:g} s"
    return f"≤ {row.most_ratio:g} times the peer"


def _measured(row: Row) -> str:
    if row.most_seconds is not None:
        return _duration(row.seconds)
    return "" if row.ratio is None else f"{_times(row.ratio)} times"


def _verdict(row: Row) -> str:
    return REACHED if row.is_reached else MISSED


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
