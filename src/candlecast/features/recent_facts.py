"""How far back the facts reach that the newest rows of a feature set depend on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import cast

import polars as pl

from candlecast.features.fact_view import SPANS
from candlecast.features.plan import Plan
from candlecast.features.windows import cut_windows, market_rows


def first_fact_at(prices: pl.DataFrame, names: Sequence[str]) -> datetime | None:
    """What was known until then changes no value of `newest`, not by a bit; None without facts.

    That is the longest span of `SPANS` before the first bar on which these values depend. A symbol
    whose last bar is old reaches back as far.
    """
    plan = Plan.of(names)
    if not plan.fact_inputs or prices.is_empty():
        return None
    targets = prices.group_by("symbol").agg(pl.col("ts").last())["ts"].unique().sort()
    windows = cut_windows(prices, targets, plan.window_bars)
    rows = [windows]
    if plan.market:
        rows.append(market_rows(prices, windows, plan, plan.window_bars))
    first = min(cast("datetime", frame["ts"].min()) for frame in rows)
    return first - timedelta(microseconds=max(SPANS.values()))
