"""How words work together: directions and what they move, negation, degree, contrast, doubt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from candlecast.scorers.comparisons import Event, Hit, comparison_at
from candlecast.scorers.words import Entry, Start

VERSION: Final = 1
MARKS: Final = {
    **dict.fromkeys(".;:!?", Entry("break", 1.0, 0.0)),
    **dict.fromkeys(",()", Entry("comma", 1.0, 0.0)),
    **dict.fromkeys("+-", Entry("sign", 0.0, 0.0)),
}

_UP: Final = Entry("move", 0.5, 0.25)
_DOWN: Final = Entry("move", -0.5, -0.25)
_TELLING: Final = frozenset(("thing", "move", "shift", "tone"))
_N_BETWEEN_AFTER: Final = 6  # words between a direction and the thing behind it
_N_BETWEEN_BEFORE: Final = 14  # words between a thing and the direction behind it
_N_HITS: Final = 40  # bounds the work: clauses end here at the latest
_N_NEGATED: Final = 3
_N_DEGREE: Final = 2
_BEFORE_CONTRAST: Final = 0.7
_QUESTION: Final = 0.6


def hits_in(words: list[str], table: dict[str, Start]) -> list[Hit]:
    """The terms of `table` in `words`, the longest at each place; masked words are left out."""
    found: list[Hit] = []
    free_from = 0
    last = len(words) - 1
    for i, word in enumerate(words):
        if word not in table or i < free_from:
            continue
        entry, phrases = table[word]
        free_from = i + 1
        if phrases and i < last:
            for phrase, its_entry in phrases.get(words[i + 1], ()):
                if words[i : i + len(phrase)] == phrase:
                    entry, free_from = its_entry, i + len(phrase)
                    break
        if entry is not None and entry.role == "sign":
            entry = _signed_percent(words, i)
        if entry is not None and entry.role != "mask":
            found.append(Hit(entry, i, free_from))
    return found


def tone_of(words: list[str], hits: list[Hit]) -> float:
    """The sum of what is said, clause by clause; 0 where nothing is."""
    total = 0.0
    for weight, clause in _clauses(hits):
        for hit in clause:
            if hit.entry.role in _TELLING:
                total += weight * _clause_tone(words, clause)
                break
    return total * _QUESTION if "?" in words else total


def _signed_percent(words: list[str], i: int) -> Entry | None:
    if i + 2 < len(words) and words[i + 2] == "%":
        return _UP if words[i] == "+" else _DOWN
    return None


def _clauses(hits: list[Hit]) -> Iterator[tuple[float, list[Hit]]]:
    clause: list[Hit] = []
    weight = 1.0
    for hit in hits:
        role = hit.entry.role
        if role in {"break", "split", "contrast", "concession"}:
            yield weight * (_BEFORE_CONTRAST if role == "contrast" else 1.0), clause
            clause, weight = [], hit.entry.weight
        elif (role == "comma" and weight < 1.0) or len(clause) == _N_HITS:
            yield weight, clause
            clause, weight = [hit], 1.0
        else:
            clause.append(hit)
    yield weight, clause


def _clause_tone(words: list[str], clause: list[Hit]) -> float:
    events = _compared(words, clause)
    rest = [h for h in clause if not any(e.start <= h.start < e.end for e in events)]
    events += _moved(words, rest)
    events += [Event(h.entry.weight, h.start, h.end) for h in rest if h.entry.role == "tone"]
    total = sum(event.tone * _factor(event, clause) for event in events if event.tone)
    doubt = 1.0
    for hit in clause:
        if hit.entry.role == "hedge":
            doubt *= hit.entry.weight
    return total * max(doubt, 0.5)


def _factor(event: Event, clause: list[Hit]) -> float:
    # Negations shortly before and within what is said, not beyond a comma; degrees on both sides.
    sign, degree = 1.0, 1.0
    first, last = event.start - _N_DEGREE, event.end + _N_DEGREE
    for hit in clause:
        role = hit.entry.role
        if role == "comma" and hit.start < event.start:
            sign = 1.0
        elif role == "negation" and event.start - _N_NEGATED <= hit.end <= event.end:
            sign *= hit.entry.weight
        elif role == "degree" and hit.end > first and hit.start < last:
            degree *= hit.entry.weight
    return sign * min(max(degree, 0.4), 1.8)


def _compared(words: list[str], clause: list[Hit]) -> list[Event]:
    things = [hit for hit in clause if hit.entry.role == "thing"]
    events: list[Event] = []
    if not things:
        return events
    for hit in clause:
        if hit.entry.role == "comparison" and (not events or hit.start >= events[-1].end):
            event = comparison_at(hit, things, words)
            if event is not None and (not events or event.start >= events[-1].end):
                events.append(event)
    return events


def _moved(words: list[str], hits: list[Hit]) -> list[Event]:
    # Directions with their things, directions without, and things that nothing moves.
    taken: set[int] = set()
    events: list[Event] = []
    for k, hit in enumerate(hits):
        if hit.entry.role not in {"move", "shift"}:
            continue
        partner = _partner(words, hits, k, taken)
        if partner is None:
            events.append(Event(_alone(words, hit), hit.start, hit.end))
            continue
        taken.add(partner)
        thing = hits[partner]
        events.append(
            Event(
                hit.entry.weight * thing.entry.weight,
                min(hit.start, thing.start),
                max(hit.end, thing.end),
            )
        )
    events += [
        Event(h.entry.alone, h.start, h.end)
        for k, h in enumerate(hits)
        if h.entry.role == "thing" and k not in taken
    ]
    return events


def _alone(words: list[str], hit: Hit) -> float:
    # "up 3 %" says more than "up".
    if hit.entry.role == "move" and hit.end < len(words) and words[hit.end][0].isdigit():
        return hit.entry.alone or hit.entry.weight / 2
    return hit.entry.alone


def _partner(words: list[str], hits: list[Hit], k: int, taken: set[int]) -> int | None:
    hit = hits[k]
    follows = words[hit.end] if hit.end < len(words) else ""
    if hit.entry.role == "shift" or follows in {"in", "of"}:
        for j in range(k + 1, len(hits)):
            role = hits[j].entry.role
            if role == "thing" and j not in taken:
                if hits[j].start - hit.end <= _N_BETWEEN_AFTER:
                    return j
                break
            if role in {"barrier", "comparison", "comma", "move", "shift"}:
                break
    for j in range(k - 1, -1, -1):
        role = hits[j].entry.role
        if role == "thing" and j not in taken:
            return j if hit.start - hits[j].end <= _N_BETWEEN_BEFORE else None
        if role in {"move", "shift"}:
            return None
    return None
