"""Attention: how much is said of a symbol, and which sources say anything at all.

A flag of 0 tells an absent source from a silent one: where it is 1 and nothing was said of a
symbol, its score is null and its count is 0.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from candlecast.domain.catalog import feature

MOST_TEXTS_LOG: Final = 12.0
"""Counts are kept below 160,000, as a logarithm."""


@feature("sentiment_text_count", warmup_bars=0, settling_bars=0, table="sentiment")
def sentiment_text_count() -> pl.Expr:
    """How many headlines and posts of the last 3 days name the symbol: log(1 + count).

    Returns
    -------
    Expr : in [0, 12]; 0 where nothing was said; null where neither news nor posts were known.
    """
    return pl.col("text_count").log1p().clip(0.0, MOST_TEXTS_LOG)


@feature("sentiment_attention", warmup_bars=0, settling_bars=0, table="sentiment")
def sentiment_attention() -> pl.Expr:
    """Texts about the symbol of the last 3 days against usual: log((1 + count) / (1 + usual)).

    Usual is the count of 28 days, for 3 of them. Attention comes before volume and volatility.

    Returns
    -------
    Expr : in [-3, 3]; 0 where it is as usual; null where neither news nor posts were known.

    References
    ----------
    Da, Engelberg and Gao (2011), Journal of Finance 66(5): abnormal search volume.
    """
    ratio = pl.col("text_count").log1p() - pl.col("usual_text_count").log1p()
    return ratio.clip(-3.0, 3.0)


@feature("has_news", warmup_bars=0, settling_bars=0, table="sentiment")
def has_news() -> pl.Expr:
    """Whether any headline, of anybody, was known in the last 7 days: is there a source at all?

    Returns
    -------
    Expr : in [0, 1]: 1 for yes.
    """
    return pl.col("is_news_alive")


@feature("has_posts", warmup_bars=0, settling_bars=0, table="sentiment")
def has_posts() -> pl.Expr:
    """Whether any post, of anybody, was known in the last 7 days: is there a source at all?

    Returns
    -------
    Expr : in [0, 1]: 1 for yes.
    """
    return pl.col("are_posts_alive")


@feature("has_fear_greed", warmup_bars=0, settling_bars=0, table="sentiment")
def has_fear_greed() -> pl.Expr:
    """Whether a value of the Fear & Greed index is known that is no older than 3 days.

    Returns
    -------
    Expr : in [0, 1]: 1 for yes.
    """
    return pl.col("is_fear_greed_known")


@feature("has_large_trades", warmup_bars=0, settling_bars=0, table="sentiment")
def has_large_trades() -> pl.Expr:
    """Whether the symbol's own trades were counted at any minute known in the last 3 days.

    Trades are streamed symbol by symbol, so that one is counted says nothing of another.

    Returns
    -------
    Expr : in [0, 1]: 1 for yes.
    """
    return pl.col("are_large_trades_known")


@feature("has_capitalisations", warmup_bars=0, settling_bars=0, table="sentiment")
def has_capitalisations() -> pl.Expr:
    """Whether the market capitalisation of any coin is known that is no older than 8 days.

    Returns
    -------
    Expr : in [0, 1]: 1 for yes.
    """
    return pl.col("are_capitalisations_known")
