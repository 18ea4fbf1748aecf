"""Several timeframes side by side as tensors: of each the last bars that had ended and were known.

`Windows.take` gathers, for each (symbol, as_of), the last `n_steps` rows of each timeframe. The
tensors exist for a batch at a time only; what stays in memory is one `Timeline` a timeframe.

A row counts from its `as_of` on, and never before its bar has ended: the hour in progress is not
seen. The newest row is the one of the latest ts among those known; its window holds the rows of
its segment that were known, so what lies before a real gap is no part of it, nor is what came
late to heal one. A timeframe whose newest bar is stale (`timelines.MAX_MISSED_SESSIONS`) has no
window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.frames import INSTANT
from candlecast.domain.normalising import Normaliser
from candlecast.domain.sequences import Tensors
from candlecast.domain.specs import TensorSpec
from candlecast.errors import BadFrame, InvalidSpec
from candlecast.features.timelines import Integers, Timeline

EPOCH: Final = datetime.fromtimestamp(0, UTC)
KEYS: Final[dict[str, pl.DataType | type[pl.DataType]]] = {"symbol": pl.String, "as_of": INSTANT}
"""Columns of the rows that windows are asked for."""


class Windows:
    """The tensors of all rows in `keys`, made when they are asked for.

    Parameters
    ----------
    spec : which timeframes, features and how many steps
    timelines : one of each timeframe of `spec`, in its order
    keys : columns symbol and as_of, in any order; symbols without bars have all masked
    normaliser : what `values` are put into units by; None leaves them as they are

    Raises
    ------
    InvalidSpec : the timelines or the normaliser are not those of `spec`
    BadFrame : `keys` lack a column, or hold nulls
    """

    def __init__(
        self,
        spec: TensorSpec,
        timelines: Sequence[Timeline],
        keys: pl.DataFrame,
        normaliser: Normaliser | None = None,
    ) -> None:
        given = tuple(timeline.timeframe.name for timeline in timelines)
        if given != spec.timeframes:
            raise InvalidSpec(
                f"timelines of {given}, not {spec.timeframes}; make those of the spec"
            )
        if {timeline.values.shape[1] for timeline in timelines} != {len(spec.features)}:
            raise InvalidSpec("timelines of other features than the spec names; make them again")
        if normaliser is not None:
            normaliser.check(spec)
        if {name: keys.schema.get(name) for name in KEYS} != KEYS:
            raise BadFrame(f"keys need the columns {KEYS}; they have {dict(keys.schema)}")
        if keys.select(pl.any_horizontal(pl.col(*KEYS).is_null().any())).item():
            raise BadFrame("keys hold nulls; drop these rows")
        self.spec, self.timelines, self.normaliser = spec, tuple(timelines), normaliser
        self.keys = keys.select(*KEYS)
        self._until = self.keys["as_of"].to_physical().to_numpy()
        self._codes = [_codes_of(self.keys["symbol"], line.tickers) for line in timelines]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.keys)

    def at(self, keys: pl.DataFrame) -> Windows:
        """The windows of other rows, from the same timelines."""
        return Windows(self.spec, self.timelines, keys, self.normaliser)

    def fit_normaliser(self, until: datetime) -> Normaliser:
        """The units of all rows of the timelines known by `until`, the end of the training span."""
        if until.tzinfo is None:
            raise InvalidSpec(f"until is {until}, without a time zone; give it in UTC")
        instant = (until - EPOCH) // timedelta(microseconds=1)
        known = ((line.values, line.as_of <= instant) for line in self.timelines)
        return Normaliser.fit(self.spec, known)

    def normalised(self, normaliser: Normaliser) -> Windows:
        """The same windows in the units of `normaliser`."""
        return Windows(self.spec, self.timelines, self.keys, normaliser)

    def take(self, rows: NDArray[np.integer]) -> Tensors:
        """The tensors of these rows (positions in `keys`), in the order given."""
        until = self._until[rows]
        shape = (len(until), self.spec.n_steps, len(self.timelines))
        values = np.empty((*shape, len(self.spec.features)), dtype=np.float32)
        mask = np.empty(shape, dtype=np.bool_)
        age_bars = np.empty((len(until), len(self.timelines)), dtype=np.float32)
        for place, (line, codes) in enumerate(zip(self.timelines, self._codes, strict=True)):
            newest = line.newest(codes[rows], until)
            age_bars[:, place], is_stale = line.age_bars(codes[rows], newest, until)
            index = line.window(np.where(is_stale, -1, newest), until, self.spec.n_steps)
            is_bar = (index >= 0) & line.is_complete[index]
            part = np.take(line.values, index, axis=0, mode="clip")
            if self.normaliser is not None:
                is_bar &= self.normaliser.is_learnt[place]
                self.normaliser.apply(part, place)
            part[~is_bar] = 0.0
            values[:, :, place], mask[:, :, place] = part, is_bar
        return Tensors(values, mask, age_bars)

    def batches(
        self,
        n_rows: int,
        rows: NDArray[np.integer] | None = None,
        generator: np.random.Generator | None = None,
    ) -> Iterator[tuple[NDArray[np.integer], Tensors]]:
        """Positions in `keys` and their tensors, `n_rows` at a time; shuffled by `generator`."""
        if n_rows < 1:
            raise InvalidSpec(f"batches of {n_rows} rows; take at least one")
        order = np.arange(len(self)) if rows is None else rows
        if generator is not None:
            order = generator.permutation(order)
        for start in range(0, len(order), n_rows):
            chosen = order[start : start + n_rows]
            yield chosen, self.take(chosen)


def keys_of(timeline: Timeline) -> pl.DataFrame:
    """A row for each symbol and instant at which a bar of the timeline became known, by as_of."""
    codes = np.repeat(np.arange(len(timeline.tickers)), np.diff(timeline.starts))
    symbols = pl.Series("symbol", timeline.tickers).gather(codes)
    frame = pl.DataFrame([symbols, pl.Series("as_of", timeline.as_of).cast(INSTANT)])
    return frame.unique().sort("as_of", "symbol")


def _codes_of(symbols: pl.Series, tickers: Sequence[str]) -> Integers:
    places = {ticker: code for code, ticker in enumerate(tickers)}
    return symbols.replace_strict(places, default=-1, return_dtype=pl.Int64).to_numpy()
