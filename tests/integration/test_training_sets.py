"""Training sets are rebuilt from their manifests to the same bytes; on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import orjson
import polars as pl
import pytest
import sqlalchemy as sa

from candlecast.domain.catalog import FEATURES
from candlecast.domain.examples import Examples
from candlecast.domain.frames import ACTIONS
from candlecast.domain.history import History
from candlecast.domain.sources import Request
from candlecast.domain.specs import ExperimentSpec, FeatureSpec, LabelSpec, ModelSpec
from candlecast.errors import Conflict, InvalidSpec, NotFound
from candlecast.pipelines import training_sets
from candlecast.pipelines.evaluate import evaluate
from candlecast.pipelines.facts import ingest_facts
from candlecast.pipelines.provenance import rows_sha256
from candlecast.pipelines.train import train
from candlecast.pipelines.training_sets import note_training_set, rebuild_training_set
from candlecast.store import ledger
from candlecast.store.facts import write_facts
from candlecast.store.features import read_training_set
from candlecast.store.mirror import Mirror
from candlecast.store.tables import bars as bar_table
from candlecast.store.tables import ml_training_sets
from candlecast.store.training_data import read_training_sets
from pipeline_rows import LATER, at, closing, opened, put
from told_news import Paper
from training_rows import BARS, DAYS, SPEC, SYMBOLS, first_bars, go_on, tell


@pytest.fixture
def stores(tmp_path):
    with opened(f"sqlite:///{tmp_path}/candlecast.db", tmp_path) as opened_stores:
        put(opened_stores, BARS)
        yield opened_stores


def same(one, other):
    """Whether two training sets hold the same bytes, array by array."""
    return alike(one.examples, other.examples)


def alike(one, other):
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, Examples | History):
        return all(alike(value, getattr(other, name)) for name, value in vars(one).items())
    return one == other


@pytest.mark.parametrize("seed", range(3))
def test_whatever_becomes_known_later_a_set_is_rebuilt_to_the_same_bytes(
    database_url, tmp_path, seed
):
    rng = np.random.default_rng(seed)
    with opened(database_url, tmp_path) as stores:
        put(stores, first_bars(rng))
        as_of = [None, closing(DAYS[390]), None][seed]
        manifest, made = note_training_set(stores, SPEC, as_of)
        for n_days in range(1, 5):
            later = go_on(stores, rng, n_days)
            again = rebuild_training_set(later, manifest.set_id)
            assert rows_sha256(again.examples) == manifest.rows_sha256
            assert same(again, made)
            assert again.keys.equals(made.keys)
        # What came has changed what is learnt from now on: the test would see a leak.
        newer, _ = note_training_set(later, SPEC)
        assert newer.set_id != manifest.set_id
        assert newer.rows_sha256 != manifest.rows_sha256


def test_history_added_in_front_is_no_part_of_a_set_made_before(database_url, tmp_path):
    is_early = (pl.col("ts") < DAYS[100]) & (pl.col("symbol") != "IBM")
    with opened(database_url, tmp_path) as stores:
        put(stores, BARS.filter(~is_early))
        manifest, made = note_training_set(stores, SPEC)
        put(stores, BARS)
        assert same(rebuild_training_set(stores, manifest.set_id), made)
        newer, longer = note_training_set(stores, SPEC)
        assert newer.set_id != manifest.set_id
        assert len(longer.examples) > len(made.examples)


def test_a_split_told_after_the_last_bar_and_long_after_it_was_is_part_of_the_set(tmp_path):
    is_raw = pl.col("symbol") == "MSFT"
    hole = is_raw & pl.col("ts").is_between(DAYS[100], DAYS[190])
    raw = pl.when(~is_raw).then("adj_close").alias("adj_close")
    split = {"symbol": "MSFT", "ex_date": DAYS[100], "kind": "split", "value": 2.0}
    told_at = LATER - timedelta(days=1)
    row = pl.DataFrame([split | {"source": "told", "known_at": told_at}])
    with opened(f"sqlite:///{tmp_path}/candlecast.db", tmp_path) as stores:
        put(stores, BARS.filter(~hole).with_columns(raw))
        before, unknowing = note_training_set(stores, SPEC)
        assert write_facts(stores.database, ACTIONS, ACTIONS.conform(row)) == 1
        manifest, made = note_training_set(stores, SPEC)
        assert manifest.as_of == told_at
        assert manifest.set_id != before.set_id
        assert same(rebuild_training_set(stores, manifest.set_id), made)
        assert same(rebuild_training_set(stores, before.set_id), unknowing)


def test_a_trained_model_names_a_set_that_can_be_rebuilt(stores):
    version = train(stores, SPEC).version
    again = rebuild_training_set(stores, version.training_set_id)
    assert again.set_id == version.training_set_id
    assert again.spec == ExperimentSpec.from_mapping(orjson.loads(version.spec))
    assert not train(stores, SPEC).is_new
    assert [one.set_id for one in read_training_sets(stores.database)] == [again.set_id]


def test_the_standard_set_and_all_symbols_are_kept_by_name(stores, monkeypatch):
    manifest, made = note_training_set(stores, replace(SPEC, features=FeatureSpec()))
    spec = orjson.loads(manifest.spec)
    assert spec["symbols"] == [*SYMBOLS]
    assert spec["features"]["names"] == [*made.examples.feature_names]
    entry = replace(FEATURES.get("har_1"), name="har_1_again")
    monkeypatch.setitem(FEATURES._entries, "har_1_again", entry)
    assert same(rebuild_training_set(stores, manifest.set_id), made)


def test_the_same_set_made_twice_is_one(stores):
    first, _ = note_training_set(stores, SPEC)
    second, _ = note_training_set(stores, replace(SPEC, symbols=SYMBOLS))
    assert first == second
    assert len(read_training_sets(stores.database)) == 1


def changed(stores, set_id, **values):
    with stores.database.transaction() as connection:
        where = ml_training_sets.c.set_id == set_id
        connection.execute(sa.update(ml_training_sets).where(where).values(values))


def test_prices_changed_behind_the_back_are_told(stores, tmp_path):
    manifest, _ = note_training_set(stores, SPEC)
    with stores.database.transaction() as connection:
        where = bar_table.c.ts == DAYS[300]
        connection.execute(sa.update(bar_table).where(where).values(close=bar_table.c.close * 2))
    anew = replace(stores, mirror=Mirror(stores.database, tmp_path / "another"))
    with pytest.raises(Conflict, match=r"prices known at .* changed without a trace"):
        rebuild_training_set(anew, manifest.set_id)


def test_another_code_of_a_feature_is_told(stores, monkeypatch):
    manifest, _ = note_training_set(stores, SPEC)
    entry = FEATURES.get("har_5")
    other = replace(entry, expression=lambda: entry.expression() * 1.001)
    monkeypatch.setitem(FEATURES._entries, "har_5", other)
    with pytest.raises(Conflict, match=r"of features or labels is another one; .* train again"):
        rebuild_training_set(stores, manifest.set_id)
    # What the message advises helps: another set, a model of its own, and both are rebuilt.
    newer, made = note_training_set(stores, SPEC)
    assert newer.set_id != manifest.set_id
    assert same(rebuild_training_set(stores, newer.set_id), made)
    assert train(stores, SPEC).version.training_set_id == newer.set_id


def test_no_model_is_registered_on_a_manifest_of_other_rows(stores):
    manifest, _ = note_training_set(stores, SPEC)
    changed(stores, manifest.set_id, rows_sha256="0" * 64)
    for make in (note_training_set, train):
        with pytest.raises(Conflict, match="another `seed` in the spec does"):
            make(stores, SPEC)
    assert stores.registry.list() == ()
    assert not ledger.has_run(stores.database, manifest.set_id)
    assert train(stores, replace(SPEC, seed=SPEC.seed + 1)).is_new


def test_another_version_of_candlecast_is_no_error_unless_the_rows_differ(stores, monkeypatch):
    manifest, made = note_training_set(stores, SPEC)
    monkeypatch.setattr(training_sets, "version", lambda _: "9.9")
    assert same(rebuild_training_set(stores, manifest.set_id), made)
    changed(stores, manifest.set_id, rows_sha256="0" * 64)
    with pytest.raises(Conflict, match=r"made by candlecast .*, this is 9\.9"):
        rebuild_training_set(stores, manifest.set_id)


def test_an_old_manifest_without_hashes_of_rows_is_held_against_the_prices(stores):
    manifest, made = note_training_set(stores, SPEC)
    changed(stores, manifest.set_id, rows_sha256=None, code_sha256=None, version=None)
    assert same(rebuild_training_set(stores, manifest.set_id), made)
    changed(stores, manifest.set_id, sha256="0" * 64)
    with pytest.raises(Conflict, match="cannot be rebuilt"):
        rebuild_training_set(stores, manifest.set_id)


def test_an_old_manifest_is_held_against_its_number_of_rows(stores):
    manifest, _ = note_training_set(stores, SPEC)
    old = {"rows_sha256": None, "code_sha256": None, "version": None}
    changed(stores, manifest.set_id, **old, n_rows=manifest.n_rows + 1)
    with pytest.raises(Conflict, match=f"{manifest.n_rows + 1} rows then, {manifest.n_rows} now"):
        rebuild_training_set(stores, manifest.set_id)


def test_an_old_spec_that_names_no_features_stands_for_those_of_its_model(stores):
    version = train(stores, SPEC).version
    unnamed, made = note_training_set(stores, replace(SPEC, seed=8))
    old = {"rows_sha256": None, "code_sha256": None, "version": None}
    for set_id in (version.training_set_id, unnamed.set_id):
        spec = orjson.loads(read_training_set(stores.database, set_id).spec)
        spec["features"]["names"] = []
        changed(stores, set_id, spec=orjson.dumps(spec).decode(), **old)
    again = rebuild_training_set(stores, version.training_set_id)
    assert again.examples.feature_names == SPEC.features.names
    assert same(again, made)
    with pytest.raises(Conflict, match=r"does not say which features .* no registered model does"):
        rebuild_training_set(stores, unnamed.set_id)


def test_an_unknown_set_is_named_with_what_comes_close(stores):
    manifest, _ = note_training_set(stores, SPEC)
    with pytest.raises(NotFound, match=f"did you mean {manifest.set_id}"):
        rebuild_training_set(stores, manifest.set_id[:-1])
    assert read_training_set(stores.database, manifest.set_id) == manifest


@pytest.mark.parametrize(
    "labels", [LabelSpec("forward_return", ("1D",), parameters={"is_simple": True}),
               LabelSpec("price_direction", ("1D",))],
)  # fmt: skip
def test_models_are_trained_on_log_returns_only(stores, labels):
    spec = replace(SPEC, labels=labels)
    for run in (train, evaluate):
        with pytest.raises(InvalidSpec, match=r"models forecast log returns, not .*dataset export"):
            run(stores, spec)
    _, made = note_training_set(stores, spec)
    assert np.isfinite(made.examples.y).mean() > 0.9


def test_a_level_is_no_input_of_a_model(stores):
    level = next(name for name in FEATURES.names() if not FEATURES.get(name).is_input)
    with pytest.raises(InvalidSpec, match=f"'{level}' is a level"):
        train(stores, replace(SPEC, features=FeatureSpec(("har_1", level))))
    with pytest.raises(InvalidSpec, match="named twice"):
        train(stores, replace(SPEC, features=FeatureSpec(("har_1", "har_1"))))


def test_weights_are_those_of_what_was_known(stores):
    labels = replace(SPEC.labels, weighting="uniqueness", half_life_days=100.0)
    manifest, made = note_training_set(stores, replace(SPEC, labels=labels))
    weight = made.examples.weight
    assert weight.min() >= 0
    assert len(np.unique(weight)) > 50
    known = ~np.isnan(made.examples.y).all(axis=1)
    assert weight[known][-1] > weight[known][0]
    later = go_on(stores, np.random.default_rng(5), 9)
    assert same(rebuild_training_set(later, manifest.set_id), made)
    equal = note_training_set(stores, SPEC)[1].examples.weight
    assert set(equal) == {1.0}


def test_a_set_made_of_headlines_is_rebuilt_whatever_is_told_later(stores):
    for number, day in enumerate(DAYS[-150:-20:10]):
        tell(stores, number, "IBM profit soars to a record", day + timedelta(hours=15))
    spec = replace(SPEC, features=FeatureSpec(("har_1", "news_sentiment_score")))
    manifest, made = note_training_set(stores, spec)
    assert np.nanmax(made.examples.column("news_sentiment_score")) > 0
    later = at(stores, LATER + timedelta(days=1))
    tell(later, 0, "IBM profit collapses", later.clock.now())
    tell(later, 99, "IBM warns of heavy losses", later.clock.now())
    assert same(rebuild_training_set(later, manifest.set_id), made)
    paper = Paper("IBM warns of heavy losses", DAYS[-100] + timedelta(hours=15))
    assert ingest_facts(later, "news", "paper", paper, Request()).n_new == 1
    assert same(rebuild_training_set(later, manifest.set_id), made)
    tell(later, 100, "IBM warns of heavy losses", DAYS[-100] + timedelta(hours=15))
    with pytest.raises(Conflict, match="news or other facts of that time were brought in only"):
        rebuild_training_set(later, manifest.set_id)


@pytest.mark.parametrize("n_headlines", [0, 12])
@pytest.mark.parametrize("kind", ["linear", "lightgbm"])
def test_a_model_is_trained_where_a_source_is_absent_or_says_little(stores, kind, n_headlines):
    for number, day in enumerate(DAYS[-150:-20:10][:n_headlines]):
        tell(stores, number, "IBM profit soars to a record", day)
    names = FeatureSpec(("har_1", "news_sentiment_score"))
    threads = {"n_jobs": 1} if kind == "lightgbm" else {}
    model = ModelSpec(kind, threads)
    run = train(stores, replace(SPEC, features=names, model=model))
    assert run.is_new
    assert orjson.loads(run.version.metrics)["overall"]["n"] > 0


def test_weights_make_another_model(stores):
    labels = replace(SPEC.labels, weighting="uniqueness", half_life_days=60.0)
    equal, weighted = train(stores, SPEC), train(stores, replace(SPEC, labels=labels))
    scores = [orjson.loads(run.version.metrics)["overall"]["crps"] for run in (equal, weighted)]
    assert scores[0] != scores[1]


def test_rows_stay_where_facts_besides_prices_are_absent(stores):
    names = ("har_1", "news_sentiment_score")
    _, made = note_training_set(stores, replace(SPEC, features=FeatureSpec(names)))
    _, without = note_training_set(stores, replace(SPEC, features=FeatureSpec(names[:1])))
    assert len(made.examples) == len(without.examples)
    assert np.isnan(made.examples.column("news_sentiment_score")).all()
    assert not np.isnan(made.examples.column("har_1")).any()
    assert isinstance(made.keys, pl.DataFrame)
