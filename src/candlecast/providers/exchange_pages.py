"""Candles of an exchange page by page, and between which instants none of them can be missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from candlecast.providers.exchange_client import ExchangeClient

DAY: Final = 86_400_000


@dataclass(frozen=True)
class Candles:
    """Candles by when they begin; complete from `since` to `until`, or the end asked for.

    A candle is its time, open, high, low, close and volume, and where the venue tells them the
    money and the number of trades.
    """

    rows: dict[int, list[Any]]
    since: int
    until: int | None
    """Where the venue's answers stop, when that is a little before the end."""
    is_cut: bool
    """Whether the venue may have left out what lies before `since`."""


def fetch_candles(
    client: ExchangeClient, name: str, timeframe: str, since: int, end: int
) -> Candles:
    """All candles of a market that begin in since <= ms < end, and one page beyond at most.

    Each page begins where the last candle of the one before ends, or, after an empty one, as far
    on as a page can reach: so no candle is missed, and time always passes. Some venues tell only
    their newest candles, whatever is asked for: a span before the first candle was quiet only
    where the venue tells one that is older still.
    """
    step = client.milliseconds(timeframe)
    rows: dict[int, list[Any]] = {}
    at, until, is_reached = since, None, since >= end
    while at < end:
        page = client.page(name, timeframe, at, end)
        if not rows and page.oldest is not None:
            is_reached = page.oldest < since + step
        rows |= {row[0]: row for row in page.rows}
        if page.is_behind:
            until = at
            break
        at = page.rows[-1][0] + step if page.rows else at + client.page_bars * step
    if not is_reached:
        before = client.page(name, timeframe, since - client.page_bars * step, since)
        is_reached = before.oldest is not None and before.oldest < since
    first = since if is_reached else min(rows, default=end)
    return Candles(rows, first, until, not is_reached)


def find_first(client: ExchangeClient, name: str, since: int, end: int) -> int | None:
    """When the first day with a candle begins, in milliseconds; None where there is none."""
    if "1d" not in client.timeframes:
        return since
    at = since
    while at < end:
        page = client.page(name, "1d", at, end)
        if page.rows:
            return int(page.rows[0][0])
        at += client.page_bars * DAY
    return None
