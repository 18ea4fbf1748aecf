"""What is known besides prices: scored texts, indices, capitalisations, large trades.

A fact counts in the version that was known first, in training as in serving: a headline that is
corrected, or an index value that is revised, changes no row of the past and no later one. So a
frame has one row for each fact, and cutting it by `known_at` gives what was known then.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, Self

import polars as pl

from candlecast.domain.frames import CAPITALISATIONS, INDICES, LARGE_TRADES, TEXTS, FrameSpec
from candlecast.errors import BadFrame

KINDS: Final = ("news", "post")
"""What a text can be."""


@dataclass(frozen=True, eq=False)
class Facts:
    """Frames of facts, each row with the instant from which on it was known.

    `texts` are TEXTS, `indices` INDICES, `capitalisations` CAPITALISATIONS, `large_trades`
    LARGE_TRADES; a source that is absent is a frame without rows. `Facts.of` checks them.
    """

    texts: pl.DataFrame
    indices: pl.DataFrame
    capitalisations: pl.DataFrame
    large_trades: pl.DataFrame

    @classmethod
    def none(cls) -> Self:
        """No fact at all."""
        return cls.of()

    @classmethod
    def of(
        cls,
        *,
        texts: pl.DataFrame | None = None,
        indices: pl.DataFrame | None = None,
        capitalisations: pl.DataFrame | None = None,
        large_trades: pl.DataFrame | None = None,
    ) -> Self:
        """Facts of these frames, each checked and None where a source is absent.

        Raises
        ------
        BadFrame : a frame is not of its kind, holds a number that is none, or a text whose kind
            is unknown, whose score lies outside [-1, 1] or whose weight is not positive.
        """
        given = (
            _checked(TEXTS, texts),
            _checked(INDICES, indices),
            _checked(CAPITALISATIONS, capitalisations),
            _checked(LARGE_TRADES, large_trades),
        )
        is_sound = pl.col("kind").is_in(KINDS) & pl.col("score").is_between(-1, 1)
        _refuse(TEXTS, given[0], ~is_sound | (pl.col("weight") <= 0))
        is_possible = pl.col("large_volume").is_between(0, pl.col("volume"))
        _refuse(LARGE_TRADES, given[3], ~is_possible)
        return cls(*given)

    def known_by(self, instant: datetime) -> Self:
        """The facts that were known by then."""
        is_known = pl.col("known_at") <= instant
        return type(self)(*(getattr(self, f.name).filter(is_known) for f in fields(self)))

    def sha256(self) -> str:
        """Hash of all facts: the same facts give the same hash, on every machine."""
        digest = hashlib.sha256()
        for kind in fields(self):
            rows = getattr(self, kind.name).with_columns(pl.selectors.datetime().to_physical())
            digest.update(f"{kind.name} {len(rows)}\n{rows.write_ndjson()}".encode())
        return digest.hexdigest()

    @property
    def is_empty(self) -> bool:
        """Whether no source has said anything."""
        return all(getattr(self, f.name).is_empty() for f in fields(self))


def _checked(spec: FrameSpec, frame: pl.DataFrame | None) -> pl.DataFrame:
    if frame is None:
        return spec.empty()
    numbers = [name for name, dtype in spec.columns.items() if dtype == pl.Float64]
    wrong = pl.any_horizontal(~pl.col(name).is_finite() for name in numbers)
    _refuse(spec, spec.check(frame), wrong)
    return frame


def _refuse(spec: FrameSpec, frame: pl.DataFrame, is_wrong: pl.Expr) -> None:
    found = frame.filter(is_wrong).head(1)
    if len(found):
        row = found.select(*spec.key, pl.selectors.float()).row(0, named=True)
        raise BadFrame(f"{spec.name} holds a row that cannot be true: {row}; drop or mend it")
