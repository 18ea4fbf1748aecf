"""Features against their twins on real bars, with gaps and silences, and on drawn ones."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from candlecast.domain.market import Timeframe, trading_calendar
from feature_twins import assert_all_agree
from price_frames import DAILY, PIECES, drawn_prices, prices_of, stamped

SHARED = Path(__file__).parents[3] / "shared" / "data"
MINUTE = Timeframe.parse("1m")
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
"""All twins of one frame take seconds."""
quiet = pytest.mark.filterwarnings("ignore:.* encountered:RuntimeWarning")


def real_prices(file, symbols, timeframe, n_bars):
    """PRICES of the first bars of some symbols; without eight sessions of the first one."""
    path = SHARED / file
    if not path.is_file():
        pytest.skip(f"NO REAL DATA: {path} is absent, so features are not compared on real bars")
    bars = pl.read_parquet(path).filter(pl.col("symbol").is_in(symbols))
    place = pl.int_range(pl.len()).over("symbol")
    is_missing = (pl.col("symbol") == symbols[0]) & place.is_between(200, 207)
    bars = bars.filter((place < n_bars) & ~is_missing).sort("symbol", "ts")
    instants = bars.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    return prices_of(stamped(instants, timeframe, trading_calendar("XNYS")), timeframe)


@quiet
def test_on_daily_bars_of_rarely_traded_stocks_every_feature_agrees_with_its_twin():
    prices = real_prices("us_daily/us_daily.parquet", ["GENE", "TOMZ"], DAILY, 460)
    assert prices["segment"].n_unique() == 3
    assert (prices["volume"] == 0).sum() > 50
    assert (prices["high"] == prices["low"]).sum() > 50
    assert_all_agree(prices)


@quiet
def test_on_minutes_with_gaps_every_feature_agrees_with_its_twin():
    prices = real_prices("us_1m/us_1m.parquet", ["FDS", "SW"], MINUTE, 480)
    minutes = prices["ts"].diff().dt.total_minutes().drop_nulls()
    assert (minutes > 1).sum() > 50
    assert prices["session"].n_unique() > 2
    assert_all_agree(prices)


@quiet
@settings(max_examples=5, phases=UNSHRUNK)
@given(pieces=st.lists(PIECES, min_size=4, max_size=8), seed=st.integers(0, 10**6))
def test_on_drawn_prices_every_feature_agrees_with_its_twin(pieces, seed):
    assert_all_agree(drawn_prices(pieces, seed))
