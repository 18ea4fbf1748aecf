"""Jumps of the price: bad prints that come back, and returns so large that one should look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from candlecast.domain.market import Timeframe, TradingCalendar

SCALE_BARS: Final = 61
"""Bars around a bar, before and behind, that say how much the symbol moves at that time."""
MIN_SCALE_BARS: Final = 10
"""With fewer moves there is no scale, and nothing is called a jump."""
NORMAL_MEDIAN: Final = 0.6745
"""The median of |x| of a standard normal variable: turns a median move into a deviation."""
JUMP: Final = 8.0
"""Robust deviations, there and back: if returns have the tails of a Student t with three degrees
of freedom, two such jumps of opposite sign meet four times in a million bars."""
WICK: Final = 12.0
"""Robust deviations; intraday extremes come back by their nature, so they must be larger."""
RESIDUE: Final = 0.25
"""A bad print leaves nothing behind: at least three quarters of the jump are taken back."""
MAX_BAD_BARS: Final = 3
"""A level that is held for longer is a level, whatever led to it."""
MOVES: Final = ("r", "up", "down")
"""The return of a bar, and how far its high and low lie outside of open and close."""
EXTREME_DAILY: Final = 0.5
"""The size from which a day's return is so often an error that one should look."""


def robust_scale(moves: pl.Expr) -> pl.Expr:
    """Standard deviation of `moves` around each row of a symbol, by the median of its moves.

    Rows without a move do not count: a thin symbol's scale is the size of its moves. A calm
    stretch has at least half of the symbol's usual scale, so that no ordinary move stands out.
    """
    size = pl.when(moves != 0).then(moves.abs())
    near = size.rolling_median(SCALE_BARS, min_samples=MIN_SCALE_BARS, center=True)
    usual = pl.when(size.count() >= MIN_SCALE_BARS).then(size.median())
    return pl.max_horizontal(near, usual / 2) / NORMAL_MEDIAN


def find_outliers(placed: pl.DataFrame) -> pl.DataFrame:
    """Bars far off that come back at once: by their closes, or by a wick of one bar.

    Moves are measured against what is usual at that time of day, so that the first minutes of a
    session do not stand out.
    """
    top, bottom = pl.max_horizontal("open", "close"), pl.min_horizontal("open", "close")
    measured = placed.select(
        "symbol",
        "ts",
        "bucket",
        "is_first",
        r=pl.col("close").log().diff().over("symbol"),
        up=(pl.col("high") / top).log(),
        down=(bottom / pl.col("low")).log(),
    )
    measured = measured.with_columns(_hour(name).alias(f"{name}_hour") for name in MOVES)
    measured = measured.with_columns(
        (
            pl.col(f"{name}_hour")
            * robust_scale(pl.col(name) / pl.col(f"{name}_hour")).over("symbol")
        ).alias(f"{name}_scale")
        for name in MOVES
    )
    wicks = [_wick(measured, side) for side in ("up", "down")]
    spikes = [_spike(measured, n_bars) for n_bars in range(1, MAX_BAD_BARS + 1)]
    found = pl.concat([*spikes, *wicks])
    first = found.unique(["symbol", "start"], keep="first", maintain_order=True)
    percent = (100 * (pl.col("size").exp() - 1)).round(2)
    return first.select(
        "symbol",
        kind=pl.lit("outlier"),
        start="start",
        end="end",
        n_bars="n_bars",
        value=pl.col("size").exp() - 1,
        severity=pl.lit("suspect"),
        message=pl.format(
            "the {} lies {}% off, {} times the usual move, and comes back at once; "
            "compare it with another source",
            "what",
            percent,
            pl.col("n_scales").round(0).cast(pl.Int64),
        ),
    )


def _hour(name: str) -> pl.Expr:
    # How large moves are at this time of day, against all day; daily bars have one time only.
    size = pl.when(pl.col(name) != 0).then(pl.col(name).abs())
    hour = size.median().over("symbol", "bucket", "is_first")
    is_known = size.count().over("symbol", "bucket", "is_first") >= MIN_SCALE_BARS
    return pl.when(is_known).then(hour / size.median().over("symbol")).fill_null(1.0)


def _spike(measured: pl.DataFrame, n_bars: int) -> pl.DataFrame:
    # `n_bars` closes off the level before and behind.
    back = pl.col("r").shift(-n_bars).over("symbol")
    left = pl.col("r") + sum(pl.col("r").shift(-n).over("symbol") for n in range(1, n_bars + 1))
    size = pl.min_horizontal(pl.col("r").abs(), back.abs())
    is_back = (pl.col("r") * back < 0) & (left.abs() <= RESIDUE * size)
    return (
        measured.with_columns(
            is_spike=is_back & (size > JUMP * pl.col("r_scale")),
            n_scales=size / pl.col("r_scale"),
            end=pl.col("ts").shift(-(n_bars - 1)).over("symbol"),
        )
        .filter("is_spike")
        .select(
            "symbol",
            "end",
            "n_scales",
            start="ts",
            n_bars=pl.lit(n_bars, dtype=pl.Int64),
            size="r",
            what=pl.lit("close"),
        )
    )


def _wick(measured: pl.DataFrame, side: str) -> pl.DataFrame:
    scale = pl.max_horizontal("r_scale", f"{side}_scale")
    sign, what = (1, "high") if side == "up" else (-1, "low")
    return measured.filter(pl.col(side) > WICK * scale).select(
        "symbol",
        end="ts",
        n_scales=pl.col(side) / scale,
        start="ts",
        n_bars=pl.lit(1, dtype=pl.Int64),
        size=sign * pl.col(side),
        what=pl.lit(what),
    )


def unexplained(rows: pl.DataFrame, actions: pl.DataFrame, name: str) -> pl.DataFrame:
    """Those of `rows` whose log move, in the column `name`, no known action explains by half.

    `rows` have symbol, ts, last_ts and last_close besides. An action belongs to the first bar on
    or after its ex-date.
    """
    due = actions.filter(pl.col("kind").is_in(["split", "dividend"]), pl.col("value") > 0)
    events = due.select("symbol", "ex_date", event="kind", amount="value")
    near = rows.join(events, on="symbol").filter(
        pl.col("ex_date") > pl.col("last_ts"), pl.col("ex_date") <= pl.col("ts")
    )
    is_payable = pl.col("amount") < pl.col("last_close")
    effect = (
        pl.when(pl.col("event") == "split")
        .then(-pl.col("amount").log())
        .when(is_payable)
        .then((1 - pl.col("amount") / pl.col("last_close")).log())
        .otherwise(0.0)
    )
    effects = near.group_by("symbol", "ts").agg(effect=effect.sum())
    left = rows.join(effects, on=["symbol", "ts"], how="left", maintain_order="left")
    rest = pl.col(name) - pl.col("effect").fill_null(0.0)
    is_explained = (rest.abs() < pl.col(name).abs() / 2) & pl.col("effect").is_not_null()
    return left.filter(~is_explained).drop("effect")


def find_extreme_returns(
    placed: pl.DataFrame,
    timeframe: Timeframe,
    calendars: Mapping[str, TradingCalendar],
    actions: pl.DataFrame,
) -> pl.DataFrame:
    """Closes more than half above or below the one before; less suffices within a session.

    What a price may do scales with the root of time as long as it diffuses, and not at all when
    it jumps; the threshold goes with the root of that root.
    """
    shares = {
        ticker: calendars[ticker].bars_per_session(timeframe) ** -0.25
        for ticker in placed["symbol"].unique()
    }
    share = pl.col("symbol").replace_strict(shares, return_dtype=pl.Float64, default=1.0)
    limit = EXTREME_DAILY * pl.when("is_first").then(1.0).otherwise(share)
    last = pl.col("close").shift().over("symbol")
    large = placed.with_columns(
        value=pl.col("close") / last - 1,
        move=(pl.col("close") / last).log(),
        last_close=last,
        last_ts=pl.col("ts").shift().over("symbol"),
        limit=limit,
    ).filter(pl.col("value").abs() > pl.col("limit"))
    return unexplained(large, actions, "move").select(
        "symbol",
        kind=pl.lit("extreme_return"),
        start="ts",
        end="ts",
        n_bars=pl.lit(1, dtype=pl.Int64),
        value="value",
        severity=pl.lit("note"),
        message=pl.format(
            "the close moved by {}% from one bar to the next; such moves are often real: "
            "look for the news, or for a split that is not accounted for",
            (100 * pl.col("value")).round(1),
        ),
    )
