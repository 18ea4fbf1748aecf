"""Columns made of facts besides prices: what was known of a symbol when its bar was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain.distribution import FloatArray
from candlecast.domain.facts import Facts
from candlecast.features.fact_view import SPANS, FactView

USUAL_SHARE: Final = SPANS["3d"] / SPANS["28d"]


def _score(kind: str, span: str) -> Callable[[FactView], FloatArray]:
    return lambda view: view.score(kind, span)


def _share(side: str) -> Callable[[FactView], FloatArray]:
    return lambda view: view.share(side, "3d")


def _volume(name: str) -> Callable[[FactView], FloatArray]:
    return lambda view: view.volumes[name]


def _count(span: str) -> Callable[[FactView], FloatArray]:
    # Nobody counts what no source could have told.
    return lambda view: np.where(
        (view.is_alive("news") + view.is_alive("post")) > 0, view.text_sum("count", span), np.nan
    )


FACT_INPUTS: Final[dict[str, Callable[[FactView], FloatArray]]] = {
    "news_score": _score("news", "3d"),
    "post_score": _score("post", "3d"),
    **{f"text_score_{span}": _score("text", span) for span in SPANS},
    "market_text_score": lambda view: view.market_score("3d"),
    "text_spread": lambda view: view.spread("7d"),
    "text_trend": lambda view: view.trend("28d"),
    "bullish_share": _share("bullish"),
    "bearish_share": _share("bearish"),
    "neutral_share": _share("neutral"),
    "text_count": _count("3d"),
    "usual_text_count": lambda view: _count("28d")(view) * USUAL_SHARE,
    "is_news_alive": lambda view: view.is_alive("news"),
    "are_posts_alive": lambda view: view.is_alive("post"),
    "fear_greed": lambda view: view.fear_greed,
    "is_fear_greed_known": lambda view: (~np.isnan(view.fear_greed)).astype(np.float64),
    "coin_score": lambda view: view.coin_score,
    "are_capitalisations_known": lambda view: view.are_capitalisations_known,
    "large_volume_whole": _volume("large_volume_whole"),
    "large_volume_billionths": _volume("large_volume_billionths"),
    "counted_volume_whole": _volume("counted_volume_whole"),
    "counted_volume_billionths": _volume("counted_volume_billionths"),
    "are_large_trades_known": lambda view: view.are_large_trades_known,
}
"""What a feature may name beside the columns of PRICES and `INPUTS`: a value a row of PRICES.

Each is a column of floats, NaN where the source is absent or has said nothing of the symbol.
"""


def with_fact_inputs(prices: pl.DataFrame, facts: Facts, names: Sequence[str]) -> pl.DataFrame:
    """`prices` with the columns `names`: as known at each row's `known_at`, null where absent."""
    if prices.is_empty():
        return prices.with_columns(pl.lit(None, pl.Float64).alias(name) for name in names)
    view = FactView(prices, facts)
    return prices.with_columns(
        pl.Series(name, FACT_INPUTS[name](view), pl.Float64, nan_to_null=True) for name in names
    )
