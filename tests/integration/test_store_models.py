"""Features, labels, training sets, model versions and the stores; on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from candlecast.domain.frames import FEATURES, LABELS
from candlecast.domain.market import FixedClock, Timeframe
from candlecast.errors import BadArtifact, Conflict, InvalidSpec, NotFound
from candlecast.store.bars import read_bars, write_bars
from candlecast.store.database import Database
from candlecast.store.features import (
    TrainingSet,
    read_features,
    read_labels,
    read_training_set,
    write_features,
    write_labels,
    write_training_set,
)
from candlecast.store.ledger import Batch, append
from candlecast.store.registry import ModelVersion, Registry
from candlecast.store.stores import open_stores
from integration.store_rows import DAILY, TICKERS, bar, bars_of, day, forecasts_of, with_symbols

VERSION = ModelVersion(
    version="lightgbm-1",
    kind="lightgbm",
    timeframe=DAILY,
    horizons=("1D", "1W"),
    spec='{"kind": "lightgbm"}',
    metrics='{"crps": 0.1}',
    artifact_sha256="0" * 64,
    training_from=day(0),
    training_until=day(9),
    training_set_id="set-1",
    stage="candidate",
    is_active=False,
    created_at=day(10),
)


def features_of(**columns: float | None) -> pl.DataFrame:
    rows = [
        {"symbol": s, "ts": day(n), "as_of": day(n + 1)} for s in sorted(TICKERS) for n in range(3)
    ]
    values = [pl.lit(value, pl.Float64).alias(name) for name, value in columns.items()]
    return FEATURES.conform(pl.DataFrame(rows).with_columns(values))


def labels_of(value: float | None, horizons: tuple[str, ...] = ("1D", "1W")) -> pl.DataFrame:
    rows = [
        (s, day(n), h, 1, value, day(n + 2), 0.25)
        for s in TICKERS
        for n in range(3)
        for h in horizons
    ]
    return LABELS.conform(pl.DataFrame(rows, schema=LABELS.columns, orient="row"))


def test_features_get_columns_as_they_come(database: Database) -> None:
    with_symbols(database)
    assert write_features(database, DAILY, features_of(rsi_14=50.0), "set-1") == 9
    assert write_features(database, DAILY, features_of(rsi_14=50.0), "set-1") == 0
    both = features_of(atr=None, rsi_14=51.0)
    assert write_features(database, DAILY, both, "set-2") == 9
    assert read_features(database, DAILY).equals(both)
    some = read_features(database, DAILY, symbols=["MSFT"], start=day(1), end=day(1))
    assert some.select("symbol", "ts", "rsi_14").rows() == [("MSFT", day(1), 51.0)]


def test_a_feature_left_out_of_a_set_is_no_longer_shown(database: Database) -> None:
    with_symbols(database)
    write_features(database, DAILY, features_of(atr=1.0, rsi_14=50.0), "set-1")
    write_features(database, DAILY, features_of(rsi_14=50.0), "set-2")
    assert read_features(database, DAILY)["atr"].null_count() == 9


@pytest.mark.parametrize("name", ['x"; DROP TABLE bars; --', "Upper", "set_id", "", "a" * 64])
def test_names_that_are_no_column_are_refused(database: Database, name: str) -> None:
    with_symbols(database)
    with pytest.raises(InvalidSpec, match="cannot name a feature"):
        write_features(database, DAILY, features_of(**{name: 1.0}), "set-1")
    assert read_features(database, DAILY).is_empty()


def test_the_features_view_shows_every_feature_beside_the_next_days_return(
    database: Database,
) -> None:
    with_symbols(database)
    write_features(database, DAILY, features_of(rsi_14=50.0), "set-1")
    write_features(database, DAILY, features_of(rsi_14=50.0, atr=2.0), "set-1")
    write_labels(database, DAILY, labels_of(0.01), "forward_return")
    with database.reading() as reader:
        rows = reader.execute(sa.text("SELECT ticker, rsi_14, atr, label_ret_1d FROM features"))
        assert sorted(rows.all()) == sorted((s, 50.0, 2.0, 0.01) for s in TICKERS for _ in range(3))


def test_labels_mature_and_are_chosen_by_kind_and_horizon(database: Database) -> None:
    with_symbols(database)
    assert write_labels(database, DAILY, labels_of(None), "forward_return") == 18
    assert write_labels(database, DAILY, labels_of(0.5), "forward_return") == 18
    assert write_labels(database, DAILY, labels_of(0.5), "forward_return") == 0
    assert write_labels(database, DAILY, labels_of(1.0), "barrier") == 18
    frame = read_labels(
        database, DAILY, symbols=["AAPL"], horizons=["1W"], kind="forward_return", end=day(1)
    )
    expected = labels_of(0.5).filter(
        pl.col("symbol") == "AAPL", pl.col("horizon") == "1W", pl.col("ts") <= day(1)
    )
    assert frame.drop("kind").equals(expected)
    assert len(read_labels(database, DAILY)) == 36
    assert read_labels(database, Timeframe.parse("1h")).schema == frame.schema


def test_a_training_set_is_described_once(database: Database) -> None:
    manifest = TrainingSet("abc", '{"x": 1}', day(5), 123, "f" * 64, day(6))
    write_training_set(database, manifest)
    write_training_set(database, replace(manifest, created_at=day(7)))
    assert read_training_set(database, "abc") == manifest
    with pytest.raises(NotFound, match="did you mean abc"):
        read_training_set(database, "abd")


@pytest.fixture(params=["local", "remote"])
def registry(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Registry:
    if request.param == "local":
        return Registry(database, str(tmp_path / "artifacts"))
    return Registry(database, f"memory://{tmp_path.name}/models", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "trained"
    (made / "folds").mkdir(parents=True)
    (made / "manifest.json").write_text("{}")
    (made / "folds" / "model.txt").write_bytes(b"tree")
    return made


def test_a_version_and_its_files_come_back(registry: Registry, folder: Path) -> None:
    registry.add(VERSION, folder)
    assert registry.get("lightgbm-1") == VERSION
    fetched = registry.fetch("lightgbm-1")
    assert (fetched / "manifest.json").read_text() == "{}"
    assert (fetched / "folds" / "model.txt").read_bytes() == b"tree"


def test_adding_twice_changes_nothing_and_other_files_are_a_conflict(
    registry: Registry, folder: Path
) -> None:
    registry.add(VERSION, folder)
    registry.add(replace(VERSION, created_at=day(99)), folder)
    assert registry.list() == (VERSION,)
    (folder / "manifest.json").write_text('{"other": 1}')
    with pytest.raises(Conflict, match="other files"):
        registry.add(VERSION, folder)
    assert (registry.fetch("lightgbm-1") / "manifest.json").read_text() == "{}"


def test_there_is_one_champion_for_each_timeframe(registry: Registry, folder: Path) -> None:
    assert registry.champion(DAILY) is None
    hourly = replace(VERSION, version="hourly", timeframe=Timeframe.parse("1h"))
    for version in (VERSION, replace(VERSION, version="b", created_at=day(11)), hourly):
        registry.add(version, folder)
    for name in ("lightgbm-1", "b", "hourly", "b"):
        registry.activate(name)
    champion = registry.champion(DAILY)
    assert champion is not None
    assert champion.version == "b"
    assert [version.version for version in registry.list() if version.is_active] == ["hourly", "b"]


def test_a_version_may_be_added_as_the_champion(registry: Registry, folder: Path) -> None:
    registry.add(VERSION, folder)
    registry.activate("lightgbm-1")
    registry.add(replace(VERSION, version="next", is_active=True), folder)
    champion = registry.champion(DAILY)
    assert champion is not None
    assert champion.version == "next"


def test_activations_at_the_same_time_leave_one_champion(
    database: Database, tmp_path: Path, folder: Path
) -> None:
    registry = Registry(database, str(tmp_path / "artifacts"))
    names = [f"v{n}" for n in range(4)]
    for name in names:
        registry.add(replace(VERSION, version=name), folder)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(registry.activate, names * 5))
    assert sum(version.is_active for version in registry.list()) == 1


def test_a_retired_version_is_not_activated(registry: Registry, folder: Path) -> None:
    registry.add(replace(VERSION, stage="retired"), folder)
    with pytest.raises(Conflict, match="retired"):
        registry.activate("lightgbm-1")
    assert registry.champion(DAILY) is None


def test_an_unknown_version_is_named_with_the_close_ones(registry: Registry, folder: Path) -> None:
    registry.add(VERSION, folder)
    for ask in (registry.get, registry.activate, registry.fetch):
        with pytest.raises(NotFound, match="did you mean lightgbm-1"):
            ask("lightgbm-2")


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden", "a\\b", "a" * 101, "a b"])
def test_a_version_cannot_leave_the_folder(registry: Registry, folder: Path, name: str) -> None:
    with pytest.raises(InvalidSpec, match="cannot name a model version"):
        registry.add(replace(VERSION, version=name), folder)
    assert registry.list() == ()


def test_changed_added_or_missing_files_are_found_out(registry: Registry, folder: Path) -> None:
    registry.add(VERSION, folder)
    stored = registry.fetch("lightgbm-1")
    model = stored / "folds" / "model.txt"
    for content in (b"TREE", None):
        model.unlink()
        if content is not None:
            model.write_bytes(content)
        with pytest.raises(BadArtifact, match="were changed"):
            registry.fetch("lightgbm-1")
    model.write_bytes(b"tree")
    (stored / "more.txt").write_text("x")
    with pytest.raises(BadArtifact, match="were changed"):
        registry.fetch("lightgbm-1")


def test_links_and_empty_folders_are_no_artefacts(registry: Registry, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadArtifact, match="holds no files"):
        registry.add(VERSION, empty)
    (empty / "link").symlink_to("/etc/hostname")
    with pytest.raises(BadArtifact, match="link"):
        registry.add(VERSION, empty)
    assert registry.list() == ()


def test_a_copy_that_breaks_off_leaves_no_version(
    database: Database, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(database, str(tmp_path / "artifacts"))

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(registry._files, "put_file", fail)
        with pytest.raises(OSError, match="full"):
            registry.add(VERSION, folder)
    assert registry.list() == ()
    assert not (tmp_path / "artifacts" / "lightgbm-1").exists()
    registry.add(VERSION, folder)
    assert registry.fetch("lightgbm-1").is_dir()


def test_preds_are_the_champions_live_forecasts(
    database: Database, tmp_path: Path, folder: Path
) -> None:
    registry = Registry(with_symbols(database), str(tmp_path / "artifacts"))
    for name in ("one", "two"):
        registry.add(replace(VERSION, version=name), folder)
        forecasts = forecasts_of(["AAPL"], [1])
        append(database, forecasts, Batch(DAILY, "live", name, None, day(3), "scaled"))
        append(database, forecasts, Batch(DAILY, "walk_forward", name, "r", day(3), "scaled"))
    query = sa.text("SELECT ticker, dt, horizon, yhat, yhat_std, prob_up FROM preds")
    with database.reading() as reader:
        assert reader.execute(query).all() == []
    registry.activate("two")
    with database.reading() as reader:
        (row,) = reader.execute(query).all()
        models = reader.execute(sa.text("SELECT version, is_active FROM ml_models_metadata")).all()
    assert (row.ticker, row.horizon, row.prob_up) == ("AAPL", "1D", 0.5)
    assert sorted((version, bool(is_active)) for version, is_active in models) == [
        ("one", False),
        ("two", True),
    ]


def test_opening_the_stores_makes_all_that_is_missing(database_url: str, tmp_path: Path) -> None:
    clock = FixedClock(day(1))
    home = tmp_path / "home" / "below"
    for _ in range(2):
        stores = open_stores(database_url=database_url, home=home, artifacts_url=None, clock=clock)
        with_symbols(stores.database)
        write_bars(stores.database, DAILY, bars_of([bar("AAPL", 1)]))
        assert stores.mirror.read(DAILY).equals(read_bars(stores.database, DAILY))
        assert stores.registry.champion(DAILY) is None
        assert stores.clock.now() == day(1)
        stores.close()
    assert home.is_dir()
