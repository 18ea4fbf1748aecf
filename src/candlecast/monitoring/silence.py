"""Silences that are too long for their symbol: prices that stand still, bars without volume.

A silence is counted in what was missed: the sum, over its slots, of the share of slots at that
time of day in which the symbol usually stirs. How long its silences last is learned from all of
them as a survival curve; one is implausible where fewer than `FALSE_ALARMS` as long were to be
expected in the symbol's whole history, judged without the silence itself. So a symbol that
trades once an hour may rest for hours, and one that trades every minute may not rest for ten.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

FALSE_ALARMS: Final = 0.001
"""Reported where at most one symbol in a thousand would show such a silence by chance."""
PRIOR_RUNS: Final = 20
"""Silences it takes to believe that they last longer than chance says: a fault that came back a
few times is not yet a habit."""
TRICKLE: Final = 0.02
"""Share of the usual volume, of the bars around, that is next to none."""
USUAL_BARS: Final = 61
SELDOM: Final = 0.001
"""Of a thousand bars one may have next to no volume before none at all is thought possible."""
MOSTLY: Final = 0.05
"""Who has no volume in more than one bar of twenty is thinly traded, not badly recorded."""
MIN_FROZEN_BARS: Final = 50
"""A symbol with so many bars, all at one price, is not traded, or not recorded."""
MAX_MISSED: Final = 512
"""Longer silences are judged as if they were this long; they are implausible or nothing is."""


def expected_runs(judged: pl.DataFrame, runs: pl.DataFrame, chances: pl.DataFrame) -> pl.Series:
    """How many silences at least as long as each of `judged` the symbol's habits let expect.

    `runs` are all its silences, with symbol and missed; those `judged` are among them, or parts
    of such. `chances` has symbol and n_chances: how often a silence could have begun. Infinite
    where less than one bar was missed.
    """
    n_chances = chances["n_chances"].to_numpy().astype(np.float64)
    code, length = _coded(judged, chances)
    curve = _curves(*_coded(runs, chances), n_chances, int(length.max(initial=0)))
    return pl.Series("expected", np.where(length >= 1, curve[code, length], np.inf))


def _coded(runs: pl.DataFrame, chances: pl.DataFrame) -> tuple[Integers, Integers]:
    codes = chances.select("symbol", code=pl.int_range(pl.len()))
    code = runs.select("symbol").join(codes, on="symbol", how="left", maintain_order="left")
    length = np.minimum(runs["missed"].to_numpy(), MAX_MISSED).astype(np.int64)
    return code["code"].to_numpy(), length


def _curves(code: Integers, length: Integers, n_chances: Floats, longest: int) -> Floats:
    # curve[symbol, u]: expected number of runs of at least u, seen by a run that is not counted.
    # The hazard of going on at u is shrunk to the one before, so beyond what was ever seen it
    # stays as it was: a geometric tail.
    longest = max(longest, int(length.max(initial=0)))
    cells = np.zeros((len(n_chances), longest + 2))
    np.add.at(cells, (code, length), 1)
    others = np.maximum(cells[:, ::-1].cumsum(axis=1)[:, ::-1] - 1, 0)
    curve = np.empty((len(n_chances), longest + 1))
    curve[:, 0] = n_chances
    for u in range(longest):
        if u == 0:
            hazard = (others[:, 1] + 0.5) / (n_chances + 1)
        else:
            hazard = (others[:, u + 1] + PRIOR_RUNS * hazard) / (others[:, u] + PRIOR_RUNS)
        curve[:, u + 1] = curve[:, u] * np.minimum(hazard, 1)
    return curve


def implausible_runs(
    placed: pl.DataFrame, is_silent: pl.Expr, is_false: pl.Expr | None = None
) -> pl.DataFrame:
    """The runs of silent bars that are too long: symbol, start, end, n_bars, and sums.

    `placed` comes from `with_places`; `is_silent` is true of a bar in which nothing stirs, and
    `is_false` of one that is no silence, however short.
    """
    never = pl.lit(value=False) if is_false is None else is_false
    marked = placed.select("symbol", "ts", "bucket", "volume", is_silent=is_silent, is_false=never)
    stirs = (~pl.col("is_silent")).mean().over("symbol", "bucket")
    runs = (
        marked.with_columns(pace=stirs, run=pl.struct("symbol", "is_silent").rle_id())
        .filter("is_silent")
        .group_by("run", maintain_order=True)
        .agg(
            pl.col("symbol").first(),
            start=pl.col("ts").first(),
            end=pl.col("ts").last(),
            n_bars=pl.len().cast(pl.Int64),
            missed=pl.col("pace").sum(),
            volume=pl.col("volume").sum(),
            is_false=pl.col("is_false").any(),
        )
    )
    chances = marked.group_by("symbol", maintain_order=True).agg(
        n_chances=(~pl.col("is_silent")).sum()
    )
    expected = expected_runs(runs, runs, chances)
    return runs.with_columns(expected).filter(
        pl.col("is_false") | (pl.col("expected") < FALSE_ALARMS)
    )


def find_stale_prices(placed: pl.DataFrame) -> pl.DataFrame:
    """Runs of bars that repeat the one before, or stand flat on its close, for too long.

    Who never moved has no habit to be judged by: fifty bars at one price are too long for anyone.
    """
    prices = ("open", "high", "low", "close")
    is_same = pl.all_horizontal(pl.col(n) == pl.col(n).shift().over("symbol") for n in prices)
    last = pl.col("close").shift().over("symbol")
    is_flat = pl.all_horizontal(pl.col(name) == last for name in prices)
    runs = implausible_runs(placed, (is_same | is_flat).fill_null(value=False))
    frozen = _frozen(placed, prices)
    runs = pl.concat(
        [
            runs.select(frozen.columns).join(frozen, on="symbol", how="anti"),
            frozen,
        ]
    )
    told = pl.when(pl.col("volume") > 0).then(pl.lit("with")).otherwise(pl.lit("without"))
    return runs.select(
        "symbol",
        kind=pl.lit("stale_price"),
        start="start",
        end="end",
        n_bars="n_bars",
        value=pl.col("n_bars").cast(pl.Float64),
        severity=pl.lit("suspect"),
        message=pl.format(
            "the price stands still for {} bars {} volume, too long for this symbol; "
            "ask the source again, or leave these bars out",
            "n_bars",
            told,
        ),
    )


def _frozen(placed: pl.DataFrame, prices: tuple[str, ...]) -> pl.DataFrame:
    # Symbols whose every bar has one price.
    least, most = (pl.min_horizontal(*prices).min(), pl.max_horizontal(*prices).max())
    whole = placed.group_by("symbol", maintain_order=True).agg(
        start=pl.col("ts").first(),
        end=pl.col("ts").last(),
        n_bars=pl.len().cast(pl.Int64),
        volume=pl.col("volume").sum(),
        is_frozen=(least == most) & (pl.len() >= MIN_FROZEN_BARS),
    )
    return whole.filter("is_frozen").drop("is_frozen")


def find_zero_volume_runs(placed: pl.DataFrame) -> pl.DataFrame:
    """Runs of bars without volume that are too long; none where there is never any volume.

    Who trades less and less comes near zero before. Where hardly a bar has next to no volume,
    one without any does not come from trading: it fills what the source does not have.
    """
    volume = pl.col("volume")
    around = pl.when(volume > 0).then(volume).rolling_median(USUAL_BARS, min_samples=1, center=True)
    usual = around.over("symbol")
    n_near = ((volume > 0) & (volume <= TRICKLE * usual)).sum().over("symbol")
    n_zero, n_all = (volume == 0).sum().over("symbol"), pl.len().over("symbol")
    is_filler = (volume == 0) & (n_near <= SELDOM * n_all) & (n_zero < MOSTLY * n_all)
    runs = implausible_runs(placed, volume == 0, is_filler)
    return runs.select(
        "symbol",
        kind=pl.lit("zero_volume_run"),
        start="start",
        end="end",
        n_bars="n_bars",
        value=pl.col("n_bars").cast(pl.Float64),
        severity=pl.lit("suspect"),
        message=pl.when(pl.col("n_bars") == 1)
        .then(pl.lit("a bar without volume"))
        .otherwise(pl.format("{} bars in a row without volume", "n_bars"))
        + ", unusual for this symbol: the source fills what it does not have, or trading was "
        "halted; compare with another source",
    )
