"""Features kept in files: read as long as nothing has changed, made anew when anything has."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES, Feature
from candlecast.domain.frames import ACTIONS
from candlecast.domain.market import Symbol
from candlecast.features.compute import compute
from candlecast.pipelines import materialized as module
from candlecast.pipelines import provenance
from candlecast.pipelines.materialized import materialized_features
from candlecast.pipelines.universe import read_market
from candlecast.store.facts import write_facts
from candlecast.store.feature_files import ROW_WORDS, FeatureFiles
from candlecast.store.symbols import write_symbols
from pipeline_rows import DAILY, LATER, at, closing, opened, put, sample_bars

BARS = sample_bars("AAPL", "IBM", n_sessions=160)
DAYS = BARS["ts"].unique().sort()
NAMES = ("har_1", "har_5", "return_rank_21")
IBM = pl.col("symbol") == "IBM"


class Counted:
    """How often features were computed."""

    def __init__(self):
        self.n = 0

    def __call__(self, *arguments):
        self.n += 1
        return compute(*arguments)


@pytest.fixture
def computed(monkeypatch):
    counted = Counted()
    monkeypatch.setattr(module, "compute", counted)
    return counted


@contextmanager
def filled(url, home):
    with opened(url, home) as stores:
        put(stores, BARS.filter(pl.col("ts") < DAYS[-1]))
        yield stores


@pytest.fixture
def stores(tmp_path):
    with filled(f"sqlite:///{tmp_path}/candlecast.db", tmp_path) as opened_stores:
        yield opened_stores


@pytest.fixture
def either(database_url, tmp_path):
    with filled(database_url, tmp_path) as opened_stores:
        yield opened_stores


def direct(stores, names=NAMES, symbols=(), as_of=None, **options):
    market = read_market(stores, DAILY, symbols, as_of, **options)
    return compute(market.prices, names)


def files(stores):
    folder = stores.feature_files._folder / "1d"
    return sorted(path for path in folder.iterdir() if path.name != "lock")


def test_asking_again_reads_the_file_and_says_what_computing_says(stores, computed):
    for _ in range(3):
        assert materialized_features(stores, DAILY, NAMES).equals(direct(stores))
    assert computed.n == 1
    later = at(stores, LATER + timedelta(days=9))
    assert materialized_features(later, DAILY, NAMES).equals(direct(stores))
    assert computed.n == 1


def test_every_part_of_the_question_has_an_answer_of_its_own(stores, computed):
    asked = [
        {"names": NAMES},
        {"names": NAMES[:1]},
        {"names": NAMES[::-1]},
        {"names": NAMES, "symbols": ("IBM",)},
        {"names": NAMES, "as_of": closing(DAYS[-20])},
        {"names": NAMES, "as_of": closing(DAYS[-21])},
        {"names": NAMES, "is_newest": True},
    ]
    for _ in range(2):
        for question in asked:
            assert materialized_features(stores, DAILY, **question).equals(
                direct(stores, **question)
            )
    assert computed.n == len(asked)


def new_bar(stores):
    put(stores, BARS)


def correction(stores):
    is_it = IBM & (pl.col("ts") == DAYS[-30])
    wrong = pl.when(is_it).then(pl.col("close") * 1.01).otherwise("close")
    lower = pl.when(is_it).then(pl.col("adj_close") * 1.01).otherwise("adj_close")
    high = pl.when(is_it).then(pl.col("high") * 1.02).otherwise("high")
    given = BARS.filter(pl.col("ts") < DAYS[-1])
    put(stores, given.with_columns(close=wrong, adj_close=lower, high=high))


def late_action(stores):
    row = ("IBM", DAYS[-3], "split", 2.0, "files", stores.clock.now())
    actions = pl.DataFrame([row], schema=ACTIONS.columns, orient="row")
    assert write_facts(stores.database, ACTIONS, actions) == 1


def other_calendar(stores):
    write_symbols(stores.database, [Symbol("IBM", calendar="24/7")])


@pytest.mark.parametrize("change", [new_bar, correction, late_action, other_calendar])
@pytest.mark.parametrize("is_newest", [False, True])
def test_what_changes_the_market_is_seen_at_once(either, computed, change, is_newest):
    stores = either
    question = {"names": NAMES, "is_newest": is_newest}
    before = materialized_features(stores, DAILY, **question)
    monday = at(stores, LATER + timedelta(days=7))
    change(monday)
    after = materialized_features(monday, DAILY, **question)
    assert computed.n == 2
    assert after.equals(direct(monday, **question))
    if change is new_bar or (change is correction and is_newest):
        assert not after.equals(before)
    assert len(files(stores)) == 2  # the superseded answer is gone


def test_another_version_of_the_code_asks_anew(stores, computed, monkeypatch):
    materialized_features(stores, DAILY, NAMES)
    monkeypatch.setattr(module, "package_code", lambda: "upgraded")
    materialized_features(stores, DAILY, NAMES)
    materialized_features(stores, DAILY, NAMES)
    assert computed.n == 2
    assert len(files(stores)) == 2


def test_the_hash_of_the_code_sees_every_source_of_a_feature(monkeypatch, tmp_path):
    assert provenance.features_code(NAMES) == provenance.features_code(NAMES)
    before = provenance.features_code(NAMES)
    entry = FEATURES.get("har_1")
    changed = replace(entry, expression=lambda: entry.expression() + 1)
    monkeypatch.setitem(FEATURES._entries, "har_1", changed)
    assert provenance.features_code(NAMES) != before
    own = tmp_path / "own.py"
    hashes = []
    for text in ("one", "two", "two"):
        own.write_text(text)
        mine = Feature("mine", lambda: pl.col("close") * 0, 0, origin=str(own))
        monkeypatch.setitem(FEATURES._entries, "mine", mine)
        hashes.append(provenance.features_code(("mine",)))
    assert hashes[0] != hashes[1]
    assert hashes[1] == hashes[2]


@pytest.mark.parametrize("n_kept", [0, 7, 4_000])
def test_a_truncated_file_is_made_anew(stores, computed, n_kept):
    whole = materialized_features(stores, DAILY, NAMES)
    [data] = [path for path in files(stores) if path.suffix == ".arrow"]
    spoilt = data.read_bytes()[:n_kept]
    data.unlink()
    data.write_bytes(spoilt)
    assert materialized_features(stores, DAILY, NAMES).equals(whole)
    assert computed.n == 2


def test_one_changed_bit_is_noticed(stores, computed):
    whole = materialized_features(stores, DAILY, NAMES)
    [data] = [path for path in files(stores) if path.suffix == ".arrow"]
    spoilt = bytearray(data.read_bytes())
    spoilt[len(spoilt) // 2] ^= 1
    data.unlink()
    data.write_bytes(spoilt)
    assert materialized_features(stores, DAILY, NAMES).equals(whole)
    assert computed.n == 2


def test_two_words_that_changed_places_are_noticed_wherever_they_stand(stores, computed):
    names = FEATURES.names()
    whole = materialized_features(stores, DAILY, names)
    data = next(path for path in files(stores) if path.suffix == ".arrow")
    words, rest = np.fromfile(data, "<u8"), data.read_bytes()[data.stat().st_size // 8 * 8 :]
    for n, steps in enumerate((1, ROW_WORDS, ROW_WORDS + 1)):
        [data] = [path for path in files(stores) if path.suffix == ".arrow"]
        first = next(k for k in range(len(words) // 2, 0, -1) if words[k] != words[k + steps])
        swapped = words.copy()
        swapped[[first, first + steps]] = swapped[[first + steps, first]]
        data.write_bytes(swapped.tobytes() + rest)
        assert materialized_features(stores, DAILY, names).equals(whole)
        assert computed.n == n + 2


def test_a_manifest_that_makes_no_sense_is_written_anew(stores, computed):
    [manifest] = [*_manifests(stores, computed)]
    for n, text in enumerate(("", "[]", "{}", '{"format": 1}', json.dumps({"format": 99}))):
        manifest.write_text(text)
        assert materialized_features(stores, DAILY, NAMES).equals(direct(stores))
        assert computed.n == n + 2
    assert len(files(stores)) == 2


def _manifests(stores, computed):
    materialized_features(stores, DAILY, NAMES)
    assert computed.n == 1
    return (path for path in files(stores) if path.suffix == ".json")


def test_an_answer_is_not_kept_while_later_rows_are_waiting_to_be_known(stores, computed):
    past = at(stores, closing(DAYS[-10]) + timedelta(hours=1))
    for _ in range(2):
        assert materialized_features(past, DAILY, NAMES).equals(direct(past))
    assert computed.n == 2
    assert len(materialized_features(stores, DAILY, NAMES)) > len(direct(past))
    # What was answered later is no answer for a clock that stands before it.
    assert materialized_features(past, DAILY, NAMES).equals(direct(past))


def test_the_disk_is_bounded_and_what_was_asked_for_last_stays(stores, computed):
    few = replace(stores, feature_files=FeatureFiles(stores.feature_files._folder, max_files=3))
    instants = [closing(day) for day in DAYS[-40:-30]]
    for instant in instants:
        materialized_features(few, DAILY, NAMES, as_of=instant)
        materialized_features(few, DAILY, NAMES, as_of=instants[0])
    assert len(files(few)) == 6
    n_before = computed.n
    materialized_features(few, DAILY, NAMES, as_of=instants[0])
    materialized_features(few, DAILY, NAMES, as_of=instants[-1])
    assert computed.n == n_before
    small = replace(stores, feature_files=FeatureFiles(few.feature_files._folder, max_bytes=1))
    materialized_features(small, DAILY, NAMES)
    assert len(files(small)) == 2


def test_what_a_dead_writer_left_is_cleared_away(stores, computed):
    materialized_features(stores, DAILY, NAMES)
    folder = stores.feature_files._folder / "1d"
    (folder / "left-behind.part").write_bytes(b"half")
    materialized_features(stores, DAILY, NAMES[:1])
    assert not [path for path in files(stores) if path.suffix == ".part"]


def test_a_view_outlives_its_file(stores):
    materialized_features(stores, DAILY, NAMES)
    mapped = materialized_features(stores, DAILY, NAMES)
    expected = direct(stores)
    for path in files(stores):
        path.unlink()
    assert mapped.equals(expected)


ASKING = """
import sys
from datetime import datetime
from pathlib import Path
from candlecast.domain.market import FixedClock, Timeframe
from candlecast.features.compute import compute
from candlecast.pipelines.materialized import materialized_features
from candlecast.pipelines.universe import read_market
from candlecast.store.stores import open_stores

url, home, now, *names = sys.argv[1:]
clock, daily = FixedClock(datetime.fromisoformat(now)), Timeframe.parse("1d")
stores = open_stores(database_url=url, home=Path(home), artifacts_url=None, clock=clock)
truth = compute(read_market(stores, daily, (), None).prices, names)
for n in range(18):
    if n % 3 == 2:
        for path in (Path(home) / "features" / "1d").iterdir():
            if path.name != "lock" and path.suffix != ".part":
                path.unlink(missing_ok=True)
    assert materialized_features(stores, daily, names).equals(truth)
"""


def test_processes_that_ask_write_and_delete_at_once_all_get_the_truth(stores, tmp_path):
    url, now = f"sqlite:///{tmp_path}/candlecast.db", LATER.isoformat()
    command = [sys.executable, "-c", ASKING, url, str(tmp_path), now, *NAMES]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [worker.communicate(timeout=240)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], told
    assert materialized_features(stores, DAILY, NAMES).equals(direct(stores))
    assert len(files(stores)) == 2
