"""FinBERT from a folder: a small model of the same form, built here, and what can go wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from candlecast.domain.catalog import SCORERS
from candlecast.errors import BadArtifact, InvalidSpec
from candlecast.scorers import finbert
from tiny_finbert import expected, make_tokenizer, write_folder, write_model

TEXTS = ["profit rose", "The loss", "", "profit fell the the the the loss", "unknown words", "rose"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("finbert"))


def test_the_score_is_the_probability_of_positive_less_that_of_negative(folder: Path) -> None:
    scores = SCORERS.get("finbert")(folder=folder).score(TEXTS)
    np.testing.assert_allclose(scores, [expected(text) for text in TEXTS], atol=1e-6)
    assert scores[0] > 0.5
    assert scores[1] < -0.5
    assert scores[2] == 0


@pytest.mark.parametrize("n_texts_per_batch", [1, 2, 6])
def test_padding_changes_nothing(folder: Path, n_texts_per_batch: int) -> None:
    scorer = finbert.Finbert(folder=folder, n_texts_per_batch=n_texts_per_batch)
    alone = [scorer.score([text])[0] for text in TEXTS]
    np.testing.assert_allclose(scorer.score(TEXTS), alone, atol=1e-6)
    np.testing.assert_allclose(scorer.score(TEXTS[::-1])[::-1], alone, atol=1e-6)


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (2, 0, 1)])
def test_the_configuration_says_which_logit_is_which(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    scores = finbert.Finbert(folder=write_folder(tmp_path / "m", order)).score(TEXTS)
    np.testing.assert_allclose(scores, [expected(text) for text in TEXTS], atol=1e-6)


def test_a_model_without_token_types_is_served_too(tmp_path: Path) -> None:
    scorer = finbert.Finbert(folder=write_folder(tmp_path / "m", with_types=False))
    assert scorer.score(["profit"])[0] == pytest.approx(expected("profit"), abs=1e-6)


def test_a_long_text_is_cut_after_512_tokens_and_not_after_the_file_s_own_8(folder: Path) -> None:
    scorer = finbert.Finbert(folder=folder)
    longest = " ".join(["loss"] * 510)
    assert scorer.score([longest])[0] == pytest.approx(expected(longest), abs=1e-6)
    assert scorer.score([longest + " profit" * 100])[0] == scorer.score([longest])[0]
    assert scorer.score(["loss " * 9])[0] == pytest.approx(expected("loss " * 9), abs=1e-6)


def test_odd_texts_have_a_score(folder: Path) -> None:
    scores = finbert.Finbert(folder=folder).score(["\ud800 profit", "\x00", "🚀" * 5000, "ﷺ", " "])
    assert (np.abs(scores) <= 1).all()
    assert finbert.Finbert(folder=folder).score([]).shape == (0,)


def test_more_texts_than_are_held_at_a_time_keep_their_order(folder: Path) -> None:
    texts = (["profit rose", "loss", "the"] * 500)[:1300]
    scores = finbert.Finbert(folder=folder).score(texts)
    np.testing.assert_allclose(scores, [expected(text) for text in texts], atol=1e-6)


def test_the_id_changes_with_each_file(folder: Path, tmp_path: Path) -> None:
    ids = {finbert.Finbert(folder=folder).id, finbert.Finbert(folder=str(folder)).id}
    assert len(ids) == 1
    other = write_folder(tmp_path / "m", (1, 0, 2))
    ids.add(finbert.Finbert(folder=other).id)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 16}))
    ids.add(finbert.Finbert(folder=other).id)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["moon"])
    tokenizer.save(str(other / "tokenizer.json"))
    ids.add(finbert.Finbert(folder=other).id)
    assert len(ids) == 4
    assert all(one.startswith("finbert-") for one in ids)


@pytest.mark.parametrize("name", list(finbert.MAX_BYTES))
def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    made = write_folder(tmp_path / "m")
    (made / name).unlink()
    with pytest.raises(InvalidSpec, match=rf"{name}.*optimum-cli export onnx"):
        finbert.Finbert(folder=made)
    with pytest.raises(InvalidSpec, match=r"model\.onnx"):
        finbert.Finbert(folder=tmp_path / "nowhere")


@pytest.mark.parametrize("name", list(finbert.MAX_BYTES))
@pytest.mark.parametrize("content", [b"", b"garbage", b"{}", b"[1]", b"\xff\xfe"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    made = write_folder(tmp_path / "m")
    (made / name).write_bytes(content)
    with pytest.raises(BadArtifact, match=name):
        finbert.Finbert(folder=made)


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "LABEL_0", "1": "LABEL_1"},
        {"0": "positive", "x": "negative"},
        {"-1": "positive", "1": "negative"},
        ["positive", "negative"],
    ],
)
def test_labels_that_tell_nothing_are_refused(tmp_path: Path, labels: object) -> None:
    made = write_folder(tmp_path / "m")
    (made / "config.json").write_text(json.dumps({"id2label": labels}))
    with pytest.raises(BadArtifact, match=r"config\.json"):
        finbert.Finbert(folder=made)


def test_a_model_that_does_not_fit_its_other_files_is_refused(tmp_path: Path) -> None:
    made = write_folder(tmp_path / "m")
    write_model(made / "model.onnx", np.zeros((2, 3)))
    with pytest.raises(BadArtifact, match="does not fit its tokenizer"):
        finbert.Finbert(folder=made).score(["profit"])
    write_model(made / "model.onnx", np.zeros((9, 1)))
    with pytest.raises(BadArtifact, match="not a logit a label"):
        finbert.Finbert(folder=made).score(["profit"])
    write_model(made / "model.onnx", np.full((9, 3), np.nan))
    with pytest.raises(BadArtifact, match="no number"):
        finbert.Finbert(folder=made).score(["profit"])


def test_a_file_beyond_its_bound_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(finbert.MAX_BYTES, "model.onnx", 100)
    with pytest.raises(InvalidSpec, match="at most 100"):
        finbert.Finbert(folder=folder)


def test_a_missing_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InvalidSpec, match=r"candlecast\[finbert\]"):
        finbert.Finbert(folder=folder)


def test_batches_of_no_texts_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidSpec, match="n_texts_per_batch"):
        finbert.Finbert(folder=folder, n_texts_per_batch=0)


def test_neither_torch_nor_transformers_is_loaded(folder: Path) -> None:
    # In a process of its own: other tests load torch into this one.
    code = (
        "import sys; from pathlib import Path; from candlecast.scorers import finbert;"
        "finbert.Finbert(folder=Path(sys.argv[1])).score(['profit']);"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(folder)]
    assert subprocess.run(command, check=False).returncode == 0
