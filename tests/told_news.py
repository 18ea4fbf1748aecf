"""A provider of news for tests: one headline a day about IBM, whenever it is asked."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from candlecast.domain.frames import NEWS
from candlecast.domain.sources import FetchedRows, Request


class Paper:
    """Tells `headline` about IBM as published at each of `instants`, and known a minute later."""

    def __init__(self, headline: str, *instants: datetime) -> None:
        rows = [
            {
                "id": f"{headline} {number}",
                "published_at": instant,
                "source": "paper",
                "headline": f"{headline} {number}",
                "symbols": ["IBM"],
                "known_at": instant + timedelta(minutes=1),
            }
            for number, instant in enumerate(instants)
        ]
        self.rows = NEWS.conform(pl.DataFrame(rows))

    def fetch_news(self, request: Request, clock: object) -> FetchedRows:
        return FetchedRows(self.rows)
