"""Splits that the prices do not account for: told from crashes by ratio, volume and range."""

from __future__ import annotations

from math import gcd, log
from typing import Final

import polars as pl

from candlecast.monitoring.jumps import (
    MIN_SCALE_BARS,
    SCALE_BARS,
    robust_scale,
    unexplained,
)

RATIOS: Final = tuple(
    (new, old)
    for new in (*range(1, 11), 12, 15, 20, 25, 30, 40, 50, 100)
    for old in (*range(1, 11), 12, 15, 20, 25, 30, 40, 50, 100)
    if new != old and gcd(new, old) == 1 and (min(new, old) == 1 or max(new, old) <= 6)
)
"""New shares for old ones: n:1 and 1:n to ten and the round numbers beyond, and those of small
whole numbers such as 3:2 or 5:4."""
SMALLEST: Final = 0.1
"""Log size from which a distribution is looked at: no regular dividend pays a tenth."""
SPLIT_RATE: Final = 1 / 1000
"""Chance of a split in a session: about one in four years."""
ODDS, MOST_ODDS = 4.0, 1000.0
"""Reported where a split is at least four times as probable as a mere jump of the price; more
than a thousand to one is not claimed."""
NEAR: Final = 0.01
"""An adjustment factor is rounded; a ratio is met if it is met to one percent."""
SCALE_FLOOR: Final = 0.005
"""Half a percent: overnight moves of quiet funds are too small to tell rounding from news."""
VOLUME_SESSIONS: Final = 20
"""A month before and a month after: a crash is traded for days, a split for ever."""
LEVEL_SESSIONS: Final = 5
"""A split changes the level for good: a week before and a week after, whatever one bar says."""
MIN_VOLUMES: Final = 5
OVERLOOKED: Final = 0.05
"""Share of splits that a source which gives adjusted closes does not know: of the fourteen splits
and large distributions that two such sources left in their prices, they knew every one."""
CRASH_VOLUME, CRASH_RANGE, DEVIATION = 0.3, 1.2, 0.5
"""Logs of the month's volume and of the day's range after a large move against before, and their
deviation: the means of 360 overnight moves of US stocks beyond 15 robust deviations."""
EVIDENCE: Final = (-2.0, 4.0)
"""Log odds that volume or range may add at most; little against a split, for some sources adjust
the volume and not the price."""
RARE: Final = 0.01
"""What never closes is not split, but now and then a coin is exchanged for a new one."""


def find_unadjusted_splits(
    placed: pl.DataFrame, actions: pl.DataFrame, always_open: set[str]
) -> pl.DataFrame:
    """Sessions that open at a split's distance from the last close, without a known reason.

    With adjusted closes the source itself says so: their factor jumps while the prices do.
    Without, it is a matter of odds: the price of a split stands near a simple ratio, is traded
    on in as many times more shares, and has an ordinary range on its first day; that of a crash
    has none of these. Where the `actions` known explain most of a jump, it is not reported.
    """
    days = _days(placed)
    is_told = pl.col("factor_jump").abs() >= SMALLEST
    told = unexplained(days.filter(is_told), actions, "move")
    silent = days.filter(~is_told, pl.col("jump").abs() >= SMALLEST)
    found = [_by_factor(told), _by_odds(unexplained(silent, actions, "jump"), always_open)]
    return pl.concat(found).select(
        "symbol",
        kind=pl.lit("unadjusted_split"),
        start="ts",
        end="ts",
        n_bars=pl.lit(1, dtype=pl.Int64),
        value="value",
        severity="severity",
        message="message",
    )


def _days(placed: pl.DataFrame) -> pl.DataFrame:
    # One row a session, with its jump from the close before and what else it tells.
    days = placed.group_by("symbol", "session", maintain_order=True).agg(
        pl.col("ts", "open").first(),
        pl.col("close").last(),
        high=pl.col("high").max(),
        low=pl.col("low").min(),
        volume=pl.col("volume").sum(),
        factor=(pl.col("adj_close") / pl.col("close")).last(),
    )
    last = pl.col("close").shift().over("symbol")
    span = (pl.col("high") / pl.col("low")).log()
    days = days.with_columns(
        last_close=last,
        last_ts=pl.col("ts").shift().over("symbol"),
        jump=(pl.col("open") / last).log(),
        move=(pl.col("close") / last).log(),
        factor_jump=pl.col("factor").log().diff().over("symbol").fill_null(0.0),
        span=pl.when(span > 0).then(span),
        volume=pl.when(pl.col("volume") > 0).then("volume"),
    )
    close = pl.col("close") / pl.col("last_close")
    before = pl.col("volume").rolling_median(VOLUME_SESSIONS, min_samples=MIN_VOLUMES)
    held = pl.col("close").rolling_median(LEVEL_SESSIONS, min_samples=1)
    usual = pl.col("span").rolling_median(SCALE_BARS, min_samples=MIN_SCALE_BARS, center=True)
    return days.with_columns(
        scale=robust_scale(pl.col("jump")).over("symbol"),
        more_volume=(before.shift(1 - VOLUME_SESSIONS) / before.shift()).over("symbol").log(),
        level=pl.coalesce(
            (held.shift(1 - LEVEL_SESSIONS) / held.shift()).over("symbol"), close
        ).log(),
        more_range=(pl.col("span") / usual.over("symbol")).log(),
    )


def _by_factor(days: pl.DataFrame) -> pl.DataFrame:
    # Where the source's own factor jumps: with the prices (they are not adjusted) or alone.
    ratios = _ratios().select("new", "old", "log_ratio")
    nearest = (
        days.join(ratios, how="cross")
        .with_columns(distance=(pl.col("factor_jump") - pl.col("log_ratio")).abs())
        .sort("symbol", "ts", "distance")
        .unique(["symbol", "ts"], keep="first", maintain_order=True)
    )
    is_split = pl.col("distance") < NEAR
    what = (
        pl.when(is_split)
        .then(pl.format("a {}:{} split", "new", "old"))
        .otherwise(
            pl.format(
                "a distribution of {}% of the price",
                (100 * (1 - (-pl.col("factor_jump")).exp())).round(1),
            )
        )
    )
    is_shown = (pl.col("move") + pl.col("factor_jump")).abs() < pl.col("factor_jump").abs() / 2
    shown = "the prices are as traded: adj_close accounts for {}; forecasts use adjusted prices"
    alone = "adj_close accounts for {} of which the prices show nothing; compare another source"
    return nearest.select(
        "symbol",
        "ts",
        value=pl.col("factor_jump").exp(),
        severity=pl.when(is_shown).then(pl.lit("note")).otherwise(pl.lit("suspect")),
        message=pl.when(is_shown).then(pl.format(shown, what)).otherwise(pl.format(alone, what)),
    )


def _by_odds(days: pl.DataFrame, always_open: set[str]) -> pl.DataFrame:
    # The odds of a split at each simple ratio against a jump of the same size.
    scale = pl.max_horizontal("scale", SCALE_FLOOR)
    rate = pl.when(pl.col("symbol").is_in(sorted(always_open))).then(log(RARE)).otherwise(0.0)
    known = pl.when(pl.col("factor").is_not_null()).then(log(OVERLOOKED)).otherwise(0.0)
    ratio = pl.col("log_ratio")
    log_odds = (
        (pl.col("weight") * SPLIT_RATE).log()
        + rate
        + known
        + _log_density((pl.col("jump") + ratio) / scale)
        - _log_density(pl.col("jump") / scale)
        + _evidence("more_volume", (ratio, DEVIATION), (pl.lit(CRASH_VOLUME), DEVIATION))
        + _evidence("more_range", (pl.lit(0.0), DEVIATION), (pl.lit(CRASH_RANGE), DEVIATION))
    )
    best = (
        days.drop_nulls("scale")
        .join(_ratios(), how="cross")
        .with_columns(log_odds=log_odds)
        .filter(pl.col("log_odds") >= log(ODDS))
        .filter((pl.col("level") + ratio).abs() < ratio.abs() / 2)
        .sort("symbol", "ts", "log_odds", descending=[False, False, True])
        .unique(["symbol", "ts"], keep="first", maintain_order=True)
    )
    said = "the price jumps as in a {}:{} split, odds {} to 1; record it, or take adjusted prices"
    odds = pl.col("log_odds").clip(None, log(MOST_ODDS)).exp().round(0).cast(pl.Int64)
    return best.select(
        "symbol",
        "ts",
        value=pl.col("new") / pl.col("old"),
        severity=pl.lit("suspect"),
        message=pl.format(said, "new", "old", odds),
    )


def _ratios() -> pl.DataFrame:
    # The simpler a ratio, the commoner: 2:1 before 3:2 before 5:4.
    frame = pl.DataFrame(RATIOS, schema={"new": pl.Int64, "old": pl.Int64}, orient="row")
    weight = 1.0 / (pl.col("new") * pl.col("old"))
    return frame.with_columns(
        weight=weight / weight.sum(), log_ratio=(pl.col("new") / pl.col("old")).log()
    )


def _log_density(z: pl.Expr) -> pl.Expr:
    # A Student t with three degrees of freedom. It lets expect 147 overnight moves beyond 20 and
    # 44 beyond 30 robust deviations in 536,000 sessions of US stocks; there were 160 and 52.
    return -2 * (3 + z * z).log()


def _evidence(name: str, split: tuple[pl.Expr, float], crash: tuple[pl.Expr, float]) -> pl.Expr:
    # Log odds of what was seen under two normal laws, bounded: the laws are rough.
    terms = [
        -0.5 * ((pl.col(name) - mean) / deviation) ** 2 - log(deviation)
        for mean, deviation in (split, crash)
    ]
    return (terms[0] - terms[1]).clip(*EVIDENCE).fill_null(0.0)
