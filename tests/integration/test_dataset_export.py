"""Training sets leave as Parquet files and as rows of the database, and say the same there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import polars as pl
import pyarrow.parquet as pq
import pytest

from candlecast.domain.described import to_mapping
from candlecast.domain.specs import LabelSpec
from candlecast.errors import Conflict, InvalidSpec, NotFound
from candlecast.pipelines import export
from candlecast.pipelines.export import export_parquet, export_table, training_rows
from candlecast.pipelines.training_sets import note_training_set, rebuild_training_set
from candlecast.store import training_data
from candlecast.store.training_data import count_training_data, read_training_data
from command_line import call
from pipeline_rows import LATER, all_rows, changes, opened, put
from training_rows import BARS, SPEC, SYMBOLS, go_on


@pytest.fixture
def stores(tmp_path):
    with opened(f"sqlite:///{tmp_path}/candlecast.db", tmp_path) as opened_stores:
        put(opened_stores, BARS)
        yield opened_stores


def test_a_parquet_file_holds_the_examples_and_says_what_they_are(stores, tmp_path):
    manifest, training = note_training_set(stores, SPEC)
    path = tmp_path / "rows.parquet"
    examples = training.examples
    assert export_parquet(training, manifest, path) == len(examples) == manifest.n_rows
    rows = pl.read_parquet(path)
    assert rows.columns == [
        *("symbol", "ts", "as_of", "har_1", "har_5", "return_rank_21"),
        *("y_1D", "end_at_1D", "y_1W", "end_at_1W", "weight"),
    ]
    assert np.array_equal(rows.select(examples.feature_names).to_numpy(), examples.X)
    targets = rows.select("y_1D", "y_1W").to_numpy()
    assert np.array_equal(targets, examples.y, equal_nan=True)
    assert rows["y_1W"].null_count() == 5 * len(SYMBOLS)  # the last week is open
    ends = rows.select(pl.col("end_at_1D", "end_at_1W").dt.replace_time_zone(None)).to_numpy()
    assert np.array_equal(ends, examples.end_at)
    assert rows["symbol"].to_list() == [examples.tickers[code] for code in examples.symbol]
    told = {name.decode(): text.decode() for name, text in pq.read_schema(path).metadata.items()}
    assert told["candlecast.set_id"] == manifest.set_id
    assert told["candlecast.rows_sha256"] == manifest.rows_sha256
    spec = orjson.loads(told["candlecast.spec"])
    assert spec == to_mapping(training.spec)


def test_a_set_exported_later_is_the_same_file(stores, tmp_path):
    manifest, training = note_training_set(stores, SPEC)
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    export_parquet(training, manifest, first)
    later = go_on(stores, np.random.default_rng(3), 2)
    export_parquet(rebuild_training_set(later, manifest.set_id), manifest, second)
    assert first.read_bytes() == second.read_bytes()


def test_a_file_that_exists_is_replaced_only_when_asked_and_never_by_halves(
    stores, tmp_path, monkeypatch
):
    manifest, training = note_training_set(stores, SPEC)
    path = tmp_path / "rows.parquet"
    path.write_text("mine")
    with pytest.raises(InvalidSpec, match="exists; name another file, or replace it with --force"):
        export_parquet(training, manifest, path)
    with pytest.raises(InvalidSpec, match="is no folder"):
        export_parquet(training, manifest, tmp_path / "absent" / "rows.parquet")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", full)
        with pytest.raises(InvalidSpec, match="No space left"):
            export_parquet(training, manifest, path, is_forced=True)
    assert path.read_text() == "mine"
    with monkeypatch.context() as patched:  # it comes into being while ours is being written
        patched.setattr(export.Path, "exists", lambda _: False)
        with pytest.raises(InvalidSpec, match="somebody else meanwhile"):
            export_parquet(training, manifest, path)
    assert path.read_text() == "mine"
    export_parquet(training, manifest, path, is_forced=True)
    assert len(pl.read_parquet(path)) == manifest.n_rows
    assert [found.name for found in tmp_path.glob("*rows.parquet*")] == ["rows.parquet"]


def test_rows_in_the_database_are_read_back_to_the_last_bit(database_url, tmp_path, monkeypatch):
    monkeypatch.setattr(training_data, "ROWS_AT_ONCE", 100)
    with opened(database_url, tmp_path) as stores:
        put(stores, BARS)
        manifest, training = note_training_set(stores, SPEC)
        assert export_table(stores, training, manifest) == manifest.n_rows
        rows = training_rows(training)
        assert read_training_data(stores.database, manifest.set_id).equals(rows)
        assert count_training_data(stores.database) == {manifest.set_id: manifest.n_rows}
        before = all_rows(database_url)
        assert export_table(stores, training, manifest) == 0
        assert changes(before, all_rows(database_url)) == {}
        with pytest.raises(NotFound, match=f"did you mean {manifest.set_id}"):
            read_training_data(stores.database, manifest.set_id[1:])


def test_rows_whose_writing_was_interrupted_are_not_read_as_whole(stores, monkeypatch):
    manifest, training = note_training_set(stores, SPEC)
    monkeypatch.setattr(training_data, "ROWS_AT_ONCE", 300)
    upsert, parts = stores.database.upsert, []

    def interrupted(table, frame, **options):
        if parts:
            raise KeyboardInterrupt
        parts.append(frame)
        return upsert(table, frame, **options)

    with monkeypatch.context() as patched:
        patched.setattr(stores.database, "upsert", interrupted)
        with pytest.raises(KeyboardInterrupt):
            export_table(stores, training, manifest)
    told = rf"300 of the {manifest.n_rows} rows .* export {manifest.set_id} --to-table"
    with pytest.raises(Conflict, match=told):
        read_training_data(stores.database, manifest.set_id)
    assert export_table(stores, training, manifest) == manifest.n_rows - 300
    rows = training_rows(training)
    assert read_training_data(stores.database, manifest.set_id).equals(rows)


def test_a_link_to_nothing_and_a_folder_are_called_what_they_are(stores, tmp_path):
    manifest, training = note_training_set(stores, SPEC)
    link, folder = tmp_path / "link.parquet", tmp_path / "folder"
    link.symlink_to(tmp_path / "absent.parquet")
    folder.mkdir()
    with pytest.raises(InvalidSpec, match=r"is a link to nothing; .* --force"):
        export_parquet(training, manifest, link)
    with pytest.raises(InvalidSpec, match="is a folder; name a file in it"):
        export_parquet(training, manifest, folder, is_forced=True)
    export_parquet(training, manifest, link, is_forced=True)
    assert len(pl.read_parquet(link)) == manifest.n_rows


def test_a_file_system_without_hard_links_gets_the_file_and_keeps_anothers(
    stores, tmp_path, monkeypatch
):
    def without_links(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(export.Path, "hardlink_to", without_links)
    manifest, training = note_training_set(stores, SPEC)
    path = tmp_path / "rows.parquet"
    export_parquet(training, manifest, path)
    assert len(pl.read_parquet(path)) == manifest.n_rows
    path.write_text("mine")
    monkeypatch.setattr(export, "check_target", lambda *_, **__: None)
    with pytest.raises(InvalidSpec, match="somebody else meanwhile"):
        export_parquet(training, manifest, path)
    assert path.read_text() == "mine"
    assert [found.name for found in tmp_path.glob("*rows.parquet*")] == ["rows.parquet"]


def test_other_kinds_of_label_can_be_exported(stores, tmp_path):
    labels = LabelSpec("price_direction", ("1D", "1W"), threshold="fixed:0.01")
    manifest, training = note_training_set(stores, replace(SPEC, labels=labels))
    export_parquet(training, manifest, tmp_path / "classes.parquet")
    rows = pl.read_parquet(tmp_path / "classes.parquet")
    assert {*rows["y_1D"].drop_nulls()} == {-1.0, 0.0, 1.0}


def test_a_feature_may_not_take_the_name_of_another_column(stores):
    _, training = note_training_set(stores, SPEC)
    names = ("har_1", "weight", "return_rank_21")
    taken = replace(training, examples=replace(training.examples, feature_names=names))
    with pytest.raises(InvalidSpec, match="weight"):
        training_rows(taken)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANDLECAST_HOME", str(tmp_path / "var"))
    with opened(f"sqlite:///{tmp_path}/var/candlecast.db", tmp_path / "var", LATER) as stores:
        put(stores, BARS)
    (tmp_path / "spec.toml").write_text(
        'min_bars = 250\n[features]\nnames = ["har_1"]\n[labels]\nhorizons = ["1D"]\n'
    )
    return tmp_path


def test_the_commands_make_list_show_and_export_a_set(home):
    made = call("dataset", "export", "--spec", "spec.toml", "--out", "a.parquet", "--json")
    assert made.code == 0, made.err
    set_id, n_rows = made.json()["set_id"], made.json()["n_rows"]
    assert len(pl.read_parquet(home / "a.parquet")) == n_rows
    again = call("dataset", "export", set_id, "--out", "b.parquet", "--to-table", "--json")
    assert again.json()["n_written"] == n_rows
    assert (home / "a.parquet").read_bytes() == (home / "b.parquet").read_bytes()
    [listed] = call("dataset", "list", "--json").json()
    assert (listed["set_id"], listed["n_stored"]) == (set_id, n_rows)
    shown = call("dataset", "show", set_id, "--json").json()
    assert shown["spec"]["symbols"] == [*SYMBOLS]
    assert set_id in call("dataset", "list").out
    assert shown["rows_sha256"] in call("dataset", "show", set_id).out
    assert "0 of them new or changed" in call("dataset", "export", set_id, "--to-table").out


def test_the_commands_name_what_is_wrong(home):
    nowhere = call("dataset", "export")
    assert (nowhere.code, "--to-table" in nowhere.err) == (2, True)
    assert call("dataset", "export", "abc", "--symbols", "IBM", "--out", "c.parquet").code == 2
    assert "unknown training set 'abc'" in call("dataset", "show", "abc").err
    assert call("dataset", "export", "abc", "--out", "c.parquet").code == 2
    call("dataset", "export", "--spec", "spec.toml", "--out", "d.parquet")
    again = call("dataset", "export", "--spec", "spec.toml", "--out", "d.parquet")
    assert (again.code, "--force" in again.err) == (2, True)
    forced = call("dataset", "export", "--spec", "spec.toml", "--out", "d.parquet", "--force")
    assert forced.code == 0
    early = call("dataset", "export", "abc", "--out", "d.parquet")
    assert "--force" in early.err, "the target is looked at before the work"
