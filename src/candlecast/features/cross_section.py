"""Cross-section: a symbol among all symbols with a bar of the same ts, and their market.

Expressions name the symbol features that they compare; a symbol whose value is null (it is
warming up, or does not move) is no member of the market on that bar.
"""

from __future__ import annotations

import polars as pl

from candlecast.domain.catalog import feature


def _rank(name: str) -> pl.Expr:
    # Rounded, so that symbols that move alike share a rank and rounding does not decide.
    value = pl.col(name).round(6)
    return (value.rank() - 0.5) / value.count() - 0.5


@feature("return_rank_21", warmup_bars=60, scope="universe")
def return_rank_21() -> pl.Expr:
    """Rank of the symbol's return of 21 bars, per volatility, among all symbols.

    Returns
    -------
    Expr : in (-0.5, 0.5), 0 for a symbol alone; null where the return is.

    References
    ----------
    Jegadeesh and Titman (1993), Journal of Finance 48(1).
    """
    return _rank("return_21")


@feature("volatility_rank_5", warmup_bars=60, scope="universe")
def volatility_rank_5() -> pl.Expr:
    """Rank of the symbol's volatility ratio of 5 bars among all symbols.

    Returns
    -------
    Expr : in (-0.5, 0.5), 0 for a symbol alone; null where the ratio is.
    """
    return _rank("har_5")


@feature("market_return_1", warmup_bars=60, scope="universe")
def market_return_1() -> pl.Expr:
    """Mean over all symbols of the last bar's return per volatility.

    Returns
    -------
    Expr : in [-10, 10]; null where no symbol has one.
    """
    return pl.col("return_1").mean()


@feature("market_return_5", warmup_bars=60, scope="universe")
def market_return_5() -> pl.Expr:
    """Mean over all symbols of the return of 5 bars per volatility.

    Returns
    -------
    Expr : in [-10, 10]; null where no symbol has one.
    """
    return pl.col("return_5").mean()


@feature("market_dispersion_1", warmup_bars=60, scope="universe")
def market_dispersion_1() -> pl.Expr:
    """Standard deviation across all symbols of the last bar's return per volatility.

    Returns
    -------
    Expr : in [0, 10]; 0 for a symbol alone; null where no symbol has one.

    References
    ----------
    Stivers (2003), Journal of Financial Markets 6(4): dispersion and future volatility.
    """
    return pl.col("return_1").std(ddof=0)


@feature("market_volatility_1", warmup_bars=60, scope="universe")
def market_volatility_1() -> pl.Expr:
    """Median over all symbols of the last bar's volatility ratio `har_1`.

    Returns
    -------
    Expr : in [-3, 3]; null where no symbol has one.
    """
    return pl.col("har_1").median()


@feature("market_volatility_5", warmup_bars=60, scope="universe")
def market_volatility_5() -> pl.Expr:
    """Median over all symbols of the volatility ratio of 5 bars, `har_5`.

    Returns
    -------
    Expr : in [-3, 3]; null where no symbol has one.
    """
    return pl.col("har_5").median()
