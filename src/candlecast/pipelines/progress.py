"""How a pipeline tells how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as a step advances; the entry point draws it."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """`done` of `total` parts of `step` are finished."""
        ...


def silent(step: str, done: int, total: int) -> None:
    """Tell nobody."""
