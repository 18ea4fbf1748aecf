"""No false alarm: every shipped feature passes every gate, on fair, on nasty and on finer bars."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES
from candlecast.domain.market import Timeframe, trading_calendar
from candlecast.features.compute import compute, newest
from candlecast.features.inputs import STILL_BARS
from candlecast.validation.gates import run_gates, unseen, untested_warm_up
from candlecast.validation.trial import Engine, Trial
from fact_frames import seeded_facts
from price_frames import daily_prices, nasty_prices, prices_of, stamped

FIVE_MINUTES = Timeframe.parse("5m")


def five_minute_prices() -> pl.DataFrame:
    """PRICES of three symbols: one is not traded in every bar, one is missing for a week."""
    rng = np.random.default_rng(21)
    calendar = trading_calendar("XNYS")
    is_chosen = calendar.sessions >= np.datetime64("2021-03-01")
    opens = calendar.sessions[is_chosen][:24].astype("datetime64[us]") + np.timedelta64(870, "m")
    ts = pl.Series((opens[:, None] + np.arange(78) * np.timedelta64(5, "m")).reshape(-1))
    frames = []
    for symbol in ("DENSE", "GAPPY", "RARE"):
        close = 50 * np.exp(np.cumsum(rng.normal(0, 1e-3, len(ts))))
        frame = pl.DataFrame({"ts": ts.dt.replace_time_zone("UTC"), "close": close}).with_columns(
            symbol=pl.lit(symbol),
            open=close * np.exp(rng.normal(0, 5e-4, len(ts))),
            volume=np.exp(rng.normal(8, 1, len(ts))),
            is_traded=rng.random(len(ts)) < (0.8 if symbol == "RARE" else 1.0),
        )
        frame = frame.with_columns(
            high=pl.max_horizontal("open", "close") * 1.0005,
            low=pl.min_horizontal("open", "close") * 0.9995,
        )
        gap = frame["ts"][700], frame["ts"][700] + timedelta(days=9)
        is_there = ~pl.col("ts").is_between(*gap) | (pl.col("symbol") != "GAPPY")
        frames.append(frame.filter(is_there & pl.col("is_traded")).drop("is_traded"))
    return prices_of(stamped(pl.concat(frames), FIVE_MINUTES, calendar), FIVE_MINUTES)


MARKETS = {
    "fair": lambda: daily_prices(seed=11, n_symbols=5, n_sessions=1300),
    "nasty": lambda: nasty_prices(n_sessions=1100),
    "five minutes": five_minute_prices,
}


@pytest.mark.parametrize("market", MARKETS)
def test_every_shipped_feature_passes_every_gate(market):
    prices = MARKETS[market]()
    names = FEATURES.names()
    engine = Engine(compute, newest, STILL_BARS)
    trial = Trial(engine, prices, names, seeded_facts(prices, 3), seed=1)
    assert run_gates(trial) == []
    assert untested_warm_up(trial) == ()
    assert unseen(trial) == (), "else nothing was tried"
