"""Sentiment: what news, posts, indices and large trades say of a symbol, as known at its bar.

Windows are spans of time that end when the bar was known, so bars of every length see the same.
Texts about a symbol name it; those that name nobody speak of the market. A source that is absent
gives null; a symbol of which nothing was said has no score.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import Final

import polars as pl

from candlecast.domain.catalog import feature
from candlecast.features.fact_items import NANO
from candlecast.features.fact_view import SPANS
from candlecast.features.inputs import per_scale

FLOW_BARS: Final = 20


def _volume_of_bars(name: str) -> pl.Expr:
    # Sums of whole numbers in floats are exact, whatever came before the bars.
    whole, billionths = (
        pl.col(f"{name}_{unit}").rolling_sum(FLOW_BARS) for unit in ("whole", "billionths")
    )
    return whole + billionths / NANO


@feature("fear_greed_index", warmup_bars=0, settling_bars=0, table="sentiment")
def fear_greed_index() -> pl.Expr:
    """The last value of the Fear & Greed index: 0 is extreme fear, 100 extreme greed.

    The same for all symbols, whatever they are. The value about the latest day counts, and none
    that is about a day which began more than 3 days before.

    Returns
    -------
    Expr : in [0, 100]; null where no value is known, or only an older one.

    References
    ----------
    https://alternative.me/crypto/fear-and-greed-index/: volatility, momentum, social media,
    dominance and search trends of Bitcoin.
    """
    return pl.col("fear_greed").clip(0.0, 100.0)


@feature("social_sentiment_score", warmup_bars=0, settling_bars=0, table="sentiment")
def social_sentiment_score() -> pl.Expr:
    """Mean score of the posts about the symbol of the last 3 days, by the weight of each post.

    Three days reach from a Friday's close to the next Monday's.

    Returns
    -------
    Expr : in [-1, 1], bad to good; null where nobody posted about the symbol.

    References
    ----------
    Antweiler and Frank (2004), Journal of Finance 59(3), eq. 1, with scores in place of votes.
    """
    return pl.col("post_score")


@feature("news_sentiment_score", warmup_bars=0, settling_bars=0, table="sentiment")
def news_sentiment_score() -> pl.Expr:
    """Mean score of the headlines about the symbol of the last 3 days, each counted alike.

    Headlines that name no symbol count in `market_sentiment_score` only.

    Returns
    -------
    Expr : in [-1, 1], bad to good; null where no headline names the symbol.

    References
    ----------
    Tetlock, Saar-Tsechansky and Macskassy (2008), Journal of Finance 63(3).
    """
    return pl.col("news_score")


@feature("market_sentiment_score", warmup_bars=0, settling_bars=0, table="sentiment")
def market_sentiment_score() -> pl.Expr:
    """Mean score of the headlines and posts of the last 3 days that name no symbol at all.

    The same for all symbols: what is said of the market as a whole.

    Returns
    -------
    Expr : in [-1, 1], bad to good; null where nothing was said of the market.

    References
    ----------
    Tetlock (2007), Journal of Finance 62(3).
    """
    return pl.col("market_text_score")


@feature("weighted_coin_sentiment", warmup_bars=0, settling_bars=0, table="sentiment")
def weighted_coin_sentiment() -> pl.Expr:
    """Mean over coins of the score of their texts of the last 3 days, by market capitalisation.

    Coins of which nothing was said are left out; a capitalisation counts for 8 days. The same for
    all symbols.

    Returns
    -------
    Expr : in [-1, 1], bad to good; null without capitalisations, or where no coin has texts.
    """
    return pl.col("coin_score")


@feature("whale_sentiment_proxy", warmup_bars=FLOW_BARS, settling_bars=0, table="sentiment")
def whale_sentiment_proxy() -> pl.Expr:
    """Volume of large trades, with the sign of close - open of its bar, over all volume: 20 bars.

    Near 1 where large trades made most of the volume of rising bars, near -1 of falling ones. Who
    bought is not known: the direction of the bar stands for it.

    Returns
    -------
    Expr : in [-1, 1]; null where no minute of these bars had its trades counted.

    References
    ----------
    Easley and O'Hara (1987), Journal of Financial Economics 19(1): large trades are informed.
    """
    large, counted = (_volume_of_bars(name) for name in ("large_volume", "counted_volume"))
    return pl.when(counted > 0).then((large / counted).clip(-1.0, 1.0))


@feature("sentiment_divergence_score", warmup_bars=60, table="sentiment")
def sentiment_divergence_score() -> pl.Expr:
    """What was written in 3 days less what the price did in 5 bars: texts better than the price?

    The move of the price is its log return in units of the symbol's volatility, squeezed by tanh
    into -1 to 1.

    Returns
    -------
    Expr : in [-2, 2], positive where texts are better than the price; null without texts.
    """
    move = per_scale(pl.col("close").log().diff(5), 5)
    return pl.col("text_score_3d") - move.tanh()


@feature("multi_timeframe_sentiment", warmup_bars=0, settling_bars=0, table="sentiment")
def multi_timeframe_sentiment() -> pl.Expr:
    """Mean of the mean scores of the last 4 hours, 1, 3, 7 and 28 days: the newer, the weightier.

    Windows without a text are left out, so that the score fades to that of the month.

    Returns
    -------
    Expr : in [-1, 1], bad to good; null where nothing was said for 28 days.
    """
    scores = [pl.col(f"text_score_{span}") for span in SPANS]
    # Added one after the other: `mean_horizontal` adds in an order that the threads decide.
    total = reduce(add, (score.fill_null(0.0) for score in scores))
    n_told = reduce(add, (score.is_not_null().cast(pl.Float64) for score in scores))
    return pl.when(n_told > 0).then(total / n_told)


@feature("sentiment_momentum", warmup_bars=0, settling_bars=0, table="sentiment")
def sentiment_momentum() -> pl.Expr:
    """Mean score of the texts of the last 3 days less that of the last 28 days.

    Returns
    -------
    Expr : in [-2, 2], positive where texts became better; null where nothing was said for 3 days.
    """
    return pl.col("text_score_3d") - pl.col("text_score_28d")


@feature("sentiment_volatility", warmup_bars=0, settling_bars=0, table="sentiment")
def sentiment_volatility() -> pl.Expr:
    """Standard deviation of the scores of the texts of the last 7 days, by their weights.

    Returns
    -------
    Expr : in [0, 1]: 0 where all agree; null for less than two texts.

    References
    ----------
    Antweiler and Frank (2004), Journal of Finance 59(3), eq. 3: disagreement.
    """
    return pl.col("text_spread")


@feature("bullish_sentiment_ratio", warmup_bars=0, settling_bars=0, table="sentiment")
def bullish_sentiment_ratio() -> pl.Expr:
    """Share, by weight, of the texts of the last 3 days whose score is above 0.05.

    Returns
    -------
    Expr : in [0, 1]; with the bearish and the neutral share it makes 1; null without texts.
    """
    return pl.col("bullish_share")


@feature("bearish_sentiment_ratio", warmup_bars=0, settling_bars=0, table="sentiment")
def bearish_sentiment_ratio() -> pl.Expr:
    """Share, by weight, of the texts of the last 3 days whose score is below -0.05.

    Returns
    -------
    Expr : in [0, 1]; with the bullish and the neutral share it makes 1; null without texts.
    """
    return pl.col("bearish_share")


@feature("neutral_sentiment_ratio", warmup_bars=0, settling_bars=0, table="sentiment")
def neutral_sentiment_ratio() -> pl.Expr:
    """Share, by weight, of the texts of the last 3 days whose score is within 0.05 of 0.

    Returns
    -------
    Expr : in [0, 1]; with the bullish and the bearish share it makes 1; null without texts.
    """
    return pl.col("neutral_share")


@feature("sentiment_trend_strength", warmup_bars=0, settling_bars=0, table="sentiment")
def sentiment_trend_strength() -> pl.Expr:
    """Correlation of score and hour over the texts of the last 28 days, by their weights.

    Returns
    -------
    Expr : in [-1, 1]: 1 where texts became better all along; 0 where scores or hours do not
        differ; null for less than three texts.
    """
    return pl.col("text_trend")
