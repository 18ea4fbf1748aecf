"""Events: unusual bars whose quarter of a year comes round again, such as those of reports."""

from __future__ import annotations

import polars as pl

from candlecast.domain.catalog import feature
from candlecast.features.seasons import how_unusual


@feature("event_due_1", warmup_bars=66)
def event_due_1() -> pl.Expr:
    """How unusual the bars were that lie one to four quarters before the next one, on average.

    Returns
    -------
    Expr : in [-4, 5.5], log volume and volatility over their means of 63 bars; 0 where no bar is
        so old.

    References
    ----------
    Patell and Wolfson (1981), Journal of Accounting Research 19(2): prices move when companies
    report, and the dates are known beforehand; here they are read off volume and range.
    """
    return _due("next")


@feature("event_due_3", warmup_bars=66)
def event_due_3() -> pl.Expr:
    """As event_due_1, of the most unusual of the three bars around that day of each quarter.

    Returns
    -------
    Expr : in [-4, 5.5]; 0 where no bar is so old.

    References
    ----------
    Patell and Wolfson (1981), Journal of Accounting Research 19(2).
    """
    return _due("near")


@feature("event_due_5", warmup_bars=66)
def event_due_5() -> pl.Expr:
    """As event_due_1, of the most unusual of the five bars that began then: the coming week's.

    Returns
    -------
    Expr : in [-4, 5.5]; 0 where no bar is so old.

    References
    ----------
    Patell and Wolfson (1981), Journal of Accounting Research 19(2).
    """
    return _due("week")


@feature("event_due_11", warmup_bars=66)
def event_due_11() -> pl.Expr:
    """As event_due_5, with three more bars on either side: reports are not always on time.

    Returns
    -------
    Expr : in [-4, 5.5]; 0 where no bar is so old.

    References
    ----------
    Patell and Wolfson (1981), Journal of Accounting Research 19(2).
    """
    return _due("around")


@feature("event_recent_55", warmup_bars=66)
def event_recent_55() -> pl.Expr:
    """How unusual the most unusual of the last 55 bars was: whether the quarter had its event.

    Returns
    -------
    Expr : in [-4, 5.5], log volume and volatility over their means of 63 bars; 0 where the price
        stands still and nothing is traded.

    References
    ----------
    Patell and Wolfson (1981), Journal of Accounting Research 19(2).
    """
    return how_unusual().rolling_max(55, min_samples=1)


def _due(part: str) -> pl.Expr:
    return pl.col("seasons").struct.field(part)
