"""Real data with known defects, and real data with planted ones: recall and false alarms."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from candlecast.domain.market import Timeframe, trading_calendar
from planted_defects import (
    SHARED,
    findings_of,
    n_new_elsewhere,
    per_thousand,
    plant,
    recall,
    shared_bars,
)

DAILY, HOURLY, MINUTE = (Timeframe.parse(name) for name in ("1d", "1h", "1m"))
FILES = {
    "us_daily": ("us_daily/us_daily.parquet", DAILY, "XNYS"),
    "m6": ("m6/m6_history.parquet", DAILY, "XNYS"),
    "b3": ("b3_daily/b3_daily.parquet", DAILY, "BVMF"),
    "crypto_1d": ("crypto_1d/crypto_1d.parquet", DAILY, "24/7"),
    "btc_eth": ("crypto_1d/btc_eth_1d.parquet", DAILY, "24/7"),
    "lean": ("lean/equities_daily_raw.parquet", DAILY, "XNYS"),
    "lean_1h": ("lean/equities_hour_raw.parquet", HOURLY, "XNYS"),
    "lean_1m": ("lean/equities_1m_sample.parquet", MINUTE, "XNYS"),
    "krw_1h": ("crypto_1h/crypto_krw_1h.parquet", HOURLY, "24/7"),
    "us_1m": ("us_1m/us_1m.parquet", MINUTE, "XNYS"),
    "crypto_1m": ("crypto_1m/crypto_1m.parquet", MINUTE, "24/7"),
}
KIND_OF = {
    "ohlc_inconsistent": "impossible",
    "non_positive_price": "impossible",
    "extreme_return": "extreme_return",
    "close_not_split_adjusted_or_big_distribution": "unadjusted_split",
}
pytestmark = pytest.mark.skipif(
    not (SHARED / "known_defects.csv").is_file(),
    reason=f"NO REAL DATA: {SHARED} is absent, so no known defect is looked for",
)


@pytest.fixture(scope="module")
def checked():
    """Each file's bars, timeframe, calendars and findings, read when first asked for."""
    known = {}

    def check(name):
        if name not in known:
            path, timeframe, calendar = FILES[name]
            london = {"L": "XLON"} if name == "m6" else {}
            bars, calendars = shared_bars(
                path,
                timeframe,
                lambda t: trading_calendar(london.get(t.rpartition(".")[2], calendar)),
            )
            known[name] = bars, timeframe, calendars, findings_of(bars, timeframe, calendars)
        return known[name]

    return check


def known_defects(name):
    defects = pl.read_csv(SHARED / "known_defects.csv").filter(pl.col("file") == FILES[name][0])
    ts = pl.col("ts").str.to_datetime("%Y-%m-%dT%H:%M", time_unit="us", time_zone="UTC")
    return defects.with_columns(ts, pl.col("kind").replace_strict(KIND_OF))


@pytest.mark.parametrize(
    "name", ["us_daily", "m6", "b3", "crypto_1d", "btc_eth", "lean", "lean_1h", "lean_1m"]
)
def test_every_known_defect_is_found_as_what_it_is(checked, name, record_property):
    findings = checked(name)[3]
    defects = known_defects(name)
    assert len(defects) > 0
    missed = defects.join(
        findings.select("symbol", "kind", ts="start"), on=["symbol", "kind", "ts"], how="anti"
    )
    record_property(f"known defects of {name}", f"{len(defects)}, {len(missed)} missed")
    assert missed.is_empty()


def test_the_splits_of_raw_prices_are_found_and_real_crashes_are_not(checked, record_property):
    bars, _, _, findings = checked("lean")
    factors = pl.read_parquet(SHARED / "lean/factor_files.parquet").sort("symbol", "date")
    change = pl.col("split_factor").shift(-1).over("symbol") / pl.col("split_factor")
    splits = factors.with_columns(ratio=change).filter((pl.col("ratio") - 1).abs() > 0.1)
    days = bars.select("symbol", "ts", date=pl.col("ts").dt.date())
    truth = splits.join_where(
        days, pl.col("symbol") == pl.col("symbol_right"), pl.col("date_right") > pl.col("date")
    )
    span = bars.group_by("symbol").agg(first=pl.col("ts").dt.date().min())
    truth = truth.join(span, on="symbol").filter(pl.col("date") > pl.col("first"))
    truth = truth.group_by("symbol", "date").agg(pl.col("ts").min(), pl.col("ratio").first())
    found = findings.filter(pl.col("kind") == "unadjusted_split").select(
        "symbol", "value", ts="start"
    )
    hits = truth.join(found, on=["symbol", "ts"])
    record_property("splits", f"{len(truth)} true, {len(hits)} found, {len(found)} reported")
    assert len(truth) == len(hits) == 6
    np.testing.assert_allclose(hits["value"], hits["ratio"], rtol=1e-3)
    # The seventh is Google's class C stock dividend, which the file has as a change of ticker.
    others = found.join(truth, on=["symbol", "ts"], how="anti")
    assert others.select("symbol", pl.col("ts").dt.to_string("%Y-%m-%d")).rows() == [
        ("GOOG", "2014-04-03")
    ]


def test_adjusted_prices_show_hardly_a_split_but_those_the_source_tells(checked):
    for name, n_told, n_crashes in (("us_daily", 7, 2), ("m6", 9, 0)):
        splits = checked(name)[3].filter(pl.col("kind") == "unadjusted_split")
        is_by_odds = pl.col("message").str.contains("odds")
        assert len(splits.filter(~is_by_odds)) == n_told
        # Two small companies lost half and two thirds over night, at a simple ratio.
        assert len(splits.filter(is_by_odds)) <= n_crashes


def test_the_missing_hours_of_an_exchange_in_maintenance_are_found(checked, record_property):
    bars, _, _, findings = checked("krw_1h")
    span = bars.group_by("symbol").agg(pl.col("ts").min().alias("a"), pl.col("ts").max().alias("z"))
    hours = (pl.col("z") - pl.col("a")).dt.total_hours().sum() + pl.len()
    n_missing = span.select(hours).item() - len(bars)
    gaps = findings.filter(pl.col("kind") == "gap")
    lengths = gaps.select(((pl.col("end") - pl.col("start")).dt.total_hours() + 1).sum()).item()
    record_property("missing hours", f"{n_missing}, {lengths} found")
    assert n_missing == 495
    assert 0.9 * n_missing <= lengths <= n_missing


def test_minutes_in_which_thin_stocks_are_not_traded_are_no_gaps(checked):
    bars, _, _, findings = checked("us_1m")
    assert len(bars) > 250_000
    assert findings.filter(pl.col("kind") == "gap").is_empty()


@pytest.mark.parametrize(
    ("name", "most"),
    [("us_daily", 0.1), ("crypto_1d", 0.25), ("us_1m", 0.03), ("crypto_1m", 0.03)],
)
def test_few_findings_in_a_thousand_real_bars_are_a_matter_of_odds(
    checked, name, most, record_property
):
    bars, _, _, findings = checked(name)
    found = per_thousand(findings, bars)
    record_property(f"findings per thousand bars of {name}", found)
    statistical = ("outlier", "stale_price", "zero_volume_run")
    assert sum(found[kind] for kind in statistical) < most


@pytest.mark.parametrize(
    ("name", "kind", "n_bars", "size", "least"),
    [
        ("us_daily", "gap", 1, 0, 1.0),
        ("us_daily", "stale_price", 4, 0, 0.9),
        ("us_daily", "zero_volume_run", 4, 0, 0.9),
        ("us_daily", "outlier", 1, 0.5, 0.85),
        ("us_daily", "impossible", 1, 0.01, 1.0),
        ("us_daily", "unadjusted_split", 1, 2.0, 0.95),
        ("us_daily", "unadjusted_split", 1, 5.0, 0.95),
        ("us_1m", "gap", 60, 0, 1.0),
        ("us_1m", "stale_price", 20, 0, 0.8),
        ("us_1m", "zero_volume_run", 10, 0, 1.0),
        ("us_1m", "outlier", 1, 0.05, 0.75),
        ("crypto_1m", "gap", 2, 0, 1.0),
        ("crypto_1m", "stale_price", 10, 0, 1.0),
        ("crypto_1m", "outlier", 2, 0.02, 0.9),
    ],
)
def test_defects_planted_into_real_bars_are_found(
    checked, name, kind, n_bars, size, least, record_property
):
    bars, timeframe, calendars, before = checked(name)
    some = bars["symbol"].unique().sort().head(40).to_list()
    bars, before = (frame.filter(pl.col("symbol").is_in(some)) for frame in (bars, before))
    spoilt, planted = plant(bars, kind, n_bars, size, np.random.default_rng(21))
    found = findings_of(spoilt, timeframe, calendars)
    share, n_elsewhere = recall(found, kind, planted), n_new_elsewhere(found, before, kind, planted)
    record_property(f"{name} {kind} {n_bars} {size}", (share, n_elsewhere))
    assert share >= least
    assert n_elsewhere <= 0.02 * len(planted)
