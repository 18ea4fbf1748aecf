"""The page that `make bench` writes tells all that was measured, and misses as well as hits."""

import sys
from datetime import UTC, datetime
from importlib import import_module
from itertools import count
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
MODULES = ("measure", "rendering")


@pytest.fixture
def bench(monkeypatch):
    """The modules of benchmarks/ that need none of its data, as its scripts import them."""
    monkeypatch.syspath_prepend(FOLDER)
    try:
        yield [import_module(name) for name in MODULES]
    finally:
        for name in MODULES:
            sys.modules.pop(name, None)


def rendered(bench, *rows):
    measure, rendering = bench
    section = measure.Section("Storage", "What both do.", "3 bars", "abc123", rows)
    at = datetime(2024, 5, 6, 7, 8, tzinfo=UTC)
    return rendering.page([rendering.entry_of(section, at)], at)


def line_of(page, what):
    """The cells of the one row that begins with `what`."""
    lines = [line for line in page.splitlines() if line.startswith(f"| {what} |")]
    assert len(lines) == 1
    return [cell.strip() for cell in lines[0].strip("|").split("|")]


def test_every_row_is_written_with_both_times_the_ratio_and_the_rate(bench):
    measure, _ = bench
    page = rendered(
        bench,
        measure.Row("write", 3.0, 2.0, n_items=6_000),
        measure.Row("read", 0.25),
    )
    assert line_of(page, "write") == ["write", "3.00 s", "2.00 s", "1.50", "2,000", ""]
    assert line_of(page, "read") == ["read", "250 ms", "", "", "", ""]


def test_the_page_names_data_date_hardware_and_versions(bench):
    measure, rendering = bench
    page = rendered(bench, measure.Row("read", 0.25))
    assert "`abc123`" in page
    assert line_of(page, "date") == ["date", "2024-05-06 07:08 UTC"]
    for name in ("processor", "memory", "Python", "SQLite", *rendering.LIBRARIES):
        assert line_of(page, name)[1]
    assert "make bench" in page


@pytest.mark.parametrize(
    ("goal", "limit"),
    [({"most_ratio": 1.5}, "≤ 1.5 times the peer"), ({"most_seconds": 3}, "≤ 3 s")],
)
def test_a_goal_that_is_just_reached_is_shown_as_reached(bench, goal, limit):
    measure, _ = bench
    page = rendered(bench, measure.Row("write", 3.0, 2.0, **goal))
    assert line_of(page, "write")[-1] == f"{limit}: reached"
    assert "missed**" not in page


@pytest.mark.parametrize("goal", [{"most_ratio": 1.49}, {"most_seconds": 2.99}])
def test_a_goal_that_is_missed_is_shown_as_missed_among_the_goals_and_in_its_section(bench, goal):
    measure, _ = bench
    page = rendered(bench, measure.Row("write", 3.0, 2.0, **goal), measure.Row("read", 1.0))
    assert line_of(page, "write")[-1].endswith(": **missed**")
    (among_goals,) = [line for line in page.splitlines() if line.startswith("| Storage |")]
    assert "| write |" in among_goals
    assert among_goals.endswith("| **missed** |")


def test_what_has_no_goal_is_neither_reached_nor_missed(bench):
    measure, _ = bench
    assert measure.Row("read", 9.0, 1.0).is_reached is None
    assert measure.Row("read", 9.0, most_ratio=2.0).is_reached is None


def test_sides_take_turns_step_by_step_and_each_keeps_its_best(bench):
    measure, _ = bench
    order = []
    taken = iter([5.0, 1.0, 3.0, 7.0, 2.0, 9.0, 4.0, 8.0])

    def side(name):
        def steps():
            for step in ("write", "read"):
                order.append(f"{name} {step}")
                yield f"{name} {step}", next(taken)

        return steps

    best = measure.interleaved(2, side("ours"), side("bare"))
    there = ["ours write", "bare write", "ours read", "bare read"]
    back = ["bare write", "ours write", "bare read", "ours read"]
    assert order == there + back
    expected = {"ours write": 5.0, "bare write": 1.0, "ours read": 3.0, "bare read": 4.0}
    assert best == measure.Best(expected, n_rounds=2)


def test_no_round_is_begun_that_would_not_end_in_time(bench, monkeypatch):
    measure, _ = bench
    clock = count()
    monkeypatch.setattr(measure, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(measure.gc, "collect", lambda: 0)

    def steps():
        yield "write", measure.seconds(lambda: None)

    # A round takes three ticks: two for its step, one for the look at the clock before it.
    assert measure.interleaved(9, steps, at_most_seconds=1e9).n_rounds == 9
    assert measure.interleaved(9, steps, at_most_seconds=9.5).n_rounds == 2
    assert measure.interleaved(9, steps, at_most_seconds=0.1).n_rounds == 1
