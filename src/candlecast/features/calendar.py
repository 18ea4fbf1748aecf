"""Calendar: what the date of a bar says."""

from __future__ import annotations

import math

import polars as pl

from candlecast.domain.catalog import feature


@feature("day_of_week", warmup_bars=0)
def day_of_week() -> pl.Expr:
    """Day of the week of the bar's session, from Monday (-1) to Sunday (1).

    Returns
    -------
    Expr : in [-1, 1]; Friday is 1/3.

    References
    ----------
    French (1980), Journal of Financial Economics 8(1): the weekend effect.
    """
    return (pl.col("ts").dt.weekday().cast(pl.Float64) - 4) / 3


@feature("turn_of_month", warmup_bars=0)
def turn_of_month() -> pl.Expr:
    """How near the bar's date is to the turn of a month: 1 on the last day, -1 in the middle.

    Returns
    -------
    Expr : in [-1, 1], the cosine of the share of the month that has passed.

    References
    ----------
    Lakonishok and Smidt (1988), Review of Financial Studies 1(4).
    """
    length = pl.col("ts").dt.days_in_month().cast(pl.Float64)
    return (2 * math.pi * pl.col("ts").dt.day().cast(pl.Float64) / length).cos()
