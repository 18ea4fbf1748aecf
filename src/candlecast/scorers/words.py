"""The word list: what each word or phrase does to a text, with its inflected forms."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO
from typing import Final, NamedTuple

from candlecast.errors import InvalidSpec

ROLES: Final = (
    "thing",  # weight: how good it is that there is more of it; alone: how good it is by itself
    "move",  # goes up or down, and what does so stands before it: profit fell
    "shift",  # brings up or down, and what is moved stands behind it: cut costs
    "tone",  # good or bad by itself
    "negation",
    "degree",
    "hedge",
    "contrast",
    "split",
    "concession",
    "barrier",
    "comparison",
    "mask",  # a phrase whose words mean nothing here
)
_VOWELS: Final = "aeiou"


class Entry(NamedTuple):
    """What a word or phrase does; `alone` is the tone of a thing or move that found no partner."""

    role: str
    weight: float
    alone: float


class Start(NamedTuple):
    """What may begin with a word: the word itself, and phrases by their second word."""

    entry: Entry | None
    phrases: dict[str, list[tuple[list[str], Entry]]]  # all words of the phrase, longest first


def read_words(text: str) -> dict[str, Entry]:
    """Terms and inflected forms of a word list (CSV: role, weight, alone, forms, terms)."""
    explicit: dict[str, Entry] = {}
    inflected: dict[str, Entry] = {}
    for row in csv.DictReader(StringIO(text)):
        if row["role"] not in ROLES:
            raise InvalidSpec(f"unknown role {row['role']!r}; use one of {', '.join(ROLES)}")
        entry = Entry(row["role"], float(row["weight"]), float(row["alone"] or 0))
        for term in row["terms"].split("|"):
            if term in explicit:
                raise InvalidSpec(f"{term!r} is listed twice; keep one")
            explicit[term] = entry
            for form in _forms(term, row["forms"]):
                inflected.setdefault(form, entry)
    return inflected | explicit


def by_first_word(words: dict[str, Entry]) -> dict[str, Start]:
    """The same, found by the first word of each term."""
    table: dict[str, Start] = {}
    for term in sorted(words, key=lambda term: (-term.count(" "), term)):
        first, *rest = phrase = term.split(" ")
        start = table.setdefault(first, Start(words.get(first), {}))
        if rest:
            start.phrases.setdefault(rest[0], []).append((phrase, words[term]))
    return table


def _forms(term: str, kind: str) -> Iterator[str]:
    if kind == "n":
        yield _with_s(term)
    elif kind == "v":
        verb, space, rest = term.partition(" ")
        stem = verb.removesuffix("e")
        if len(verb) > 2 and verb[-1] not in "wxy" and _ends_short(verb):
            stem = verb + verb[-1]
        past = verb[:-1] + "ied" if verb[-1] == "y" and verb[-2] not in _VOWELS else stem + "ed"
        for form in (_with_s(verb), past, stem + "ing"):
            yield form + space + rest


def _ends_short(verb: str) -> bool:
    # One vowel between consonants at the end of a word of one syllable: slip, trim, cap.
    is_vowel = [letter in _VOWELS for letter in verb]
    return is_vowel[-3:] == [False, True, False] and sum(is_vowel) == 1


def _with_s(word: str) -> str:
    if word[-1] == "y" and word[-2] not in _VOWELS:
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")
