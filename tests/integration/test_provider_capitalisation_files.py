"""Market capitalisations from files: read, refused, and not known before their day has passed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from candlecast.domain.dominance import compute_dominance
from candlecast.domain.frames import CAPITALISATIONS
from candlecast.domain.market import FixedClock, Symbol
from candlecast.domain.sources import CapitalisationSource, Request
from candlecast.providers.capitalisation_files import CapitalisationFilesProvider

REAL = Path(__file__).parents[3] / "shared" / "data" / "crypto_1d" / "btc_eth_1d.parquet"
CLOCK = FixedClock(datetime(2024, 7, 1, 12, tzinfo=UTC))
TABLE = """symbol,date,Market Cap
BTC-USD,2024-01-01,100
TOTAL,2024-01-01,200
BTC-USD,2024-01-02,110
BTC-USD,2024-01-02,111
BTC-USD,never,1
BTC-USD,2024-01-04,-5
BTC-USD,2024-01-05,much
,2024-01-06,7
ETH-USD,2024-01-01,40
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "caps.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


def test_good_rows_come_and_bad_ones_are_refused_with_file_and_line(file):
    provider = CapitalisationFilesProvider(file)
    assert isinstance(provider, CapitalisationSource)
    fetched = provider.fetch_capitalisations(Request(), CLOCK)
    rows = CAPITALISATIONS.check(fetched.rows)
    assert rows.select("asset", "value").rows() == [
        ("BTC-USD", 100.0),
        ("BTC-USD", 110.0),
        ("ETH-USD", 40.0),
        ("TOTAL", 200.0),
    ]
    reasons = {key.rpartition(":")[2]: value for key, value in fetched.failures.items()}
    assert list(reasons) == ["5", "6", "7", "8", "9"]
    assert "keep one of the rows" in reasons["5"]
    assert "time 'never' cannot be read" in reasons["6"]
    assert "value '-5' is no positive number" in reasons["7"]
    assert "value 'much' is no positive number" in reasons["8"]
    assert "the asset is missing" in reasons["9"]
    assert compute_dominance(rows)["value"].to_list() == [0.5]


def test_a_value_is_left_out_until_its_day_has_passed(file):
    clock = FixedClock(datetime(2024, 1, 2, 23, 59, tzinfo=UTC))
    rows = CapitalisationFilesProvider(file).fetch_capitalisations(Request(), clock).rows
    assert rows["ts"].unique().to_list() == [datetime(2024, 1, 1, tzinfo=UTC)]
    assert (rows["known_at"] - rows["ts"]).unique().to_list() == [timedelta(days=1)]
    at_once = CapitalisationFilesProvider(file, delay_seconds=0.0)
    assert len(at_once.fetch_capitalisations(Request(), clock).rows) == 4


def test_the_total_comes_with_whatever_symbols_are_asked_for(file):
    start = datetime(2024, 1, 1, tzinfo=UTC)
    wanted = Request((Symbol("ETH-USD", "crypto", "24/7"),), start, start + timedelta(days=1))
    rows = CapitalisationFilesProvider(file).fetch_capitalisations(wanted, CLOCK).rows
    assert rows["asset"].to_list() == ["ETH-USD", "TOTAL"]


def test_a_file_without_assets_is_named_after_its_own(tmp_path):
    path = tmp_path / "SOL-USD.csv"
    path.write_text("day,mcap\n2024-01-01,9\n", encoding="utf-8")
    rows = CapitalisationFilesProvider(tmp_path).fetch_capitalisations(Request(), CLOCK).rows
    assert rows["asset"].to_list() == ["SOL-USD"]


def test_a_file_without_values_fails_alone(file):
    (file.parent / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    fetched = CapitalisationFilesProvider(file.parent).fetch_capitalisations(Request(), CLOCK)
    assert len(fetched.rows) == 4
    assert "no column for ts, value" in fetched.failures[(file.parent / "other.csv").as_posix()]


@pytest.mark.skipif(not REAL.is_file(), reason=f"NOT TESTED on real values: {REAL} is absent")
def test_real_capitalisations_load():
    raw = pl.read_parquet(REAL).filter(pl.col("market_cap") > 0)
    fetched = CapitalisationFilesProvider(REAL).fetch_capitalisations(Request(), CLOCK)
    assert len(fetched.rows) == len(raw)
    assert fetched.rows["value"].sum() == pytest.approx(raw["market_cap"].sum())
