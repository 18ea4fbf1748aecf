"""Which of two compared numbers is better: a profit of 13.1 mn against 8.7 mn a year before."""

from __future__ import annotations

from typing import Final, NamedTuple

from candlecast.scorers.words import Entry

_SCALES: Final = {
    **dict.fromkeys(("k", "thousand"), 1e3),
    **dict.fromkeys(("m", "mn", "mln", "million", "mio"), 1e6),
    **dict.fromkeys(("b", "bn", "bln", "billion"), 1e9),
    **dict.fromkeys(("t", "tn", "trillion"), 1e12),
}
_PERCENT: Final = ("%", "pct", "percent", "per", "percentage")
_TIMES: Final = frozenset(
    (
        *("january", "february", "march", "april", "may", "june", "july", "august", "september"),
        *("october", "november", "december", "jan", "feb", "mar", "apr", "jun", "jul", "aug"),
        *("sep", "sept", "oct", "nov", "dec", "day", "days", "week", "weeks", "month", "months"),
        *("quarter", "quarters", "year", "years", "am", "pm", "st", "nd", "rd", "th"),
    )
)
_NO_AMOUNT_AFTER: Final = _TIMES | {"q", "h", "fy", "phase", "no", "type"}
_MINUS: Final = frozenset(("minus", "negative"))
_N_BEFORE: Final = 14
_N_BEHIND: Final = 16
_N_AHEAD: Final = 5


class Hit(NamedTuple):
    """A term that was found: what it does, and its place among the words (`end` is behind it)."""

    entry: Entry
    start: int
    end: int


class Event(NamedTuple):
    """Something good or bad that is said, and from which word up to which."""

    tone: float
    start: int
    end: int


class _Amount(NamedTuple):
    value: float
    scale: float
    is_percent: bool
    at: int


def comparison_at(mark: Hit, things: list[Hit], words: list[str]) -> Event | None:
    """What the numbers on both sides of a `mark` ("compared to") say; None where they do not."""
    last = next((thing for thing in reversed(things) if thing.end <= mark.start), None)
    if last is None or mark.start - last.end > _N_BEFORE:
        return None
    after = _amounts(words, mark.end, min(mark.end + _N_BEHIND, len(words)))
    before = _amounts(words, last.end, mark.start)
    if not before:  # "12.5 m profit, against 13.4 m"
        before = _amounts(words, max(last.start - _N_AHEAD, 0), last.start)[-1:]
    if not after or not before:
        return None
    old, new = after[0], before[0]
    if new.is_percent != old.is_percent:
        new = next((amount for amount in before if amount.is_percent == old.is_percent), new)
    if new.is_percent != old.is_percent:
        return None
    other = next((t for t in things if mark.end <= t.start < old.at), last)
    change = last.entry.weight * _size(new, old) - other.entry.weight * _size(old, new)
    sign = (change > 0) - (change < 0)
    weight = max(abs(last.entry.weight), abs(other.entry.weight))
    return Event(0.6 * weight * sign, last.start, old.at + 1)


def _size(amount: _Amount, other: _Amount) -> float:
    # "13.1 compared to 8.7 mn": the unit is said once.
    is_bare = amount.scale == 1 and abs(amount.value) < 1000
    return amount.value * (other.scale if is_bare else amount.scale)


def _amounts(words: list[str], start: int, end: int) -> list[_Amount]:
    found: list[_Amount] = []
    depth = 0
    for i in range(start, end):
        word = words[i]
        depth = max(depth + (word == "(") - (word == ")"), 0)
        if depth == 0 and "0" <= word[0] <= "9":
            following = words[i + 1] if i + 1 < len(words) else ""
            before = words[i - 1] if i else ""
            if "." not in word and (following in _TIMES or before in _NO_AMOUNT_AFTER):
                continue
            scale = _SCALES.get(following, 1.0)
            is_percent = following in _PERCENT
            if scale == 1.0 and not is_percent and _is_year(word):
                continue
            is_minus = before == "-" or not _MINUS.isdisjoint(words[max(i - 2, 0) : i])
            value = float(word.replace(",", "")) * (-1 if is_minus else 1)
            found.append(_Amount(value, scale, is_percent, i))
    return found


def _is_year(word: str) -> bool:
    return len(word) == 4 and word[:2] in {"19", "20"}
