"""Five US stocks, daily from 2000 to 2013: real bars that travel with the package."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.frames import UNSTAMPED
from candlecast.domain.market import Clock, Timeframe
from candlecast.domain.sources import Fetched, Request
from candlecast.providers.rows import fetch_daily

SOURCE: Final = "sample"
ENDS_AT: Final = datetime(2013, 3, 1, 21, 0, tzinfo=UTC)
"""The close of the last bar: where a clock must stand for the data to be fresh."""
FILE: Final = Path(__file__).parent / "data" / "us_stocks.parquet"


@PROVIDERS.register(SOURCE)
class SampleProvider:
    """Daily bars of AAPL, FB, GOOG, IBM and MSFT, public domain.

    Prices are as traded in US dollars, adj_close is adjusted for splits and dividends; vwap and
    trade_count are null.

    Raises
    ------
    InvalidSpec : another timeframe than 1d is asked for.

    References
    ----------
    Quandl WIKI Prices, by way of the PyPI package bokeh-sampledata; see data/PROVENANCE.md.
    """

    delay_seconds = 0.0
    is_bulk = True

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        """Closed bars of the symbols (None: all five)."""
        rows = pl.read_parquet(FILE).with_columns(source=pl.lit(SOURCE))
        return fetch_daily(UNSTAMPED.conform(rows), request, timeframe, clock)
