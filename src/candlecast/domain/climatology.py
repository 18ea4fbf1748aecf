"""What a symbol did before: the quantiles of all its past returns known at each instant.

The reference that every forecast has to beat, and the seed of some models. `expanding_quantiles`
is exact and needs no loop over rows:

1. Sort the values once; the values known at an ask are the first n by `known_at`.
2. Cut the asked range of n into chunks. Each chunk starts from the sorted list of all values
   known at its end, held as a doubly linked list, with one pointer a level at its order statistic.
3. Walk all chunks backwards at once: unlink the newest value, and move each pointer by at most
   one link, for taking one value out shifts an order statistic by at most one place.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain.distribution import LEVELS, N_LEVELS, FloatArray
from candlecast.errors import InvalidSpec

MIN_COUNT: Final = 100
SORTS_PER_SPAN: Final = 40
"""Where fewer than one prefix in so many is asked for, it is quicker to sort for each."""
MAX_LINKS: Final = 4_000_000
"""Bounds the memory of the linked lists, whose links are 4 bytes, two a value and chunk."""


def expanding_quantiles(
    value: FloatArray,
    known_at: NDArray[np.datetime64],
    asked_at: NDArray[np.datetime64],
    min_count: int = MIN_COUNT,
) -> FloatArray:
    """(n_asked, 17): quantiles at `LEVELS` of all `value` with `known_at` <= each `asked_at`.

    Sample quantiles of type 8, median-unbiased (Hyndman and Fan 1996). NaN values are left out;
    rows with fewer than `min_count` values are NaN. Neither times need be sorted.
    """
    if min_count < 1:
        raise InvalidSpec("min_count is at least 1")
    is_known = ~(np.isnan(value) | np.isnat(known_at))
    times, values = known_at[is_known], value[is_known]
    by_time = np.argsort(times, kind="stable")
    n_known = np.searchsorted(times[by_time], asked_at, side="right")
    n_known = np.where(np.isnat(asked_at), 0, n_known)
    counts, where = np.unique(n_known, return_inverse=True)
    table = np.full((len(counts), N_LEVELS), np.nan)
    is_enough = counts >= min_count
    if is_enough.any():
        table[is_enough] = _prefix_quantiles(values[by_time], counts[is_enough])
    return np.asarray(table[where])


def climatology(
    labels: pl.DataFrame, asked: pl.DataFrame, min_count: int = MIN_COUNT
) -> FloatArray:
    """(n_asked, 17): each asked row's quantiles of its own symbol's past outcomes.

    `labels` are LABELS (null values are left out), `asked` has the columns symbol, horizon and
    as_of in any order of rows. A row without `min_count` outcomes known at `as_of` is NaN.
    """
    result = np.full((len(asked), N_LEVELS), np.nan)
    keys = ["symbol", "horizon"]
    known = labels.lazy().drop_nulls("value").group_by(keys).agg("value", "end_at")
    wanted = asked.lazy().with_row_index("row").group_by(keys).agg("row", "as_of")
    pairs = wanted.join(known, on=keys).collect()
    for row in range(len(pairs)):
        value, end_at, as_of, rows = (
            pairs[name][row].to_numpy() for name in ("value", "end_at", "as_of", "row")
        )
        result[rows] = expanding_quantiles(value, end_at, as_of, min_count)
    return result


def _prefix_quantiles(values: FloatArray, counts: NDArray[np.integer]) -> FloatArray:
    # Quantiles of the first n values, for each n of the ascending `counts`.
    first, last = int(counts[0]), int(counts[-1])
    if len(counts) <= 2 + (last - first) // SORTS_PER_SPAN:
        return np.stack([_of_sorted(np.sort(values[:n]), int(n)) for n in counts])
    return np.asarray(_track(values[:last], first)[counts - first])


def _of_sorted(ordered: FloatArray, n: int) -> FloatArray:
    place, share = _places(np.array([n]))
    lower = ordered[place[0] - 1]
    return np.asarray(lower + share[0] * (ordered[np.minimum(place[0], n - 1)] - lower))


def _places(counts: NDArray[np.integer]) -> tuple[NDArray[np.integer], FloatArray]:
    # Type 8: the quantile lies `share` of the way from order statistic `place` to the next.
    n = counts[:, None]
    h = np.minimum(np.maximum(n * LEVELS + (LEVELS + 1) / 3, 1), n)
    place = np.minimum(h.astype(np.int32), np.maximum(n - 1, 1))
    return place, h - place


def _track(values: FloatArray, first: int) -> FloatArray:
    # (len(values) - first + 1, 17): the quantiles of every prefix from `first` on.
    n, span = len(values), len(values) - first + 1
    n_chunks = int(np.clip(0.8 * np.sqrt(span), 1, max(1, MAX_LINKS // (n + 2))))
    n_steps = -(-span // n_chunks)
    ends = np.arange(n, first - 1, -n_steps)
    # Step s of a chunk stands at the prefix ends - s; below `first` it runs idle.
    counts = np.maximum(ends - np.arange(n_steps + 1)[:, None], 1)
    order = np.argsort(values, kind="stable")
    position = np.empty(n, dtype=np.int32)
    position[order] = np.arange(1, n + 1)
    offsets = np.arange(len(ends), dtype=np.int32) * (n + 2)
    newest = (position[counts - 1] + offsets)[:, :, None]
    place, share = _places(np.arange(1, n + 1, dtype=np.int32))
    links, at = _linked(order, ends, place[ends - 1])
    places = place[counts - 1]
    ordered = np.concatenate([[0.0], values[order], [0.0]])
    lower, upper = (ordered[found - offsets[:, None]] for found in _walk(links, at, newest, places))
    quantiles = lower + share[counts[:-1] - 1] * (upper - lower)
    return np.asarray(quantiles.swapaxes(0, 1).reshape(-1, N_LEVELS)[:span][::-1])


def _linked(
    order: NDArray[np.integer], ends: NDArray[np.integer], places: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    # For each chunk a list of its values in order between two sentinels, which end in
    # themselves: links (2, n_links) to the next and to the previous, and the pointers
    # (n_chunks, 17) at `places`.
    is_in = np.ones((len(ends), len(order) + 2), dtype=bool)
    is_in[:, 1:-1] = order < ends[:, None]
    members = np.flatnonzero(is_in).astype(np.int32)
    links = np.zeros((2, is_in.size), dtype=np.int32)
    links[0, members[:-1]] = members[1:]
    links[1, members[1:]] = members[:-1]
    starts = np.cumsum(ends + 2) - (ends + 2)
    heads, tails = members[starts], members[starts + ends + 1]
    links[0, tails], links[1, heads] = tails, heads
    return links, members[starts[:, None] + places]


def _walk(
    links: NDArray[np.integer],
    at: NDArray[np.integer],
    newest: NDArray[np.integer],
    places: NDArray[np.integer],
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    # The pointers and their successors at each step, (n_steps, n_chunks, 17).
    following, preceding = links
    both = links.reshape(-1)
    is_lower = places[1:] < places[:-1]
    towards = np.where(is_lower, 1, -1).astype(np.int32)
    shift = is_lower * np.int32(len(following))
    found = np.empty_like(shift)
    after = np.empty_like(shift)
    for step in range(len(found)):
        found[step] = at
        after[step] = following[at]
        # A value leaves above or below: the pointer follows one link where its rank moved more
        # or less than its place. The links still hold the value that leaves.
        leaving = newest[step]
        moves = (leaving - at) * towards[step] >= 0
        np.copyto(at, both[at + shift[step]], where=moves)
        previous, subsequent = preceding[leaving], following[leaving]
        following[previous] = subsequent
        preceding[subsequent] = previous
    return found, after
