"""Calendar: what the date of a bar says."""

from __future__ import annotations

import math
from typing import Final

import polars as pl

from candlecast.domain.catalog import feature

MICROSECONDS_A_DAY: Final = 86_400_000_000


@feature("day_of_week", warmup_bars=0, settling_bars=0)
def day_of_week() -> pl.Expr:
    """Day of the week of the bar's session, from Monday (-1) to Sunday (1).

    Returns
    -------
    Expr : in [-1, 1]; Friday is 1/3; never null.

    References
    ----------
    French (1980), Journal of Financial Economics 8(1): the weekend effect.
    """
    return (pl.col("ts").dt.weekday().cast(pl.Float64) - 4) / 3


@feature("turn_of_month", warmup_bars=0, settling_bars=0)
def turn_of_month() -> pl.Expr:
    """How near the bar's date is to the turn of a month: 1 on the last day, -1 in the middle.

    Returns
    -------
    Expr : in [-1, 1], the cosine of the share of the month that has passed; never null.

    References
    ----------
    Lakonishok and Smidt (1988), Review of Financial Studies 1(4).
    """
    length = pl.col("ts").dt.days_in_month().cast(pl.Float64)
    return (2 * math.pi * pl.col("ts").dt.day().cast(pl.Float64) / length).cos()


@feature("month", warmup_bars=0, is_input=False, settling_bars=0)
def month() -> pl.Expr:
    """Month of the bar's date.

    Returns
    -------
    Expr : from 1, January, to 12; never null.

    References
    ----------
    Rozeff and Kinney (1976), Journal of Financial Economics 3(4): January is unlike the others.
    """
    return pl.col("ts").dt.month().cast(pl.Float64)


@feature("hour_of_day", warmup_bars=0, is_input=False, settling_bars=0)
def hour_of_day() -> pl.Expr:
    """Hour of the day, with its fraction, at which the bar begins.

    Returns
    -------
    Expr : hours UTC, from 0 to below 24; never null; 0 for daily bars.
    """
    return _share_of_day() * 24


@feature("time_of_day", warmup_bars=0, settling_bars=0)
def time_of_day() -> pl.Expr:
    """Time of the day, UTC, at which the bar begins, from midnight (-1) to the next one (1).

    Returns
    -------
    Expr : in [-1, 1); never null; -1 for daily bars.

    References
    ----------
    Andersen and Bollerslev (1997), Journal of Empirical Finance 4(2-3): volatility within the day.
    """
    return 2 * _share_of_day() - 1


def _share_of_day() -> pl.Expr:
    return (pl.col("ts").to_physical() % MICROSECONDS_A_DAY) / MICROSECONDS_A_DAY
