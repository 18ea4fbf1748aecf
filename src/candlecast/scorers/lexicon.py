"""The standard scorer: a finance word list and a few rules of grammar."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import tanh
from pathlib import Path
from typing import Final

import numpy as np

from candlecast.domain.catalog import SCORERS
from candlecast.domain.distribution import FloatArray
from candlecast.scorers.rules import MARKS, VERSION, hits_in, tone_of
from candlecast.scorers.tokens import loudness_of, words_of
from candlecast.scorers.words import by_first_word, read_words

FILE: Final = Path(__file__).parent / "finance_words.csv"


@SCORERS.register("lexicon")
class Lexicon:
    """Scores headlines and short posts with a finance word list and rules of grammar.

    Texts are read alone, up to 2,000 characters; scores are (n_texts,) in [-1, 1], never NaN.
    The sum of what is said good and bad goes through a tanh: beyond 0.15 it is clearly good, below
    -0.15 clearly bad. Whoever the text is about is not told apart: it is scored as a whole.

    Source: our own list, ``finance_words.csv``; the rules are in ``rules`` and ``comparisons``.
    """

    def __init__(self) -> None:
        raw = FILE.read_bytes()
        digest = hashlib.sha256(raw + f"rules {VERSION}".encode()).hexdigest()
        self.id = f"lexicon-{digest[:12]}"
        self._table = by_first_word(read_words(raw.decode()) | MARKS)

    def score(self, texts: Sequence[str]) -> FloatArray:
        """Scores in [-1, 1] in the order of `texts`; 0 where nothing good or bad is said."""
        return np.array([self._score_one(text) for text in texts], dtype=np.float64)

    def _score_one(self, text: str) -> float:
        words = words_of(text)
        hits = hits_in(words, self._table)
        if not hits:
            return 0.0
        tone = tone_of(words, hits)
        return tanh(tone * loudness_of(text, self._table)) if tone else 0.0
