"""A text cut into words, numbers, signs and emoji; and how loud it is written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container
from typing import Final

N_CHARACTERS: Final = 2_000
_LOUDEST: Final = 1.3

# Words keep their apostrophes and lose their hyphens; numbers keep their fractions.
_PIECE: Final = r"""
    \$?LETTER+(?:['&]LETTER+)*   # words: profit, isn't, s&p; a cashtag is none: $GAIN
    | \d+(?:,\d{3})*(?:\.\d+)?
    | (?<!\w)[-+](?=[.\d])       # the sign of a number
    | [:;]'?-?[()]               # emoticons
    | [.,;:!?()%]
    | [^\x00-\x7f\w\s]          # emoji and typographic signs
"""
_ASCII_TOKEN: Final = re.compile(_PIECE.replace("LETTER", "[a-z]"), re.VERBOSE)
_ANY_TOKEN: Final = re.compile(_PIECE.replace("LETTER", r"[^\W\d_]"), re.VERBOSE)
_NO_WORDS: Final = re.compile(r"(?:https?://|www\.)\S+|@\w+|(?<!\w)\w*_\w*")
_CAPITALS: Final = re.compile(r"[A-Z]{4,}")
_SPACED_NUMBER: Final = re.compile(r"(?<=\d) (?=[.,]\d)")
_STRAIGHT: Final = str.maketrans({"’": "'", "‘": "'", "`": "'", "–": "-", "—": ";", "−": "-"})


def words_of(text: str) -> list[str]:
    """Words, numbers, signs and emoji of the first 2,000 characters of `text`, in small letters."""
    text = text[:N_CHARACTERS].lower()
    pattern = _ASCII_TOKEN
    if not text.isascii():
        pattern = _ANY_TOKEN
        text = unicodedata.normalize("NFKC", text).translate(_STRAIGHT)[:N_CHARACTERS].lower()
    if "@" in text or "_" in text or "://" in text or "www." in text:
        text = _NO_WORDS.sub(" ", text)
    if " ." in text or " ," in text:
        text = _SPACED_NUMBER.sub("", text)
    return pattern.findall(text)


def loudness_of(text: str, known: Container[str]) -> float:
    """Factor from 1 to 1.3 for exclamation marks, and for a `known` word in capitals."""
    text = text[:N_CHARACTERS]
    n_loud = text.count("!")
    if not text.isupper() and any(word.lower() in known for word in _CAPITALS.findall(text)):
        n_loud += 1
    return min(1 + 0.1 * n_loud, _LOUDEST)
