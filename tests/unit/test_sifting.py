"""Bars of a provider sifted: what cannot be true is refused alone."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from candlecast.domain.frames import QUARANTINE, UNSTAMPED
from candlecast.monitoring.quality import find_impossible
from candlecast.providers.sifting import sift

START = datetime(2024, 1, 2, 14, 30, tzinfo=UTC)


def bars(n=3, **columns):
    frame = pl.DataFrame({"ts": [START + timedelta(minutes=m) for m in range(n)]})
    prices = {"open": 2.0, "high": 3.0, "low": 1.0, "close": 2.0, "volume": 10.0}
    values = {"symbol": "A", "source": "x", **prices} | columns
    return frame.with_columns(
        pl.Series(name, value, strict=False)
        if isinstance(value, list)
        else pl.lit(value).alias(name)
        for name, value in values.items()
    )


@pytest.mark.parametrize("wrong", [1e30, 2.5, -1.0, float("nan"), float("inf")])
def test_a_number_of_trades_that_is_no_count_refuses_its_bar_alone(wrong):
    found = sift(bars(trade_count=[7.0, wrong, None]))
    assert UNSTAMPED.check(found.bars)["trade_count"].to_list() == [7, None]
    assert QUARANTINE.check(found.quarantined)["ts"].to_list() == [START + timedelta(minutes=1)]
    assert [refusal.line for refusal in found.refusals] == [2]
    assert "trade_count" in found.refusals[0].reason


@pytest.mark.parametrize("side", ["high", "low"])
@pytest.mark.parametrize("excess", [0.00499, 0.004999, 0.005001, 0.005013, 0.00502, 0.0051])
def test_what_is_refused_at_the_door_is_what_is_called_impossible_within(side, excess):
    value = 2.0 / (1 + excess) if side == "high" else 2.0 * (1 + excess)
    other = {"low": 1.0} if side == "high" else {"high": 3.0}
    frame = bars(1, **{side: value}, **other)
    is_refused = sift(frame).bars.is_empty()
    within = find_impossible(frame)
    assert is_refused == (within["severity"].to_list() == ["bad"])
