"""What every scorer of texts promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain.catalog import SCORERS, Scorer
from scored_sentences import NEGATED, OPPOSITES

# The others need files: tests/unit/test_scorers_finbert.py builds them.
NAMES = ["lexicon"]
MADE = {name: SCORERS.get(name)() for name in NAMES}

every_scorer = pytest.mark.parametrize("scorer", MADE.values(), ids=MADE.keys())
PIECES = [
    *(
        "profit",
        "loss",
        "not",
        "up",
        "down",
        "from",
        "13.1",
        "8.7",
        "mn",
        "compared",
        "to",
        "(",
        ")",
    ),
    *(",", ".", "!", "?", "-", "+", "%", "but", "never", "very", "cut", "costs", "shares", "may"),
    *("despite", "FRAUD", "isn't", "$AAPL", "#moon", "🚀", "İ", "ß", "ﷺ", "\x00", "\u202e", "٣"),
]
texts = st.text(max_size=300) | st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join)


def test_the_catalogue_names_both_scorers() -> None:
    assert set(SCORERS.names()) >= {"lexicon", "finbert"}


@pytest.mark.parametrize("name", SCORERS.names())
def test_it_says_what_it_is(name: str) -> None:
    assert SCORERS.describe(name).endswith(".")


@every_scorer
@given(batch=st.lists(texts, max_size=6))
@settings(max_examples=50, deadline=None)
def test_any_text_has_a_score_between_minus_one_and_one(scorer: Scorer, batch: list[str]) -> None:
    scores = scorer.score(batch)
    assert scores.shape == (len(batch),)
    assert scores.dtype == np.float64
    assert (np.abs(scores) <= 1).all()  # false for NaN


@every_scorer
@given(batch=st.lists(texts, max_size=6))
@settings(max_examples=50, deadline=None)
def test_a_text_is_scored_alone_as_among_others(scorer: Scorer, batch: list[str]) -> None:
    given_batch = list(batch)
    together = scorer.score(batch)
    assert batch == given_batch
    alone = [scorer.score([text])[0] for text in batch]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(scorer.score(batch[::-1])[::-1], together, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_texts_get_the_same_scores_from_another_instance(name: str) -> None:
    batch = [text for pair in OPPOSITES for text in pair]
    one, other = SCORERS.get(name)(), SCORERS.get(name)()
    np.testing.assert_array_equal(one.score(batch), other.score(batch))
    assert one.id == other.id
    assert one.id.startswith(f"{name}-")


@every_scorer
@pytest.mark.parametrize("empty", ["", " ", "\n\t", "...", "$AAPL", "12.5", "\ufe0f"])
def test_a_text_without_words_says_nothing(scorer: Scorer, empty: str) -> None:
    assert scorer.score([empty])[0] == 0


@every_scorer
def test_no_texts_have_no_scores(scorer: Scorer) -> None:
    assert scorer.score([]).shape == (0,)


@every_scorer
def test_the_end_of_a_very_long_text_costs_nothing_and_changes_nothing(scorer: Scorer) -> None:
    start = "Profit rose. " * 400
    assert scorer.score([start + "fraud " * 200_000])[0] == scorer.score([start])[0]


@every_scorer
@pytest.mark.parametrize(("good", "bad"), OPPOSITES)
def test_good_news_scores_above_zero_and_bad_news_below(
    scorer: Scorer, good: str, bad: str
) -> None:
    scores = scorer.score([good, bad])
    assert scores[0] > 0.1
    assert scores[1] < -0.1


@every_scorer
@pytest.mark.parametrize(("plain", "negated"), NEGATED)
def test_a_negation_turns_the_score(scorer: Scorer, plain: str, negated: str) -> None:
    scores = scorer.score([plain, negated])
    assert scores[0] * scores[1] < 0


@every_scorer
@pytest.mark.parametrize("good_and_bad", OPPOSITES)
def test_white_space_and_a_link_change_nothing(
    scorer: Scorer, good_and_bad: tuple[str, str]
) -> None:
    for text in good_and_bad:
        padded = f"  {text.replace(' ', '  ')}  https://news.example/gains-soar "
        assert scorer.score([padded])[0] == pytest.approx(scorer.score([text])[0], abs=1e-6)
