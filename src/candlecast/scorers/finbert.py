"""Texts scored by a FinBERT in ONNX format, from a folder on this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from candlecast.domain.catalog import SCORERS
from candlecast.domain.distribution import FloatArray
from candlecast.errors import BadArtifact, InvalidSpec

MAX_BYTES: Final = {
    "model.onnx": 2 * 1024**3,
    "tokenizer.json": 64 * 1024**2,
    "config.json": 1024**2,
}
N_TOKENS: Final = 512
N_CHARACTERS: Final = 4_000
_N_ENCODED: Final = 1_024  # texts that are held as tokens at a time
_REMEDY: Final = (
    "export one with `optimum-cli export onnx --model ProsusAI/finbert FOLDER` "
    "(pip install 'optimum[onnxruntime]', in an environment of its own)"
)

IntArray = npt.NDArray[np.int64]


@SCORERS.register("finbert")
class Finbert:
    """Scores texts with a FinBERT from a local folder: p(positive) - p(negative).

    Needs ``pip install 'candlecast[finbert]'`` and, in `folder`, ``model.onnx`` (in one file),
    ``tokenizer.json`` and ``config.json``, whose ``id2label`` says which logit is which. A text is
    cut after 4,000 characters and 512 tokens; an empty one scores 0. Scores are (n_texts,), never
    NaN; those of a text alone and among others differ by rounding (1e-6) only.

    Raises InvalidSpec for missing files and BadArtifact for files that cannot be used.
    Source: Araci (2019), FinBERT: Financial Sentiment Analysis with Pre-trained Language Models.
    """

    def __init__(self, *, folder: str | Path, n_texts_per_batch: int = 32) -> None:
        if not 1 <= n_texts_per_batch <= _N_ENCODED:
            raise InvalidSpec(f"n_texts_per_batch is {n_texts_per_batch}; use 1 to {_N_ENCODED}")
        self._n_texts_per_batch = n_texts_per_batch
        files = {name: _read(Path(folder) / name, size) for name, size in MAX_BYTES.items()}
        digest = hashlib.sha256()
        for content in files.values():
            digest.update(hashlib.sha256(content).digest())
        self.id = f"finbert-{digest.hexdigest()[:12]}"
        self._positive, self._negative, n_tokens = _read_config(files["config.json"])
        self._tokenizer = _make_tokenizer(files["tokenizer.json"], n_tokens)
        self._session = _make_session(files["model.onnx"])
        self._inputs = {tensor.name for tensor in self._session.get_inputs()}
        unknown = self._inputs - {"input_ids", "attention_mask", "token_type_ids"}
        if unknown or "input_ids" not in self._inputs:
            raise BadArtifact(f"model.onnx takes {sorted(self._inputs)}; {_REMEDY}")

    def score(self, texts: Sequence[str]) -> FloatArray:
        """Scores in [-1, 1] in the order of `texts`; 0 for an empty text."""
        scores = np.zeros(len(texts))
        told = [i for i, text in enumerate(texts) if text.strip()]
        for start in range(0, len(told), _N_ENCODED):
            rows = told[start : start + _N_ENCODED]
            encoded = self._tokenizer.encode_batch([_bounded(texts[i]) for i in rows])
            tokens = [np.array(encoding.ids, dtype=np.int64) for encoding in encoded]
            # Texts of like length go together: less padding.
            order = np.argsort([len(ids) for ids in tokens], kind="stable")
            for first in range(0, len(order), self._n_texts_per_batch):
                batch = order[first : first + self._n_texts_per_batch]
                scores[[rows[k] for k in batch]] = self._score_batch([tokens[k] for k in batch])
        return scores

    def _score_batch(self, tokens: list[IntArray]) -> FloatArray:
        n_longest = max(len(ids) for ids in tokens)
        ids = np.zeros((len(tokens), n_longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, its_ids in enumerate(tokens):
            ids[row, : len(its_ids)] = its_ids
            mask[row, : len(its_ids)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        logits = self._logits({name: given[name] for name in self._inputs})
        n_labels = max(self._positive, self._negative) + 1
        if logits.ndim != 2 or len(logits) != len(tokens) or logits.shape[1] < n_labels:
            raise BadArtifact(f"model.onnx answers {logits.shape}, not a logit a label; {_REMEDY}")
        if not np.isfinite(logits).all():
            raise BadArtifact(f"model.onnx answers what is no number; {_REMEDY}")
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        return np.asarray(shares[:, self._positive] - shares[:, self._negative])

    def _logits(self, given: dict[str, IntArray]) -> FloatArray:
        try:
            return np.asarray(self._session.run(None, given)[0], dtype=np.float64)
        except _onnx_errors() as error:
            raise BadArtifact(f"model.onnx does not fit its tokenizer: {error}") from error


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        n_bytes = path.stat().st_size
        if n_bytes > max_bytes:
            raise InvalidSpec(f"{path} has {n_bytes} bytes; at most {max_bytes} are read")
        return path.read_bytes()
    except OSError as error:
        raise InvalidSpec(f"{path} cannot be read ({error.strerror}); {_REMEDY}") from error


def _read_config(content: bytes) -> tuple[int, int, int]:
    # The places of the positive and the negative logit, and how many tokens the model takes.
    try:
        config = json.loads(content)
        places = {str(label).lower(): int(place) for place, label in config["id2label"].items()}
        n_tokens = min(N_TOKENS, int(config.get("max_position_embeddings", N_TOKENS)))
        positive, negative = places["positive"], places["negative"]
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise BadArtifact(
            f"config.json names no positive and negative label in id2label; {_REMEDY}"
        ) from error
    if min(positive, negative) < 0 or positive == negative or n_tokens < 3:
        raise BadArtifact(f"config.json numbers its labels or positions wrongly; {_REMEDY}")
    return positive, negative, n_tokens


def _make_tokenizer(content: bytes, n_tokens: int) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise InvalidSpec(
            "the scorer finbert needs tokenizers; pip install 'candlecast[finbert]'"
        ) from error
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except ValueError as error:
        raise BadArtifact(f"tokenizer.json: {error}; {_REMEDY}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(n_tokens)
    return tokenizer


def _make_session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except _onnx_errors() as error:
        raise BadArtifact(f"model.onnx cannot be used: {error}; {_REMEDY}") from error


def _onnx_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )


def _bounded(text: str) -> str:
    # Half of a surrogate pair has no UTF-8, which the tokenizer wants.
    return text[:N_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
