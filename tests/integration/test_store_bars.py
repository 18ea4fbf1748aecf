"""Bars and their revisions, the same on both databases; and the mirror, which equals them."""

from __future__ import annotations

import multiprocessing
import shutil
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from candlecast.domain.frames import BARS
from candlecast.domain.market import Symbol, Timeframe
from candlecast.errors import BadFrame, NotFound
from candlecast.store import mirror as mirror_module
from candlecast.store import tables
from candlecast.store.bars import (
    BarsWritten,
    read_bars,
    read_extent,
    read_symbols,
    write_bars,
    write_symbols,
)
from candlecast.store.database import Database
from candlecast.store.mirror import Mirror
from integration.store_rows import (
    DAILY,
    TICKERS,
    bar,
    bars_of,
    day,
    follow_mirror,
    with_symbols,
    write_days,
)

COUNT = {"n": pl.Int64}


def n_rows(database: Database, table: sa.Table) -> int:
    return database.read(sa.select(sa.func.count().label("n")).select_from(table), COUNT).item()


def closes(frame: pl.DataFrame) -> list[float]:
    return frame["close"].to_list()


def test_symbols_come_back_sorted_and_are_updated_by_ticker(database: Database) -> None:
    first = [Symbol("b"), Symbol("A", "crypto", "24/7", "EUR"), Symbol("a", is_active=False)]
    write_symbols(database, first)
    assert read_symbols(database) == [first[1], first[2], first[0]]
    write_symbols(database, [Symbol("b", currency="GBP")])
    assert read_symbols(database)[2] == Symbol("b", currency="GBP")


def test_bars_come_back_as_they_were_written(database: Database) -> None:
    with_symbols(database)
    rows = [bar(symbol, n, close=n + 0.1) for symbol in TICKERS for n in range(5)]
    rows[3] |= {"vwap": 0.1 + 0.2, "trade_count": None, "adj_close": None, "volume": 1e300}
    written = bars_of(rows)
    assert write_bars(database, DAILY, written) == BarsWritten(15, 0, 0)
    assert read_bars(database, DAILY).equals(written)
    assert BARS.check(read_bars(database, DAILY))["symbol"].unique().sort().to_list() == sorted(
        TICKERS
    )


def test_nan_is_stored_as_missing(database: Database) -> None:
    with_symbols(database)
    write_bars(database, DAILY, bars_of([bar("AAPL", 1) | {"vwap": float("nan")}]))
    assert read_bars(database, DAILY)["vwap"].to_list() == [None]
    with pytest.raises(BadFrame, match=r"bars\.open"):
        write_bars(database, DAILY, bars_of([bar("AAPL", 2, close=float("nan"))]))


def test_writing_the_same_bars_again_changes_nothing(database: Database) -> None:
    with_symbols(database)
    frame = bars_of(bar(symbol, n) for symbol in TICKERS for n in range(4))
    write_bars(database, DAILY, frame)
    n_changes = n_rows(database, tables.bar_changes)
    seen_later = frame.with_columns(known_at=pl.lit(day(90)).cast(frame.schema["known_at"]))
    for again in (frame, seen_later):
        assert write_bars(database, DAILY, again) == BarsWritten(0, 0, 12)
    assert read_bars(database, DAILY).equals(frame)
    assert n_rows(database, tables.bar_changes) == n_changes
    assert n_rows(database, tables.bar_revisions) == 0


def test_every_correction_of_a_bar_stays_readable_as_it_was_known(database: Database) -> None:
    with_symbols(database)
    for number, close in enumerate((1.0, 2.0, 3.0, 2.0)):
        written = write_bars(database, DAILY, bars_of([bar("AAPL", 5, close, known=6 + number)]))
        assert written == (BarsWritten(0, 1, 0) if number else BarsWritten(1, 0, 0))
    assert closes(read_bars(database, DAILY, as_of=day(5.9))) == []
    for number, close in enumerate((1.0, 2.0, 3.0, 2.0)):
        assert closes(read_bars(database, DAILY, as_of=day(6 + number))) == [close]
        assert closes(read_bars(database, DAILY, as_of=day(6.5 + number))) == [close]
    assert closes(read_bars(database, DAILY)) == [2.0]
    first = read_bars(database, DAILY, is_first_version=True)
    assert closes(first) == [1.0]
    assert first["known_at"].to_list() == [day(6)]


def test_what_was_known_earlier_never_overwrites_what_is_known_later(database: Database) -> None:
    with_symbols(database)
    write_bars(database, DAILY, bars_of([bar("AAPL", 1, 1.0, known=5)]))
    assert write_bars(database, DAILY, bars_of([bar("AAPL", 1, 9.0, known=3)])).unchanged == 1
    assert write_bars(database, DAILY, bars_of([bar("AAPL", 1, 8.0, known=5)])).unchanged == 1
    assert closes(read_bars(database, DAILY)) == [1.0]
    assert closes(read_bars(database, DAILY, as_of=day(4))) == []


def test_a_gap_healed_later_is_unknown_before(database: Database) -> None:
    with_symbols(database)
    write_bars(database, DAILY, bars_of([bar("AAPL", 1), bar("AAPL", 3)]))
    before = read_bars(database, DAILY, as_of=day(10))
    healed = bars_of([bar("AAPL", 0, known=20), bar("AAPL", 2, known=20), bar("AAPL", 3, 1.0)])
    assert write_bars(database, DAILY, healed) == BarsWritten(2, 0, 1)
    assert read_bars(database, DAILY, as_of=day(10)).equals(before)
    assert len(read_bars(database, DAILY, as_of=day(20))) == 4


def test_a_value_that_comes_or_goes_is_a_revision(database: Database) -> None:
    with_symbols(database)
    for known, vwap in ((2, None), (3, 1.5), (4, None)):
        write_bars(database, DAILY, bars_of([bar("AAPL", 1, known=known) | {"vwap": vwap}]))
    assert n_rows(database, tables.bar_revisions) == 2
    seen = [read_bars(database, DAILY, as_of=day(n))["vwap"].item() for n in (2, 3, 4)]
    assert seen == [None, 1.5, None]


def test_timeframes_do_not_mix(database: Database) -> None:
    with_symbols(database)
    hourly = Timeframe.parse("1h")
    write_bars(database, DAILY, bars_of([bar("AAPL", 1, 1.0)]))
    write_bars(database, hourly, bars_of([bar("AAPL", 1, 2.0)]))
    assert closes(read_bars(database, DAILY)) == [1.0]
    assert closes(read_bars(database, hourly)) == [2.0]


def test_a_read_keeps_to_its_symbols_and_span(database: Database) -> None:
    with_symbols(database)
    frame = bars_of(bar(symbol, n) for symbol in TICKERS for n in range(6))
    write_bars(database, DAILY, frame)
    some = read_bars(database, DAILY, symbols=["MSFT"], start=day(1), end=day(3))
    is_asked = (pl.col("symbol") == "MSFT") & pl.col("ts").is_between(day(1), day(3))
    assert some.equals(frame.filter(is_asked))
    assert read_bars(database, DAILY, symbols=[]).is_empty()


def test_an_unknown_symbol_is_named_with_the_close_ones(database: Database) -> None:
    with_symbols(database)
    with pytest.raises(NotFound, match="did you mean AAPL"):
        write_bars(database, DAILY, bars_of([bar("APPL", 1)]))
    with pytest.raises(NotFound, match="did you mean AAPL"):
        read_bars(database, DAILY, symbols=["APPL"])
    assert read_bars(database, DAILY).is_empty()


def test_the_extent_says_what_there_is(database: Database) -> None:
    with_symbols(database)
    write_bars(database, DAILY, bars_of(bar("MSFT", n, close=n + 1.0) for n in range(4)))
    (row,) = read_extent(database, DAILY).iter_rows(named=True)
    assert row == {
        "symbol": "MSFT",
        "n_bars": 4,
        "first_ts": day(0),
        "last_ts": day(3),
        "last_close": 4.0,
        "last_known_at": day(4),
    }


def test_processes_that_write_together_lose_nothing(database: Database, upgraded_url: str) -> None:
    with_symbols(database)
    n_days = 20
    _run_together([(write_days, (upgraded_url, symbol, range(n_days))) for symbol in TICKERS])
    assert len(read_bars(database, DAILY)) == n_days * len(TICKERS)
    changes = database.read(sa.select(tables.bar_changes.c.change), {"change": pl.Int64})
    assert sorted(changes["change"]) == list(range(1, n_days * len(TICKERS) + 1))
    if database.dialect == "sqlite":
        with database.reading() as reader:
            assert reader.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_the_mirror_follows_writers_in_other_processes(
    database: Database, upgraded_url: str, tmp_path: Path
) -> None:
    with_symbols(database)
    n_days = 15
    follow = (follow_mirror, (upgraded_url, tmp_path / "mirror", n_days))
    _run_together([(write_days, (upgraded_url, "AAPL", range(n_days))), follow, follow])


def _run_together(calls: list) -> None:
    spawn = multiprocessing.get_context("spawn")
    failures = spawn.Queue()
    processes = [spawn.Process(target=f, args=(*args, failures)) for f, args in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    found = []
    while not failures.empty():
        found.append(failures.get())
    assert found == []
    assert [process.exitcode for process in processes] == [0] * len(processes)


@pytest.fixture
def mirror(database: Database, tmp_path: Path) -> Mirror:
    return Mirror(with_symbols(database), tmp_path / "mirror")


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.arrow")}


def test_an_empty_mirror_shows_no_bars(mirror: Mirror) -> None:
    assert mirror.read(DAILY).equals(BARS.empty())
    assert mirror.read(DAILY, symbols=["AAPL"], as_of=day(1)).equals(BARS.empty())
    with pytest.raises(NotFound, match="AAPL"):
        mirror.read(DAILY, symbols=["APPL"])


def test_the_mirror_writes_only_what_is_new(
    mirror: Mirror, database: Database, tmp_path: Path
) -> None:
    write_bars(database, DAILY, bars_of(bar(s, n) for s in TICKERS for n in range(500)))
    mirror.read(DAILY)
    base = files_of(tmp_path / "mirror")
    write_bars(database, DAILY, bars_of(bar(s, 500) for s in TICKERS))
    assert mirror.read(DAILY).equals(read_bars(database, DAILY))
    later = files_of(tmp_path / "mirror")
    assert base < later
    (added,) = (tmp_path / "mirror" / "1d" / name for name in later - base)
    assert len(pl.read_ipc(added)) == len(TICKERS)


def test_many_small_changes_leave_few_files(
    mirror: Mirror, database: Database, tmp_path: Path
) -> None:
    write_bars(database, DAILY, bars_of(bar("AAPL", n) for n in range(1000)))
    for n in range(1000, 1040):
        write_bars(database, DAILY, bars_of([bar("AAPL", n)]))
        assert len(mirror.read(DAILY)) == n + 1
    assert len(files_of(tmp_path / "mirror")) <= mirror_module.MAX_LATER_SEGMENTS + 1
    assert mirror.read(DAILY).equals(read_bars(database, DAILY))


@pytest.mark.parametrize(
    "damage", ["deleted", "folder deleted", "truncated", "garbled", "manifest"]
)
@pytest.mark.parametrize("is_reopened", [True, False])
def test_a_damaged_mirror_is_rebuilt(
    mirror: Mirror, database: Database, tmp_path: Path, damage: str, is_reopened: bool
) -> None:
    write_bars(database, DAILY, bars_of(bar(s, n) for s in TICKERS for n in range(50)))
    expected = mirror.read(DAILY).clone()
    folder = tmp_path / "mirror" / "1d"
    (segment,) = folder.glob("*.arrow")
    if damage == "deleted":
        segment.unlink()
    elif damage == "folder deleted":
        shutil.rmtree(folder)
    elif damage == "truncated":
        expected = read_bars(database, DAILY)
        half = segment.read_bytes()[: segment.stat().st_size // 2]
        segment.unlink()
        segment.write_bytes(half)
    elif damage == "garbled":
        garbage = b"\0" * segment.stat().st_size
        segment.unlink()
        segment.write_bytes(garbage)
    else:
        (folder / "manifest.json").write_text("{")
    reader = Mirror(database, tmp_path / "mirror") if is_reopened else mirror
    assert reader.read(DAILY).equals(expected)


def test_the_mirror_of_another_database_is_never_used(
    mirror: Mirror, database: Database, tmp_path: Path
) -> None:
    write_bars(database, DAILY, bars_of([bar("AAPL", 1, close=1.0)]))
    assert closes(mirror.read(DAILY)) == [1.0]
    other = with_symbols(Database.open(f"sqlite:///{tmp_path}/other.db"), [])
    other.upgrade()
    with_symbols(other)
    write_bars(other, DAILY, bars_of([bar("AAPL", 1, close=2.0)]))
    assert closes(Mirror(other, tmp_path / "mirror").read(DAILY)) == [2.0]
    assert closes(mirror.read(DAILY)) == [1.0]
    other.close()


def test_a_database_restored_to_an_earlier_state_is_noticed(
    mirror: Mirror, database: Database
) -> None:
    # As many changes as the mirror has seen, but other ones.
    for close in (1.0, 2.0):
        write_bars(database, DAILY, bars_of([bar("AAPL", 1, close=close)]))
        assert closes(mirror.read(DAILY)) == [close]
        with database.transaction() as connection:
            for table in (tables.bars, tables.bar_revisions, tables.bar_changes):
                connection.execute(sa.delete(table))


days = st.integers(0, 8)
writes = st.dictionaries(
    st.tuples(st.sampled_from(TICKERS), days),
    st.tuples(st.integers(1, 3), st.integers(0, 12)),
    min_size=1,
    max_size=10,
)
queries = st.fixed_dictionaries(
    {
        "symbols": st.none() | st.lists(st.sampled_from(TICKERS), unique=True),
        "start": st.none() | days.map(day),
        "end": st.none() | days.map(day),
        "as_of": st.none() | st.integers(-1, 13).map(day),
        "is_first_version": st.booleans(),
    }
)


class History:
    """The slow twin: every version of every bar in a list, looked through for each read."""

    def __init__(self) -> None:
        self.versions: dict[tuple[str, int], list[dict]] = {}

    def write(self, frame: pl.DataFrame) -> None:
        for row in frame.iter_rows(named=True):
            versions = self.versions.setdefault((row["symbol"], row["ts"]), [])
            is_news = not versions or (
                row["known_at"] > versions[-1]["known_at"] and row["close"] != versions[-1]["close"]
            )
            if is_news:
                versions.append(row)

    def read(
        self,
        symbols: list[str] | None,
        start: datetime | None,
        end: datetime | None,
        as_of: datetime | None,
        is_first_version: bool,
    ) -> pl.DataFrame:
        rows = []
        for (symbol, ts), versions in self.versions.items():
            known = [v for v in versions if as_of is None or v["known_at"] <= as_of]
            is_asked = (
                (symbols is None or symbol in symbols)
                and (start is None or ts >= start)
                and (end is None or ts <= end)
            )
            if known and is_asked:
                rows.append(known[0] if is_first_version else known[-1])
        return bars_of(rows)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(st.tuples(writes, st.lists(queries, min_size=1, max_size=3)), max_size=6),
    share=st.sampled_from([0.1, 1e9]),
)
def test_database_and_mirror_agree_with_the_slow_twin(
    mirror: Mirror, database: Database, steps: list, share: float
) -> None:
    with database.transaction() as connection:
        for table in (tables.bars, tables.bar_revisions, tables.bar_changes):
            connection.execute(sa.delete(table))
    history = History()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mirror_module, "MAX_LATER_SHARE", share)
        patch.setattr(mirror_module, "MAX_LATER_SEGMENTS", 2)
        for rows, asked in steps:
            frame = bars_of(
                bar(symbol, number, float(close), known)
                for (symbol, number), (close, known) in rows.items()
            )
            write_bars(database, DAILY, frame)
            history.write(frame)
            for query in asked:
                expected = history.read(**query)
                assert read_bars(database, DAILY, **query).equals(expected)
                assert mirror.read(DAILY, **query).equals(expected)
        assert Mirror(database, mirror._folder).read(DAILY).equals(read_bars(database, DAILY))
