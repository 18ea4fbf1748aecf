"""At which instants an audit cuts the future off: all over time, the week and the day."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Final

import numpy as np
import polars as pl

from candlecast.errors import NotEnoughHistory

N_INSTANTS: Final = 6
LEAST_KNOWN: Final = 4
MOST_WEIGHED: Final = 64
"""So many instants of a span are looked at to find the weekday and hour that were tried least."""
USUAL_BARS: Final = 63
_IS_TRIED: Final = "_is_tried"


def choose_instants(
    frame: pl.DataFrame, n_instants: int = N_INSTANTS, *, seed: int = 0
) -> list[datetime]:
    """`n_instants` of the known_at of `frame`, at random over its later three quarters.

    One lies in each of as many equal spans, and there on the weekday and at the hour of which
    there are fewest as yet: what looks ahead on some of them only is found as well.
    """
    known = _known(frame)
    rng = np.random.default_rng(seed)
    weekdays, hours = known.dt.weekday().to_numpy(), known.dt.hour().to_numpy()
    n_of_weekday, n_of_hour = np.zeros(8), np.zeros(24)
    edges = np.linspace(len(known) // 4, len(known) - 1, n_instants + 1).astype(int)
    chosen = []
    for start, stop in pairwise(edges):
        if start == stop:
            continue
        places = start + rng.permutation(stop - start)[:MOST_WEIGHED]
        tried = n_of_weekday[weekdays[places]] + n_of_hour[hours[places]]
        place = int(places[tried.argmin()])
        n_of_weekday[weekdays[place]] += 1
        n_of_hour[hours[place]] += 1
        chosen.append(known[place])
    return chosen


def unusual_instants(prices: pl.DataFrame, n_instants: int) -> list[datetime]:
    """The known_at of `n_instants` bars at most whose moves or volumes are far from usual.

    They are among the later three quarters again, every second one for its move. What looks ahead
    after a large move only is found where the future of such a bar is cut off.
    """
    known = _known(prices)
    is_tried = pl.col("known_at").is_between(known[len(known) // 4], known[-2])
    move, volume = pl.col("close").log().diff().abs(), pl.col("volume")
    ranks = [
        (size / (size.rolling_mean(USUAL_BARS, min_samples=20).shift())).over("segment").alias(name)
        for name, size in (("move", move), ("volume", volume))
    ]
    bars = prices.select("symbol", "known_at", is_tried.alias(_IS_TRIED), *ranks)
    bars = bars.filter(_IS_TRIED)
    found: dict[datetime, None] = {}
    for name, n_wanted in (("move", (n_instants + 1) // 2), ("volume", n_instants)):
        finite = bars.filter(pl.col(name).is_finite())
        # The first of each symbol, then the second of each: no symbol stands for all.
        rank = pl.col(name).rank("ordinal", descending=True).over("symbol").alias("rank")
        first = finite.select("known_at", name, rank).sort("rank", name, descending=[False, True])
        for instant in first["known_at"].head(4 * n_instants):
            if len(found) < n_wanted:
                found[instant] = None
    return sorted(found)


def _known(frame: pl.DataFrame) -> pl.Series:
    known = frame["known_at"].unique().sort()
    if len(known) < LEAST_KNOWN:
        raise NotEnoughHistory(
            f"an audit needs {LEAST_KNOWN} distinct known_at, there are {len(known)}; "
            "ingest more bars, or name symbols that have them"
        )
    return known
