"""Time several ways of doing the same, turn by turn, and keep the best of each."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from time import perf_counter
from typing import TypeAlias

Steps: TypeAlias = Iterator[tuple[str, float]]
"""The steps of one side as they are done: a name and the seconds it took."""


@dataclass(frozen=True)
class Row:
    """One thing measured: our best time, and the bare peer's where there is one.

    `n_items` is how many rows (or the like) were worked on. A goal is at most so many times the
    peer's time (`most_ratio`) or at most so many seconds (`most_seconds`).
    """

    what: str
    seconds: float
    peer_seconds: float | None = None
    n_items: int | None = None
    most_ratio: float | None = None
    most_seconds: float | None = None

    @property
    def ratio(self) -> float | None:
        """Our time over the peer's."""
        return None if self.peer_seconds is None else self.seconds / self.peer_seconds

    @property
    def is_reached(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.most_seconds is not None:
            return self.seconds <= self.most_seconds
        if self.most_ratio is not None and self.ratio is not None:
            return self.ratio <= self.most_ratio
        return None


@dataclass(frozen=True)
class Section:
    """What was measured on one set of data; `about` says what both sides do, and how often."""

    title: str
    about: str
    data: str
    data_sha256: str
    rows: tuple[Row, ...]


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes; garbage of what came before is collected first."""
    gc.collect()
    started_at = perf_counter()
    work()
    return perf_counter() - started_at


def timed(name: str, work: Callable[[], object]) -> Callable[[], Steps]:
    """A side of one step."""

    def steps() -> Steps:
        yield name, seconds(work)

    return steps


@dataclass(frozen=True)
class Best:
    """The best time of each step, and of how many rounds."""

    seconds: dict[str, float]
    n_rounds: int


def interleaved(
    n_rounds: int, *sides: Callable[[], Steps], at_most_seconds: float = math.inf
) -> Best:
    """The best time of each step over `n_rounds`, in which the sides take turns step by step.

    Every other round they go in the opposite order, so that none profits from its place. After
    the first, no round is begun that would probably not end within `at_most_seconds`.
    """
    best: dict[str, float] = {}
    started_at = perf_counter()
    for number in range(n_rounds):
        elapsed = perf_counter() - started_at
        if number and elapsed + elapsed / number > at_most_seconds:
            return Best(best, number)
        running = [side() for side in (sides if number % 2 == 0 else sides[::-1])]
        for steps in zip_longest(*running):
            for name, taken in (step for step in steps if step is not None):
                best[name] = min(taken, best.get(name, taken))
    return Best(best, n_rounds)
