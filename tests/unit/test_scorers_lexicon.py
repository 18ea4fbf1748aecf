"""The word list and its rules: one rule a test."""

from __future__ import annotations

import csv
import hashlib
import json
from itertools import pairwise
from math import copysign

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candlecast.errors import InvalidSpec
from candlecast.scorers.lexicon import FILE, Lexicon
from candlecast.scorers.rules import MARKS, VERSION, hits_in, tone_of
from candlecast.scorers.tokens import loudness_of, words_of
from candlecast.scorers.words import ROLES, by_first_word, read_words

SCORER = Lexicon()
amounts = st.integers(1, 9_999).map(lambda n: n / 10)


def score(text: str) -> float:
    return float(SCORER.score([text])[0])


def are_falling(*texts: str) -> bool:
    """Whether each text says more good than the next."""
    return all(first > second for first, second in pairwise(SCORER.score(texts)))


# A list of our own: the rules are looked at, not the words.
RULED = """role,weight,alone,forms,terms
thing,1,0.1,n,profit
thing,-1,-0.4,,loss|losses
move,0.7,0.2,,rose|up
shift,-0.7,-0.1,,cut
tone,0.6,0,,good|bad luck
tone,-0.6,0,,bad
negation,-0.7,0,,not
degree,1.4,0,,very
hedge,0.75,0,,may
contrast,1.2,0,,but
split,1,0,,while
concession,0.4,0,,despite
barrier,0,0,,to
comparison,0,0,,from|compared to
mask,0,0,,no good
"""
RULED_TEXTS = (
    *("profit rose", "loss rose", "cut losses", "cut to profit", "up 3 %", "up", "+3 % profit"),
    *("not good", "good, not bad", "very good", "may rose", "bad but good", "good while bad"),
    *("good despite bad, good", "no good", "bad luck?", "GOOD things", "good!!", "not very bad"),
    *("profit 3 mn compared to 2 mn", "loss of 3 from 2.5", "profit 1.2 bn from 900 mn", "-3 %"),
    *("profit rose to 5 from loss of 4", "loss (4) from profit 5", "profit to 7 % from 8 %"),
)
RULED_DIGEST = "ba25c25d6719"


def test_the_version_of_the_rules_rises_when_they_change() -> None:
    # Stored scores name the id of their scorer: other rules under the same id would go unnoticed.
    table = by_first_word(read_words(RULED) | MARKS)
    told = []
    for text in RULED_TEXTS:
        words = words_of(text)
        told.append(round(tone_of(words, hits_in(words, table)) * loudness_of(text, table), 6))
    digest = hashlib.sha256(json.dumps([VERSION, told]).encode()).hexdigest()[:12]
    assert digest == RULED_DIGEST, "rules changed: raise rules.VERSION, then renew RULED_DIGEST"


@given(new=amounts, old=amounts)
def test_of_two_numbers_the_new_one_against_the_old_one_decides(new: float, old: float) -> None:
    sign = (new > old) - (new < old)
    for thing, is_good in (("Operating profit", 1), ("Net sales", 1), ("Net loss", -1)):
        text = f"{thing} totalled EUR {new} mn compared to EUR {old} mn in 2008"
        told = score(text)
        assert told * sign * is_good > 0 if sign else told == 0, text


@given(profit=amounts, loss=amounts)
def test_a_profit_against_a_loss_is_good_whatever_the_numbers(profit: float, loss: float) -> None:
    assert score(f"A net profit of {profit}m versus a net loss of {loss}m") > 0
    assert score(f"A net loss of {loss}m versus a net profit of {profit}m") < 0


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("Revenue of 1.2 bn compared to 900 mn", 1),
        ("Revenue of EUR 884,000 compared to EUR 2.0 mln", -1),
        ("Profit of 13.1 ( USD 18.2 mn ) compared to 8.7 mn ( USD 20 mn )", 1),
        ("Equity ratio was 60.9 % compared to 54.2 %", 1),
        ("Cash flow totalled EUR 0.4 mn compared to a negative EUR 15.5 mn", 1),
        ("Sales were 21m in 2009, up from 17m in 2008", 1),
        ("Operating profit rose to EUR 13.1 mn from EUR 8.7 mn", 1),
        ("Operating costs rose to EUR 13.1 mn from EUR 8.7 mn", -1),
        ("EUR12 .5 m profit, against EUR13 .4 m", -1),
    ],
)
def test_units_brackets_years_and_percentages_are_understood(text: str, sign: int) -> None:
    assert copysign(1, score(text)) == sign


def test_numbers_that_nothing_compares_say_nothing() -> None:
    assert score("The contract runs from 5 May 2008 to 31 March 2011") == 0
    assert score("The company has 3,400 places in 14 countries") == 0


def test_who_moves_decides_and_what_is_moved() -> None:
    assert score("Higher costs") < 0 < score("Lower costs")
    assert score("Costs were cut") > 0
    assert score("Profit fell as costs rose") < score("Profit fell")
    assert score("Layoffs decline") > 0 > score("Layoffs mount")


def test_degrees_make_it_more_or_less() -> None:
    assert are_falling("Profit rose sharply", "Profit rose", "Profit rose slightly")
    assert are_falling("Profit fell slightly", "Profit fell", "Profit fell sharply")
    assert are_falling("Shares jump 9%", "Shares edge up", "Shares slip", "Shares crash 40%")


def test_doubt_and_questions_make_it_less() -> None:
    assert are_falling("Profit will rise", "Profit may rise", "Profit may not rise")
    assert are_falling("Will profit rise?", "Will profit fall?")
    assert are_falling("Profit rises", "Profit rises?")


def test_what_comes_after_but_counts_for_more() -> None:
    assert score("Sales rose but profit fell") < 0 < score("Sales fell but profit rose")


def test_what_was_overcome_counts_for_less() -> None:
    assert score("Profit rose despite weak demand") > 0
    assert score("Despite weak demand, profit rose") > 0
    assert score("Although costs rose, margins improved") > 0


def test_a_negation_ends_at_a_comma() -> None:
    assert score("No, profit rose") > 0 > score("No profit growth")


def test_loud_posts_say_more() -> None:
    assert are_falling("bullish!!", "bullish!", "bullish")
    assert score("this is BULLISH") > score("this is bullish")
    assert score("PROFIT RISES AT BANK") == score("profit rises at bank")
    assert score("profit of AAPL and NASDAQ rises") == score("profit of aapl and nasdaq rises")


def test_hashtags_count_and_cashtags_addresses_and_names_do_not() -> None:
    assert score("#bullish $XYZ") == score("bullish")
    assert score("$GAIN $LOSS rate_limit_exceeded") == 0
    assert score("see https://example.org/profit-plunges") == 0
    assert score("@profit_plunges hello") == 0


@pytest.mark.parametrize(
    "text",
    [
        "Record date is 4 May",
        "Non-profit opens an office",
        "Red Hat opens an office",
        "The Stock Exchange is in Helsinki",
        "Details were not disclosed",
        "He joined the board in order to learn",
    ],
)
def test_words_that_mean_something_else_here_say_nothing(text: str) -> None:
    assert score(text) == 0


@pytest.mark.parametrize("text", ["better-than-expected results", "Better than expected results"])
def test_hyphens_and_capitals_do_not_matter(text: str) -> None:
    assert score(text) == score("better than expected results") > 0.3


@pytest.mark.parametrize(
    ("typographic", "plain"),
    [
        ("The deal isn’t good", "The deal isn't good"),
        ("Shares −4%", "Shares -4%"),
        ("ｐｒｏｆｉｔ ｒｏｓｅ", "profit rose"),
        ("profit rose", "profit rose"),
    ],
)
def test_typographic_signs_are_read_as_plain_ones(typographic: str, plain: str) -> None:
    assert score(typographic) == score(plain) != 0


def test_a_text_is_cut_into_words_numbers_and_signs() -> None:
    assert words_of("S&P isn't down-graded: EUR21.5m (+3,000 %) 🚀 :)") == [
        *("s&p", "isn't", "down", "graded", ":", "eur", "21.5", "m", "(", "+", "3,000", "%", ")"),
        *("🚀", ":)"),
    ]


def test_the_list_has_weights_within_bounds_and_small_letters() -> None:
    with FILE.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["role"] for row in rows} == set(ROLES)
    for row in rows:
        limit = 2.0 if row["role"] in {"degree", "contrast"} else 1.0
        assert abs(float(row["weight"])) <= limit
        assert abs(float(row["alone"])) <= 1.0
        assert row["terms"] == row["terms"].lower()


def test_each_term_of_the_list_can_be_found() -> None:
    # A term that the tokeniser cuts otherwise would never match.
    words = read_words(FILE.read_text(encoding="utf-8"))
    assert len(words) > 1_000
    lost = [term for term in words if " ".join(words_of(term)) != term]
    assert lost == []


def test_terms_have_their_inflected_forms_and_explicit_ones_win() -> None:
    words = read_words(
        "role,weight,alone,forms,terms\n"
        "move,0.7,0.2,v,climb|ease|slip|rally|edge up|tax\n"
        "thing,1,0,n,profit|levy|box\n"
        "tone,-0.5,0,,eased\n"
    )
    for term in (
        *("climbs", "climbed", "climbing", "eases", "easing", "slips", "slipped", "slipping"),
        *("rallies", "rallied", "rallying", "edges up", "edged up", "edging up", "taxes", "taxed"),
        *("profits", "levies", "boxes"),
    ):
        assert term in words
    assert words["eased"].role == "tone"


def test_the_longest_phrase_comes_first() -> None:
    words = read_words("role,weight,alone,forms,terms\ntone,1,0,,net|net of tax|net of\n")
    phrases = by_first_word(words)["net"].phrases["of"]
    assert [len(phrase) for phrase, _ in phrases] == [3, 2]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("tone,1,0,,good|bad|good", "'good' is listed twice"),
        ("mood,1,0,,good", "unknown role 'mood'"),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(rows: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        read_words(f"role,weight,alone,forms,terms\n{rows}\n")
