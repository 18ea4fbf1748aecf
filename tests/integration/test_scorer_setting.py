"""Who scores texts is a setting, and scores of one are never taken for those of another."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from candlecast.cli.session import opened
from candlecast.config import PREFIX, Settings
from candlecast.domain.catalog import SCORERS
from candlecast.domain.market import FixedClock
from candlecast.domain.specs import FeatureSpec
from candlecast.errors import InvalidSpec, NotFound
from candlecast.pipelines import materialized as module
from candlecast.pipelines.dataset import make_training_set, read_training_market
from candlecast.pipelines.materialized import materialized_features
from candlecast.pipelines.score import read_known_facts
from pipeline_rows import DAILY, LATER, put
from tiny_finbert import expected, write_folder
from training_rows import BARS, DAYS, SPEC, tell

NAMES = ("har_1", "news_sentiment_score")
FACTS_SPEC = replace(SPEC, features=FeatureSpec(NAMES))
HEADLINE = "profit rose"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch, tmp_path):
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def set_to(monkeypatch):
    """The stores of the settings, with this scorer."""

    @contextmanager
    def opened_with(scorer):
        if scorer is not None:
            monkeypatch.setenv("CANDLECAST_SCORER", scorer)
        with opened(FixedClock(LATER)) as stores:
            yield stores

    return opened_with


@pytest.fixture
def filled(set_to):
    with set_to(None) as stores:
        put(stores, BARS)
        for number, day in enumerate(DAYS[-150:-2:5]):
            tell(stores, number, HEADLINE, day + timedelta(hours=15))
        yield stores


def scores_of(stores):
    return {*read_known_facts(stores, (), LATER).texts["score"].to_list()}


def test_the_lexicon_scores_where_nothing_is_set(filled):
    assert scores_of(filled) == {*SCORERS.get("lexicon")().score([HEADLINE])}


def test_a_finbert_that_is_set_scores_and_makes_another_training_set(filled, set_to, tmp_path):
    folder = write_folder(tmp_path / "m")
    market = read_training_market(filled, FACTS_SPEC, None)
    of_words = make_training_set(FACTS_SPEC, market)
    with set_to(f"finbert:{folder}") as stores:
        (score,) = scores_of(stores)
        assert score == pytest.approx(expected(HEADLINE), abs=1e-6)
        market = read_training_market(stores, FACTS_SPEC, None)
        of_model = make_training_set(FACTS_SPEC, market)
        assert stores.make_scorer() is stores.make_scorer()
        assert stores.make_scorer().id.startswith("finbert-")
    found = of_model.examples.column("news_sentiment_score")
    assert np.nanmax(found) == pytest.approx(score, abs=1e-4)
    assert not np.array_equal(
        found, of_words.examples.column("news_sentiment_score"), equal_nan=True
    )
    assert of_model.set_id != of_words.set_id
    with set_to("lexicon") as stores:  # its scores stand as they were
        market = read_training_market(stores, FACTS_SPEC, None)
        assert make_training_set(FACTS_SPEC, market).set_id == of_words.set_id


def test_kept_features_are_made_anew_for_another_scorer_and_only_then(
    filled, set_to, tmp_path, monkeypatch
):
    n_computed, compute = [], module.compute
    monkeypatch.setattr(module, "compute", lambda *given: n_computed.append(1) or compute(*given))
    folder, other = write_folder(tmp_path / "m"), write_folder(tmp_path / "n", (1, 0, 2))
    seen = []
    for scorer in ("lexicon", "lexicon", f"finbert:{folder}", f"finbert:{folder}"):
        with set_to(scorer) as stores:
            values = materialized_features(stores, DAILY, NAMES)
            seen.append((len(n_computed), values["news_sentiment_score"].max()))
    assert [n for n, _ in seen] == [1, 1, 2, 2]
    assert seen[0][1] != seen[2][1]
    config = json.loads((other / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))  # the same place, another model
    with set_to(f"finbert:{folder}") as stores:
        changed = materialized_features(stores, DAILY, NAMES)
        assert changed["news_sentiment_score"].max() != seen[2][1]
        n_before = len(n_computed)
        materialized_features(stores, DAILY, ("har_1",))
    with set_to("lexicon") as stores:  # prices have no scorer
        materialized_features(stores, DAILY, ("har_1",))
    assert len(n_computed) == n_before + 1


def test_no_file_of_a_model_is_read_before_a_text_is_scored(set_to, tmp_path):
    (tmp_path / "empty").mkdir()
    with set_to(f"finbert:{tmp_path / 'empty'}") as stores:
        put(stores, BARS)
        assert read_known_facts(stores, (), LATER).is_empty
        values = materialized_features(stores, DAILY, NAMES)
        assert values["news_sentiment_score"].null_count() == len(values)
        tell(stores, 1, HEADLINE, DAYS[-9])
        with pytest.raises(InvalidSpec, match=r"model\.onnx.*optimum-cli export onnx"):
            read_known_facts(stores, (), LATER)


@pytest.mark.parametrize("text", ["finbert", "finbert:", "finbert:nowhere", ":", "lexicon:"])
def test_a_scorer_without_its_folder_names_the_variable_and_the_remedy(monkeypatch, text):
    monkeypatch.setenv("CANDLECAST_SCORER", text)
    with pytest.raises(InvalidSpec, match=r"^CANDLECAST_SCORER: .*use lexicon, or finbert:/path"):
        Settings()


def test_a_scorer_that_there_is_not_names_the_close_ones(set_to, tmp_path):
    with pytest.raises(NotFound, match="did you mean finbert"), set_to(f"finbret:{tmp_path}"):
        pass
    with pytest.raises(InvalidSpec, match="lexicon has no folder"), set_to(f"lexicon:{tmp_path}"):
        pass
    assert not (tmp_path / "var").exists()


def test_a_folder_at_home_may_be_written_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    monkeypatch.setenv("CANDLECAST_SCORER", " finbert: ~/m ")
    assert Settings().scorer == f"finbert:{tmp_path / 'm'}"
