"""What was known of facts at each row of PRICES: texts, indices, capitalisations.

1. A row sees what was known at its `known_at`, and of that only spans of time that end then.
2. A text counts once for each symbol that it names, by its weight: within a thousandth and a
   thousand times that of an ordinary one, so that nobody's followers decide alone.
3. A text that names nobody speaks of the market: it counts for no symbol, but stands by itself.
4. Scores count in ten-thousandths and weights in thousandths, so that sums are exact.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain.distribution import FloatArray
from candlecast.domain.dominance import TOTAL
from candlecast.domain.facts import Facts
from candlecast.features.fact_items import (
    Integers,
    Items,
    last_known,
    microseconds,
    parted,
    ratio,
    runs_of,
)
from candlecast.features.large_flow import bar_volumes

HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
SPANS: Final = {"4h": 4 * HOUR, "1d": DAY, "3d": 3 * DAY, "7d": 7 * DAY, "28d": 28 * DAY}
"""The trailing windows. Three days reach from a Friday's close to the next Monday's."""
ALIVE: Final = 7 * DAY
"""A source of texts that has said nothing for so long is absent."""
INDEX_AGE: Final = 3 * DAY
"""Fear & Greed comes daily; a value about a day that began longer ago is no longer known."""
CAPITALISATION_AGE: Final = 8 * DAY
"""Capitalisations come daily or weekly; older ones are no longer known."""
MARKET: Final = ""
"""Stands for the market among the symbols that texts name."""
FEAR_GREED: Final = "fear_greed"
COIN: Final = r"-[A-Z]{3,5}$"
"""A coin is named with the currency it is counted in, such as BTC-USD."""
SCORE_UNITS: Final = 10_000
WEIGHT_UNITS: Final = 1_000
WEIGHTS: Final = (0.001, 1000.0)
LEAST_VARIANCE: Final = 1e-3
"""Of scores in ten-thousandths and of hours: what is smaller is rounding."""
CLEAR: Final = 0.05
"""A score further from 0 than this takes a side."""


class FactView:
    """What each row of PRICES knows of `facts`; what several columns need is computed once."""

    def __init__(self, prices: pl.DataFrame, facts: Facts) -> None:
        self._prices = prices
        self._facts = facts
        self._places: dict[int, Integers] = {}
        self._alive: dict[str, FloatArray] = {}

    @cached_property
    def as_of(self) -> Integers:
        """(n_rows,) microseconds: when each row was known."""
        return microseconds(self._prices["known_at"])

    def text_sum(self, name: str, span: str) -> FloatArray:
        """(n_rows,): the sum of an amount of the texts about the row's symbol within a span."""
        after, until = (self._text_places(back) for back in (SPANS[span], 0))
        return self._texts.between(name, after, until).astype(np.float64)

    def score(self, kind: str, span: str) -> FloatArray:
        """(n_rows,) in [-1, 1]: weighted mean score of the texts of a kind; NaN for no text."""
        return _mean(*(self.text_sum(f"{kind}_{part}", span) for part in ("score", "weight")))

    def market_score(self, span: str) -> FloatArray:
        """(n_rows,) in [-1, 1]: weighted mean score of the texts that name nobody."""
        return self._by_instant(self._score_of(MARKET, self._instants[0], span))

    def share(self, side: str, span: str) -> FloatArray:
        """(n_rows,) in [0, 1]: what share of the texts, by weight, takes a side."""
        return ratio(self.text_sum(side, span), self.text_sum("text_weight", span))

    def spread(self, span: str) -> FloatArray:
        """(n_rows,) in [0, 1]: standard deviation of the scores; NaN for less than two texts."""
        weight, score, squares = (
            self.text_sum(f"text_{part}", span) for part in ("weight", "score", "square")
        )
        variance = ratio(squares, weight) - ratio(score, weight) ** 2
        spread = np.sqrt(np.maximum(variance, 0.0)) / SCORE_UNITS
        return np.where(self.text_sum("count", span) >= 2, spread, np.nan)

    def trend(self, span: str) -> FloatArray:
        """(n_rows,) in [-1, 1]: correlation of score and hour; NaN for less than three texts."""
        found = np.full(len(self.as_of), np.nan)
        rows = np.flatnonzero(self.text_sum("count", span) >= 3)
        after, until = (self._text_places(back)[rows] for back in (SPANS[span], 0))
        names = ("weight", "score", "square", "hour", "hour_square", "hour_score")
        w, s, ss, h, hh, hs = (self._texts.between(f"text_{n}", after, until) for n in names)
        # Hours counted from the row's own: integers, so that this too is exact.
        now = self.as_of[rows] // HOUR
        h, hh, hs = h - now * w, hh - 2 * now * h + now * now * w, hs - now * s
        score, hour, squares, hours, both = (x / w for x in (s, h, ss, hh, hs))
        variances = squares - score**2, hours - hour**2
        does_vary = np.minimum(*variances) > LEAST_VARIANCE
        root = np.sqrt(np.where(does_vary, variances[0] * variances[1], 1.0))
        correlation = np.where(does_vary, both - score * hour, 0.0) / root
        found[rows] = np.clip(correlation, -1.0, 1.0)
        return found

    def is_alive(self, kind: str) -> FloatArray:
        """(n_rows,) of 1 and 0: whether any text of a kind, about anybody, was known recently."""
        if kind not in self._alive:
            known = microseconds(self._facts.texts.filter(kind=kind)["known_at"].sort())
            now = self._instants[0]
            until, after = (np.searchsorted(known, at, side="right") for at in (now, now - ALIVE))
            self._alive[kind] = self._by_instant((until > after).astype(np.float64))
        return self._alive[kind]

    @cached_property
    def fear_greed(self) -> FloatArray:
        """(n_rows,) in [0, 100]: the index's last value; NaN where it is too old."""
        index = self._facts.indices.filter(pl.col("name") == FEAR_GREED)
        return self._by_instant(self._last_values(index, self._instants[0], INDEX_AGE))

    @cached_property
    def are_capitalisations_known(self) -> FloatArray:
        """(n_rows,) of 1 and 0: whether the size of any coin is known."""
        return self._by_instant(self._coins[0])

    @cached_property
    def coin_score(self) -> FloatArray:
        """(n_rows,) in [-1, 1]: mean score of the coins by size; NaN where nothing is known."""
        return self._by_instant(self._coins[1])

    @cached_property
    def are_large_trades_known(self) -> FloatArray:
        """(n_rows,) of 1 and 0: whether large trades of the row's own symbol were counted."""
        trades = self._facts.large_trades.select("symbol", "known_at").sort("symbol", "known_at")
        items = Items(trades["symbol"], microseconds(trades["known_at"]), {})
        found = np.zeros(len(self.as_of))
        for symbol, start, end in self._runs:
            at = self.as_of[start:end]
            n_recent = items.places(symbol, at) - items.places(symbol, at - SPANS["3d"])
            found[start:end] = n_recent > 0
        return found

    @cached_property
    def volumes(self) -> dict[str, FloatArray]:
        """(n_rows,) each: volumes of the row's bar, in whole units and in billionths."""
        amounts = bar_volumes(self._prices, self._facts.large_trades)
        pairs = zip(("large_volume", "counted_volume"), map(parted, amounts), strict=True)
        return {
            f"{name}_{unit}": part
            for name, parts in pairs
            for unit, part in zip(("whole", "billionths"), parts, strict=True)
        }

    @cached_property
    def _runs(self) -> list[tuple[str, int, int]]:
        return runs_of(self._prices["symbol"])

    @cached_property
    def _texts(self) -> Items:
        texts = self._facts.texts.select(
            pl.col("symbols").list.unique(),
            pl.col("known_at").to_physical(),
            (pl.col("kind") == "news").cast(pl.Int64).alias("is_news"),
            (pl.col("weight").clip(*WEIGHTS) * WEIGHT_UNITS).round().cast(pl.Int64).alias("weight"),
            (pl.col("score") * SCORE_UNITS).round().cast(pl.Int64).alias("score"),
        )
        exploded = texts.explode("symbols", empty_as_null=True)
        items = exploded.with_columns(pl.col("symbols").fill_null(MARKET))
        items = items.sort("symbols", "known_at")
        numbers = {name: items[name].to_numpy() for name in items.columns[1:]}
        return Items(items["symbols"], numbers["known_at"], _amounts(**numbers))

    def _text_places(self, back: int) -> Integers:
        if back not in self._places:
            found = np.empty(len(self.as_of), dtype=np.int64)
            for symbol, start, end in self._runs:
                found[start:end] = self._texts.places(symbol, self.as_of[start:end] - back)
            self._places[back] = found
        return self._places[back]

    def _score_of(self, symbol: str, instants: Integers, span: str) -> FloatArray:
        # (n_instants,): the mean score of the texts about one symbol, or the market.
        after, until = (self._texts.places(symbol, instants - back) for back in (SPANS[span], 0))
        parts = ("text_score", "text_weight")
        return _mean(*(self._texts.between(n, after, until).astype(np.float64) for n in parts))

    @cached_property
    def _instants(self) -> tuple[Integers, Integers]:
        instants = microseconds(self._prices["known_at"].unique().sort())
        return instants, np.searchsorted(instants, self.as_of)

    def _by_instant(self, values: FloatArray) -> FloatArray:
        # What is the same for all symbols is computed once an instant.
        return values[self._instants[1]]

    @cached_property
    def _coins(self) -> tuple[FloatArray, FloatArray]:
        # Whether any size is known, and the mean score by size, at each distinct instant.
        instants = self._instants[0]
        is_coin = pl.col("asset").str.contains(COIN) & (pl.col("asset") != TOTAL)
        coins = self._facts.capitalisations.filter(is_coin & (pl.col("value") > 0))
        is_known = np.zeros(len(instants))
        total, scored = np.zeros(len(instants)), np.zeros(len(instants))
        for (asset,), rows in coins.group_by("asset", maintain_order=True):
            size = self._last_values(rows, instants, CAPITALISATION_AGE)
            score = self._score_of(str(asset), instants, "3d")
            is_known = np.where(np.isnan(size), is_known, 1.0)
            has_both = ~np.isnan(size) & ~np.isnan(score)
            total += np.where(has_both, size, 0.0)
            scored += np.where(has_both, size * score, 0.0)
        return is_known, np.clip(ratio(scored, total), -1.0, 1.0)

    @staticmethod
    def _last_values(rows: pl.DataFrame, instants: Integers, age: int) -> FloatArray:
        # The value about the latest `ts` known at each instant, NaN where that is too old.
        if rows.is_empty():
            return np.full(len(instants), np.nan)
        ts = microseconds(rows["ts"])
        place = last_known(ts, microseconds(rows["known_at"]), instants)
        is_fresh = (place >= 0) & (instants - ts[place] <= age)
        return np.where(is_fresh, rows["value"].to_numpy()[place], np.nan)


def _amounts(
    known_at: Integers, is_news: Integers, weight: Integers, score: Integers
) -> dict[str, Integers]:
    hour = known_at // HOUR
    clear = round(CLEAR * SCORE_UNITS)
    kinds = {"news": is_news, "post": 1 - is_news}
    return {
        "count": np.ones(len(weight), dtype=np.int64),
        **{f"{kind}_weight": weight * is_kind for kind, is_kind in kinds.items()},
        **{f"{kind}_score": weight * score * is_kind for kind, is_kind in kinds.items()},
        "bullish": weight * (score > clear),
        "bearish": weight * (score < -clear),
        "neutral": weight * (np.abs(score) <= clear),
        "text_weight": weight,
        "text_score": weight * score,
        "text_square": weight * score**2,
        "text_hour": weight * hour,
        "text_hour_square": weight * hour**2,
        "text_hour_score": weight * hour * score,
    }


def _mean(score: FloatArray, weight: FloatArray) -> FloatArray:
    return ratio(score, weight) / SCORE_UNITS
