"""The quality report over real stores: by pipeline, from a shell and over HTTP."""

from datetime import timedelta

import polars as pl
import pytest

from candlecast.api import quality
from candlecast.api.app import create_app
from candlecast.domain.frames import ACTIONS, UNSTAMPED
from candlecast.domain.market import FixedClock, Symbol
from candlecast.errors import NotFound
from candlecast.monitoring.quality import KINDS
from candlecast.pipelines.check import CheckQuery, check_data, check_files
from candlecast.pipelines.ingest import ingest
from candlecast.providers.files import FilesProvider
from candlecast.store.bars import write_symbols
from candlecast.store.facts import write_facts
from candlecast.store.symbols import read_symbols
from command_line import call
from pipeline_rows import DAILY, at, closing, opened, sample_bars
from served import asking

CLEAN = sample_bars("AAPL", "IBM", "MSFT", n_sessions=800)
DAYS = CLEAN["ts"].unique().sort()
LAST = closing(DAYS[-1])
UNTIL = f"{DAYS[-1]:%Y-%m-%d}"
PRICES = ("open", "high", "low", "close")


def spoilt():
    """AAPL lacks four sessions, stands still for five, is split 7:1; one bar of IBM is false."""
    is_aapl, ts = pl.col("symbol") == "AAPL", pl.col("ts")
    still = is_aapl & ts.is_between(DAYS[300], DAYS[304])
    frozen = CLEAN.filter(is_aapl, ts == DAYS[299])["close"][0]
    before = is_aapl & (ts < DAYS[500])
    return (
        CLEAN.filter(~(is_aapl & ts.is_between(DAYS[100], DAYS[103])))
        .with_columns(pl.when(still).then(frozen).otherwise(pl.col(n)).alias(n) for n in PRICES)
        .with_columns(pl.when(before).then(pl.col(n) * 7).otherwise(n).alias(n) for n in PRICES)
        .with_columns(
            adj_close=pl.lit(None, dtype=pl.Float64),
            volume=pl.when(before).then(pl.col("volume") / 7).otherwise("volume"),
            high=pl.when((pl.col("symbol") == "IBM") & (ts == DAYS[200]))
            .then(pl.col("low") * 0.9)
            .otherwise("high"),
        )
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of files with defects."""
    folder = tmp_path_factory.mktemp("files")
    for (ticker,), part in spoilt().group_by("symbol"):
        part.drop("symbol", "vwap", "trade_count", "source").write_csv(folder / f"{ticker}.csv")
    return folder


def ingested(stores, folder, **options):
    provider = FilesProvider(folder, skip_bad_rows=True, **options)
    return ingest(stores, provider, template=Symbol(""), timeframe=DAILY)


@pytest.fixture(scope="module")
def home(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("home")
    with opened(f"sqlite:///{folder / 'candlecast.db'}", folder, LAST) as stores:
        ingested(stores, files)
    return folder


@pytest.fixture
def stores(home):
    with opened(f"sqlite:///{home / 'candlecast.db'}", home, LAST) as found:
        yield found


@pytest.fixture
def own_stores(tmp_path, files):
    """Stores that a test may write to."""
    with opened(f"sqlite:///{tmp_path / 'candlecast.db'}", tmp_path, LAST) as found:
        ingested(found, files)
        yield found


def kinds_of(run, ticker):
    return run.counts()[ticker]


# --- stored bars ----------------------------------------------------------------------------


def test_the_defects_of_each_symbol_are_found_and_the_clean_one_is_good(stores):
    run = check_data(stores, CheckQuery())
    assert {k: n for k, n in kinds_of(run, "AAPL").items() if k != "extreme_return"} == {
        "gap": 1,
        "stale_price": 1,
        "unadjusted_split": 1,
    }
    assert kinds_of(run, "IBM") == {"impossible": 1}
    assert kinds_of(run, "MSFT") == {}
    assert run.states() == {"AAPL": "look", "IBM": "bad", "MSFT": "good"}
    gap = run.findings.filter(pl.col("kind") == "gap")
    assert gap.select("start", "end", "n_bars").rows() == [(DAYS[100], DAYS[103], 4)]
    assert run.n_bars == {"AAPL": 796, "IBM": 799, "MSFT": 800}


def test_a_refused_row_is_told_with_its_place_and_is_not_a_gap_besides(stores):
    (row,) = check_data(stores, CheckQuery(symbols=("IBM",))).findings.to_dicts()
    assert (row["kind"], row["severity"], row["start"]) == ("impossible", "bad", DAYS[200])
    assert "IBM.csv:202" in row["message"]  # the header is line 1


def test_a_refused_row_that_was_corrected_since_is_a_note(own_stores, tmp_path):
    CLEAN.filter(pl.col("symbol") == "IBM").with_columns(
        adj_close=pl.lit(None, dtype=pl.Float64)
    ).write_parquet(tmp_path / "IBM.parquet")
    later = at(own_stores, LAST + timedelta(hours=1))
    ingested(later, tmp_path / "IBM.parquet")
    run = check_data(later, CheckQuery(symbols=("IBM",)))
    assert run.findings["severity"].to_list() == ["note"]
    assert run.states() == {"IBM": "good"}
    assert not run.is_bad


def test_a_known_split_is_no_finding(own_stores):
    actions = pl.DataFrame(
        {
            "symbol": ["AAPL"],
            "ex_date": [DAYS[500]],
            "kind": ["split"],
            "value": [7.0],
            "source": ["files"],
            "known_at": [LAST],
        }
    )
    write_facts(own_stores.database, ACTIONS, ACTIONS.conform(actions))
    run = check_data(own_stores, CheckQuery(symbols=("AAPL",)))
    assert kinds_of(run, "AAPL") == {"gap": 1, "stale_price": 1}


def test_time_that_passes_without_bars_is_a_stale_feed_but_not_of_what_is_inactive(own_stores):
    later = at(own_stores, LAST + timedelta(days=14))
    (gap,) = check_data(later, CheckQuery(symbols=("MSFT",))).findings.to_dicts()
    assert gap["kind"] == "gap"
    assert "stale" in gap["message"]
    (msft,) = [s for s in read_symbols(later.database) if s.ticker == "MSFT"]
    write_symbols(later.database, [Symbol(**{**vars(msft), "is_active": False})])
    assert check_data(later, CheckQuery(symbols=("MSFT",))).findings.is_empty()
    at_the_end = CheckQuery(symbols=("AAPL",), end=LAST)
    assert not check_data(later, at_the_end).findings["message"].str.contains("stale").any()


def test_a_query_narrows_what_is_told_and_not_what_is_known(stores):
    everything = check_data(stores, CheckQuery(symbols=("AAPL",))).findings
    span = CheckQuery(symbols=("AAPL",), start=DAYS[250], end=DAYS[400])
    told = check_data(stores, span).findings
    assert told["kind"].to_list() == ["stale_price"]
    assert told.join(everything, on=told.columns, how="semi").height == 1
    only = check_data(stores, CheckQuery(kinds=("gap", "outlier"))).findings
    assert set(only["kind"]) == {"gap"}
    newest = check_data(stores, CheckQuery(symbols=("AAPL",), max_bars=200))
    assert newest.n_bars == {"AAPL": 200}
    assert newest.findings.is_empty()


def test_unknown_names_are_named(stores):
    with pytest.raises(NotFound, match="AAPL"):
        check_data(stores, CheckQuery(symbols=("APPL",)))
    with pytest.raises(NotFound, match="outlier"):
        CheckQuery(kinds=("outlyer",))


def test_a_symbol_without_bars_has_no_findings(own_stores):
    write_symbols(own_stores.database, [Symbol("NEW")])
    run = check_data(own_stores, CheckQuery(symbols=("NEW",)))
    assert (run.n_bars, run.counts(), run.states()) == ({"NEW": 0}, {"NEW": {}}, {"NEW": "good"})
    assert check_data(own_stores, CheckQuery(symbols=("AAPL",), timeframe="5m")).findings.is_empty()


def test_files_are_judged_as_they_would_be_once_stored(stores, files):
    provider = FilesProvider(files, skip_bad_rows=True)
    run = check_files(provider, CheckQuery(), calendar="XNYS", clock=FixedClock(LAST))
    assert run.findings.equals(check_data(stores, CheckQuery()).findings)
    assert run.failures == {}


def test_a_file_that_cannot_be_read_is_bad_and_named(tmp_path):
    (tmp_path / "A.csv").write_text("when,what\n1,2\n")
    provider = FilesProvider(tmp_path, skip_bad_rows=True)
    run = check_files(provider, CheckQuery(), calendar="XNYS", clock=FixedClock(LAST))
    assert run.is_bad
    assert "A.csv" in next(iter(run.failures))


# --- from a shell ---------------------------------------------------------------------------


def test_the_command_prints_a_table_and_the_worst_and_fails_only_when_strict(home, monkeypatch):
    monkeypatch.setenv("CANDLECAST_HOME", str(home))
    until = ("--end", UNTIL)
    answer = call("data", "check", *until)
    assert answer.code == 0
    assert "impossible" in answer.out
    assert "7:1 split" in answer.out
    assert "nothing found in 1" in answer.out
    assert call("data", "check", *until, "--strict").code == 1
    assert call("data", "check", *until, "--strict", "--symbols", "MSFT").code == 0


def test_the_command_tells_machines_everything(home, monkeypatch):
    monkeypatch.setenv("CANDLECAST_HOME", str(home))
    answer = call("data", "check", "--symbols", "AAPL", "--kind", "gap", "--end", UNTIL, "--json")
    (found,) = answer.json()["symbols"].values()
    assert (found["n_bars"], found["state"], found["counts"]) == (796, "look", {"gap": 1})
    (gap,) = found["findings"]
    assert gap["start"] == DAYS[100].strftime("%Y-%m-%dT00:00:00Z")
    assert call("data", "check", "--kind", "nonsense").code == 2


def test_the_command_checks_files_without_storing_them(files, tmp_path, monkeypatch):
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path / "var"))
    answer = call("data", "check", str(files), "--json")
    assert answer.code == 0
    assert answer.json()["symbols"]["IBM"]["counts"] == {"impossible": 1}
    assert not (tmp_path / "var").exists()


# --- over HTTP ------------------------------------------------------------------------------


def test_the_api_answers_what_the_pipeline_finds(stores):
    with asking(create_app(stores)) as client:
        response = client.get("/api/v1/quality", params={"symbol": ["AAPL", "IBM"]})
        assert response.status_code == 200, response.text
    body = quality.Quality.model_validate_json(response.content)
    run = check_data(stores, CheckQuery(symbols=("AAPL", "IBM")))
    assert {t: dict(own.counts) for t, own in body.symbols.items()} == run.counts()
    assert {t: own.state for t, own in body.symbols.items()} == run.states()
    ends = [finding.end for finding in body.symbols["AAPL"].findings]
    assert ends == sorted(ends, reverse=True)


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({}, 422),
        ({"symbol": ["A"] * 21}, 422),
        ({"symbol": ["NOBODY"]}, 404),
        ({"symbol": ["AAPL"], "timeframe": "7m"}, 404),
    ],
)
def test_the_api_is_bounded(stores, parameters, status):
    with asking(create_app(stores)) as client:
        assert client.get("/api/v1/quality", params=parameters).status_code == status


def test_no_more_than_the_newest_findings_are_sent(own_stores):
    swings = CLEAN.filter(pl.col("symbol") == "MSFT").with_columns(
        symbol=pl.lit("WILD"),
        adj_close=pl.lit(None, dtype=pl.Float64),
        **{
            n: pl.when(pl.int_range(pl.len()) % 20 < 10).then(pl.col(n) * 3).otherwise(n)
            for n in PRICES
        },
    )
    path = own_stores.mirror._folder.parent / "WILD.parquet"
    UNSTAMPED.conform(swings).drop("source").write_parquet(path)
    ingested(own_stores, path)
    with asking(create_app(own_stores)) as client:
        wild = client.get("/api/v1/quality", params={"symbol": "WILD"}).json()["symbols"]["WILD"]
    assert sum(wild["counts"].values()) > quality.MAX_FINDINGS
    assert len(wild["findings"]) == quality.MAX_FINDINGS
    assert list(wild["counts"]) == [kind for kind in KINDS if kind in wild["counts"]]
