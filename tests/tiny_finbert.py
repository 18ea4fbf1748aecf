"""A small model of FinBERT's form in a folder, and what it answers, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
# What each word adds to the logits of positive, negative, neutral.
WORDS = {
    "profit": (1.5, 0.0, 0.0),
    "loss": (0.0, 2.0, 0.0),
    "rose": (1.0, -0.5, 0.0),
    "fell": (-0.5, 1.0, 0.0),
    "the": (0.0, 0.0, 0.5),
}
LABELS = ("positive", "negative", "neutral")


def write_model(path: Path, rows: np.ndarray, with_types: bool = True) -> None:
    """Mean of the tokens' rows that the mask lets through: ids, mask, types -> logits."""
    from onnx import TensorProto, checker, helper, numpy_helper

    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * with_types
    ids = [helper.make_tensor_value_info(n, TensorProto.INT64, ["n", "length"]) for n in names]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", rows.shape[1]])
    nodes = [
        helper.make_node("Gather", ["rows", "input_ids"], ["found"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["found", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "middle"], ["n_kept"], keepdims=1),
        helper.make_node("Div", ["sum", "n_kept"], ["mean"]),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
    ]
    constants = {
        "rows": rows.astype(np.float32),
        "weights": np.eye(rows.shape[1], dtype=np.float32) * 3,
        "last": np.array([2]),
        "middle": np.array([1]),
    }
    given = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", ids, [logits], given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordPiece({w: i for i, w in enumerate([*SPECIAL, *WORDS])}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # As published files have it: the scorer must not let it pad or cut in another way.
    tokenizer.enable_padding(length=64)
    tokenizer.enable_truncation(8)
    return tokenizer


def write_folder(folder: Path, order: tuple[int, ...] = (0, 1, 2), **model: object) -> Path:
    folder.mkdir(exist_ok=True)
    rows = np.array([(9.0, 9.0, -9.0)] + [(0.0, 0.0, 0.0)] * 3 + list(WORDS.values()))
    write_model(folder / "model.onnx", rows[:, list(order)], **model)
    make_tokenizer().save(str(folder / "tokenizer.json"))
    labels = {str(place): LABELS[k].upper() for place, k in enumerate(order)}
    (folder / "config.json").write_text(json.dumps({"id2label": labels}))
    return folder


def expected(text: str) -> float:
    """The same by hand: the mean over words and the two special tokens, times 3, as shares."""
    words = text.lower().split()
    if not words:
        return 0.0
    sums = np.sum([WORDS.get(word, (0.0, 0.0, 0.0)) for word in words], axis=0)
    powers = np.exp(3 * sums / (len(words) + 2))
    return float((powers[0] - powers[1]) / powers.sum())
