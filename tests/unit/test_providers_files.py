"""Files: what is read, and how bad rows are refused with file, line and reason."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import perf_counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.frames import UNSTAMPED
from candlecast.domain.market import FixedClock, Symbol, Timeframe
from candlecast.domain.sources import Request
from candlecast.errors import InvalidSpec, NotFound
from candlecast.providers.files import FilesProvider

DAILY, MINUTE = Timeframe.parse("1d"), Timeframe.parse("1m")
LATE = FixedClock(datetime(2030, 1, 1, tzinfo=UTC))
HEADER = "Date,Open,High,Low,Close,Adj Close,Volume"
GOOD = [
    "2024-01-02,10,12,9,11,10.5,1000",
    "2024-01-03,11,13,10,12,11.5,2000",
    "2024-01-04,12,14,11,13,12.5,3000",
]
US_DAILY = Path(__file__).parents[3] / "shared" / "data" / "us_daily" / "us_daily.parquet"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, *lines, header=HEADER):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")


def fetch(path, *, symbols=None, timeframe=DAILY, clock=LATE, **options):
    request = Request(symbols and tuple(map(Symbol, symbols)))
    return FilesProvider(path, **options).fetch_bars(request, timeframe, clock)


def test_a_plain_csv_becomes_bars_named_after_the_file(folder):
    write("ACME.csv", *GOOD)
    fetched = fetch("ACME.csv")
    assert not fetched.refusals
    assert not fetched.failures
    assert fetched.bars.row(0) == (
        *("ACME", datetime(2024, 1, 2, tzinfo=UTC)),
        *(10.0, 12.0, 9.0, 11.0, 1000.0, 10.5),
        *(None, None, "files"),
    )
    assert len(fetched.bars) == 3


@pytest.mark.parametrize(
    "header",
    [
        "date,open,high,low,close,adj_close,volume",
        "TIMESTAMP, Open , HIGH,low,Close,AdjClose,Vol",
        "t,o,h,l,c,Adjusted Close,v",
        "Time,Open Price,High Price,Low Price,Close/Last,ADJ. CLOSE,Share Volume",
        ",open,high,low,close,adj close,volume",
    ],
)
def test_columns_are_found_whatever_their_case_spaces_and_usual_synonyms(folder, header):
    write("A.csv", *GOOD, header=header)
    write("B.csv", *GOOD)
    expected = fetch("B.csv").bars.drop("symbol")
    assert fetch("A.csv").bars.drop("symbol").equals(expected)


def test_a_mapped_column_wins_over_the_detected_one(folder):
    write("A.csv", *GOOD)
    bars = fetch("A.csv", columns={"close": "Adj Close"}).bars
    assert bars["close"].to_list() == [10.5, 11.5, 12.5]
    assert bars["adj_close"].null_count() == 3


def test_a_mapping_to_what_is_not_there_names_what_comes_close(folder):
    write("A.csv", *GOOD)
    failure = fetch("A.csv", columns={"close": "AdjClose"}).failures["A.csv"]
    assert failure.startswith("A.csv: unknown column 'AdjClose'; did you mean Adj Close")
    with pytest.raises(NotFound, match="unknown field of a bar 'closing'; did you mean close"):
        FilesProvider("A.csv", columns={"closing": "Close"})


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_several_symbols_in_one_file_are_told_apart(folder, separator):
    lines = [f"{ticker},{line}" for ticker in ("BBB", "AAA") for line in GOOD]
    text = "\n".join([f"Ticker,{HEADER}", *lines]).replace(",", separator)
    Path("all.csv").write_text("\ufeff" + text.replace("\n", "\r\n"), encoding="utf-8")
    bars = fetch("all.csv").bars
    assert bars["symbol"].to_list() == ["AAA"] * 3 + ["BBB"] * 3


def test_a_folder_is_searched_with_its_subfolders(folder):
    write("market/A.csv", *GOOD)
    write("market/deep/B.CSV", *GOOD)
    write("market/.hidden.csv", "junk")
    write("market/notes.md", "junk")
    fetch("market/A.csv").bars.with_columns(symbol=pl.lit("C")).write_parquet("market/deep/c.pq")
    fetched = fetch("market")
    assert fetched.bars["symbol"].unique(maintain_order=True).to_list() == ["A", "B", "C"]
    assert not fetched.failures


def test_several_paths_are_read_together_and_a_file_named_twice_once(folder):
    write("d/A.csv", *GOOD)
    write("B.csv", *GOOD)
    fetched = fetch(["d", Path("B.csv"), "d/A.csv"])
    assert not fetched.refusals
    assert fetched.bars["symbol"].unique(maintain_order=True).to_list() == ["A", "B"]


def test_parquet_and_csv_of_the_same_bars_are_read_alike(folder):
    write("A.csv", *GOOD)
    expected = fetch("A.csv").bars
    typed = expected.with_columns(
        pl.col("ts").dt.date().alias("Date"), pl.col("volume").cast(pl.Int32)
    )
    typed.drop("ts", "source", "vwap").write_parquet("A.parquet")
    assert fetch("A.parquet").bars.equals(expected)


def test_what_is_not_there_is_said_with_a_remedy(folder):
    Path("empty").mkdir()
    with pytest.raises(NotFound, match=r"no file or folder nowhere; name CSV"):
        fetch("nowhere")
    with pytest.raises(NotFound, match=r"no CSV or Parquet file in empty"):
        fetch("empty")
    with pytest.raises(InvalidSpec, match=r"unknown time zone 'Mars'; use e\.g\."):
        FilesProvider("empty", zone="Mars")


REFUSED = [
    ("yesterday,10,12,9,11,10.5,1000", "time 'yesterday' cannot be read"),
    (",10,12,9,11,10.5,1000", "time is missing"),
    ("2024-02-31,10,12,9,11,10.5,1000", "time '2024-02-31' cannot be read"),
    ("2024-01-05,10,12,9,,10.5,1000", "close is missing"),
    ("2024-01-05,10,12,9,null,10.5,1000", "close is missing"),
    ("2024-01-05,10,12,9,eleven,10.5,1000", "close 'eleven' cannot be read"),
    ('2024-01-05,10,"1,200",9,11,10.5,1000', "high '1,200' cannot be read"),
    ("2024-01-05,10,12,9,NaN,10.5,1000", "close is NaN"),
    ("2024-01-05,10,inf,9,11,10.5,1000", "high is inf"),
    ("2024-01-05,-10,12,9,11,10.5,1000", "open is -10.0; a price is a positive number"),
    ("2024-01-05,10,12,0,11,10.5,1000", "low is 0.0"),
    ("2024-01-05,10,9,12,11,10.5,1000", "high 9.0 is below low 12.0"),
    ("2024-01-05,10,12,9,12.5,10.5,1000", "high 12.0 is below open 10.0 or close 12.5"),
    ("2024-01-05,8,12,9,11,10.5,1000", "low 9.0 is above open 8.0 or close 11.0"),
    ("2024-01-05,10,12,9,11,0,1000", "adj_close is 0.0"),
    ("2024-01-05,10,12,9,11,,1000", "adj_close is missing"),
    ("2024-01-05,10,12,9,11,10.5,-1", "volume -1.0 is no count"),
    ("2024-01-05,10,12,9,11,10.5,many", "volume 'many' cannot be read"),
    ("2024-01-05,10,12,9,11", "5 cells where the header has 7"),
    ("2024-01-05,10,12,9,11,10.5,1,000", "8 cells where the header has 7"),
    ('"2024-01-05,10,12,9,11,10.5,1000', "a quote is not closed"),
    ("2024-01-01,10,12,9,11,10.5,1000", "2024-01-01 comes after 2024-01-04; sort the rows"),
]


@pytest.mark.parametrize(("line", "reason"), REFUSED)
def test_an_impossible_row_costs_its_symbol_and_no_other(folder, line, reason):
    write("data/BAD.csv", *GOOD, line)
    write("data/GOOD.csv", *GOOD)
    fetched = fetch("data")
    assert [str(refusal).split(reason)[0] for refusal in fetched.refusals] == [
        "data/BAD.csv:5: BAD: "
    ]
    assert fetched.bars["symbol"].unique().to_list() == ["GOOD"]
    assert set(fetched.failures) == {"BAD"}
    assert fetched.failures["BAD"].startswith("1 of 4 rows are refused, first data/BAD.csv:5: ")
    assert "skip_bad_rows" in fetched.failures["BAD"]


@pytest.mark.parametrize(("line", "reason"), REFUSED)
def test_on_request_the_good_rows_of_a_symbol_are_kept(folder, line, reason):
    write("BAD.csv", *GOOD, line)
    write("GOOD.csv", *GOOD)
    fetched = fetch("BAD.csv", skip_bad_rows=True)
    assert fetched.bars.drop("symbol").equals(fetch("GOOD.csv").bars.drop("symbol"))
    assert len(fetched.refusals) == 1
    assert reason in fetched.refusals[0].reason
    assert not fetched.failures


def test_a_repeated_time_names_both_lines(folder):
    write("A.csv", *GOOD, GOOD[1].replace("2000", "2001"))
    fetched = fetch("A.csv", skip_bad_rows=True)
    assert [refusal.line for refusal in fetched.refusals] == [3, 5]
    for refusal in fetched.refusals:
        assert refusal.reason == "2024-01-03 stands there 2 times: lines 3, 5"
    assert fetched.bars["ts"].dt.day().to_list() == [2, 4]


def test_a_time_repeated_in_another_file_names_both_files(folder):
    write("d/1.csv", *(f"A,{line}" for line in GOOD), header=f"symbol,{HEADER}")
    write("d/2.csv", f"A,{GOOD[2]}", header=f"symbol,{HEADER}")
    fetched = fetch("d", skip_bad_rows=True)
    assert {refusal.reason for refusal in fetched.refusals} == {
        "2024-01-04 stands there 2 times: d/1.csv:4, d/2.csv:2"
    }
    assert len(fetched.bars) == 2


def test_a_symbol_whose_rows_are_all_bad_fails_even_when_bad_rows_are_skipped(folder):
    write("A.csv", "x,1,1,1,1,1,1", "y,1,1,1,1,1,1")
    fetched = fetch("A.csv", skip_bad_rows=True)
    assert [refusal.line for refusal in fetched.refusals] == [2, 3]
    assert fetched.failures["A"].startswith("2 of 2 rows are refused, first A.csv:2")
    assert fetched.bars.equals(UNSTAMPED.empty())


def test_a_row_without_symbol_is_refused_under_the_name_of_its_file(folder):
    write("all.csv", f"A,{GOOD[0]}", f" ,{GOOD[1]}", header=f"symbol,{HEADER}")
    fetched = fetch("all.csv")
    assert [str(refusal) for refusal in fetched.refusals] == [
        "all.csv:3: all: the symbol is missing"
    ]
    assert fetched.bars["symbol"].to_list() == ["A"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \r\n\n", "is empty"),
        (HEADER.encode(), "is empty: no row follows the header"),
        (b"\xff\xfe\x00\x01", "cannot be read as CSV or Parquet"),
        (b"Date,Open,High,Low,Volume\n2024-01-02,1,1,1,1\n", "no column for close; it has 'Date'"),
        (b"2024-01-02,10,12,9,11,1000\n", "no column for ts, open, high, low, close"),
        (b"d,open,high,low,close\n1,1,1,1,1", "no column for ts; it has 'd'"),
        (
            b"day,open,high,low,close\n01/02/2024,1,1,1,1\n02/02/2024,1,1,1,1\n",
            "is the day or the month first",
        ),
    ],
)
def test_a_file_that_cannot_be_used_fails_as_a_whole_and_the_others_go_on(folder, content, reason):
    write("d/GOOD.csv", *GOOD)
    Path("d/BAD.csv").write_bytes(content)
    fetched = fetch("d")
    assert set(fetched.failures) == {"d/BAD.csv"}
    assert fetched.failures["d/BAD.csv"].startswith(f"d/BAD.csv: {reason}")
    assert len(fetched.bars) == 3


def test_a_damaged_or_empty_parquet_file_fails_as_a_whole(folder):
    write("d/GOOD.csv", *GOOD)
    Path("d/a.parquet").write_bytes(b"PAR1 and nothing else")
    fetch("d/GOOD.csv").bars.head(0).write_parquet("d/b.parquet")
    fetched = fetch("d")
    assert set(fetched.failures) == {"d/a.parquet", "d/b.parquet"}
    assert len(fetched.bars) == 3


def test_blank_lines_are_passed_over_but_counted(folder):
    write("A.csv", GOOD[0], "", "  ", GOOD[1], "", "2024-01-04,1,1,1,x,1,1")
    assert [refusal.line for refusal in fetch("A.csv").refusals] == [7]


def test_bad_rows_of_parquet_files_are_named_by_row_number(folder):
    write("A.csv", *GOOD)
    bars = fetch("A.csv").bars
    is_second = pl.int_range(pl.len()) == 1
    bars.with_columns(close=pl.when(is_second).then(None).otherwise("close")).write_parquet("A.pq")
    assert [str(refusal) for refusal in fetch("A.pq").refusals] == ["A.pq:2: A: close is missing"]


def test_missing_volume_is_zero_and_missing_adjusted_prices_are_null(folder):
    write("A.csv", "2024-01-02,10,12,9,11", header="Date,Open,High,Low,Close")
    write("B.csv", "2024-01-02,10,12,9,11,", header="Date,Open,High,Low,Close,Volume")
    for name in ("A.csv", "B.csv"):
        bar = fetch(name).bars.row(0, named=True)
        assert (bar["volume"], bar["adj_close"]) == (0.0, None)


def test_an_open_slightly_outside_the_range_is_believed(folder):
    write("A.csv", "2021-05-05,195.98,199.2,196.21,198.13,190,1000")
    assert not fetch("A.csv").refusals


def test_bars_to_come_are_left_out_and_no_refusal(folder):
    write("A.csv", *GOOD)
    at_noon = FixedClock(datetime(2024, 1, 4, 12, tzinfo=UTC))
    fetched = fetch("A.csv", clock=at_noon)
    assert fetched.bars["ts"].max() == datetime(2024, 1, 3, tzinfo=UTC)
    assert not fetched.refusals
    after = FixedClock(datetime(2024, 1, 4, 21, 0, tzinfo=UTC))
    assert len(fetch("A.csv", clock=after).bars) == 3


def test_a_weekend_bar_of_a_market_that_never_rests_ends_at_midnight(folder):
    write("BTC.csv", "2024-01-06,10,12,9,11,11,1")
    before = FixedClock(datetime(2024, 1, 6, 23, 59, tzinfo=UTC))
    assert fetch("BTC.csv", clock=before, calendar="24/7").bars.is_empty()
    for calendar in ("24/7", "XNYS"):
        midnight = FixedClock(datetime(2024, 1, 7, tzinfo=UTC))
        assert len(fetch("BTC.csv", clock=midnight, calendar=calendar).bars) == 1


def test_minutes_stand_in_the_given_zone(folder):
    rows = ["2024-01-02 09:30,10,12,9,11,11,1", "2024-07-02 09:30,10,12,9,11,11,1"]
    write("A.csv", *rows)
    bars = fetch("A.csv", timeframe=MINUTE, zone="America/New_York").bars
    assert bars["ts"].dt.hour().to_list() == [14, 13]
    assert fetch("A.csv", timeframe=MINUTE).bars["ts"].dt.hour().to_list() == [9, 9]


price = st.floats(1, 500).map(lambda value: round(value, 2))


@st.composite
def tables(draw):
    """Rows of a possible multi-symbol CSV, sorted by symbol and date."""
    rows = []
    for symbol in draw(st.lists(st.sampled_from("ABCDE"), min_size=2, max_size=4, unique=True)):
        for day in range(draw(st.integers(1, 6))):
            low, *inner, high = sorted(draw(st.lists(price, min_size=4, max_size=4)))
            written = date(2020, 1, 1) + timedelta(days=day)
            rows.append([symbol, f"{written}", inner[0], high, low, inner[1], day])
    return rows


@given(
    rows=tables(),
    defects=st.lists(
        st.tuples(
            st.integers(0, 23),
            st.sampled_from([(1, "soon"), (2, ""), (3, 0.001), (4, -1), (5, "NaN"), (6, -7)]),
        ),
        max_size=3,
    ),
)
@settings(max_examples=40, deadline=None)
def test_exactly_the_planted_defects_are_refused(tmp_path_factory, rows, defects):
    clean = [list(row) for row in rows]
    broken = set()
    for number, (column, value) in defects:
        if number < len(rows):
            rows[number][column] = value
            broken.add(number)
    file = tmp_path_factory.mktemp("csv") / "all.csv"
    lines = [",".join(map(str, row)) for row in rows]
    write(file, *lines, header="symbol,date,open,high,low,close,volume")
    fetched = fetch(file)
    assert [refusal.line - 2 for refusal in fetched.refusals] == sorted(broken)
    bad_symbols = {clean[number][0] for number in broken}
    assert set(fetched.failures) == bad_symbols
    kept = [row for row in clean if row[0] not in bad_symbols]
    assert fetched.bars.select("symbol", "open", "high", "low", "close", "volume").rows() == [
        (row[0], *map(float, row[2:])) for row in sorted(kept, key=lambda row: row[:2])
    ]


@pytest.mark.skipif(not US_DAILY.is_file(), reason=f"NOT RUN: no {US_DAILY.name} beside the clone")
def test_half_a_million_real_bars_are_all_believed():
    started = perf_counter()
    fetched = fetch(US_DAILY)
    assert (len(fetched.bars), fetched.bars["symbol"].n_unique()) == (536_145, 152)
    assert not fetched.refusals
    assert not fetched.failures
    assert perf_counter() - started < 20  # the goal is one second; this is a bound on blunders
