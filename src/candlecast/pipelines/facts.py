"""A provider's facts besides bars into the store: stamped, told once, versions kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import polars as pl

from candlecast.domain.dominance import compute_dominance
from candlecast.domain.frames import (
    ACTIONS,
    CAPITALISATIONS,
    INDICES,
    INSTANT,
    NEWS,
    POSTS,
    QUOTES,
    FrameSpec,
)
from candlecast.domain.market import MINUTES, Timeframe
from candlecast.domain.sources import FetchedRows, Request
from candlecast.errors import InvalidSpec, NotFound
from candlecast.store.coverage import read_pin
from candlecast.store.facts import read_facts, read_progress, write_facts, write_progress
from candlecast.store.quotes import write_quotes
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

KINDS: Final[Mapping[str, tuple[str, FrameSpec]]] = {
    "actions": ("fetch_actions", ACTIONS),
    "news": ("fetch_news", NEWS),
    "posts": ("fetch_posts", POSTS),
    "index": ("fetch_index", INDICES),
    "capitalisations": ("fetch_capitalisations", CAPITALISATIONS),
    "quotes": ("fetch_quotes", QUOTES),
}
"""What can be ingested besides bars: the provider's method, and the frame it returns."""
RECHECKED: Final = timedelta(days=3)
SAME_STORY: Final = timedelta(hours=48)
"""A headline that comes again within so long is the same story, whoever tells it."""


@dataclass(frozen=True)
class FactsRun:
    """How many rows came, how many of them said something new, and what failed."""

    n_fetched: int
    n_new: int
    failures: dict[str, str] = field(default_factory=dict)


def ingest_facts(stores: Stores, kind: str, name: str, provider: Any, wanted: Request) -> FactsRun:
    """Fetch the facts of a `kind` from the provider called `name`, and store what is new.

    Without a start the provider is asked from shortly before it was last asked. A row that turns
    up after its natural `known_at` had been asked about is known from now on.

    Raises
    ------
    NotFound : unknown kind. InvalidSpec : the provider does not offer it.
    """
    if kind not in KINDS:
        raise NotFound.among("kind of fact", kind, KINDS)
    method, spec = KINDS[kind]
    fetch = getattr(provider, method, None)
    if fetch is None:
        offered = [k for k, (m, _) in KINDS.items() if hasattr(provider, m)]
        raise InvalidSpec(f"{name} offers no {kind}; it offers {', '.join(offered) or 'bars only'}")
    now = stores.clock.now()
    asked = read_progress(stores.database, spec.name, name)
    scopes = wanted.tickers or ("",)
    fetched: FetchedRows = fetch(_resumed(wanted, asked, scopes), stores.clock)
    rows, failures = _of_known(stores, spec, fetched)
    if kind == "quotes":
        n_new = write_quotes(stores.database, rows)
    else:
        seen = {s: span for s, span in asked.items() if s in scopes or not s}
        stamped = _stamped(spec, rows, seen, now)
        if spec is ACTIONS:
            stamped = _unread(stores, stamped, now)
        n_new = write_facts(stores.database, spec, _told_once(stores, spec, stamped))
        if spec is CAPITALISATIONS:
            known = read_facts(stores.database, CAPITALISATIONS)
            write_facts(stores.database, INDICES, compute_dominance(known))
    spans = {
        scope: (min(wanted.start or now, asked.get(scope, (now, now))[0]), now)
        for scope in scopes
        if scope not in failures
    }
    write_progress(stores.database, spec.name, name, spans)
    return FactsRun(len(fetched.rows), n_new, failures)


def _resumed(
    wanted: Request, asked: Mapping[str, tuple[datetime, datetime]], scopes: tuple[str, ...]
) -> Request:
    ends = [asked[scope][1] for scope in scopes if scope in asked]
    if wanted.start is not None or len(ends) < len(scopes):
        return wanted
    return replace(wanted, start=min(ends) - RECHECKED)


def _of_known(
    stores: Stores, spec: FrameSpec, fetched: FetchedRows
) -> tuple[pl.DataFrame, dict[str, str]]:
    rows = spec.check(fetched.rows)
    if "symbol" not in spec.columns:
        return rows, dict(fetched.failures)
    known = [symbol.ticker for symbol in read_symbols(stores.database)]
    strangers = rows.filter(~pl.col("symbol").is_in(known))["symbol"].unique().sort()
    unknown = dict.fromkeys(strangers, "it has no bars here; ingest some first")
    return rows.filter(pl.col("symbol").is_in(known)), {**fetched.failures, **unknown}


def _stamped(
    spec: FrameSpec,
    rows: pl.DataFrame,
    asked: Mapping[str, tuple[datetime, datetime]],
    now: datetime,
) -> pl.DataFrame:
    if not asked:
        return rows
    until = pl.lit(max(end for _, end in asked.values())).cast(INSTANT)
    if "symbol" in spec.columns:
        ends = {scope: end for scope, (_, end) in asked.items()}
        until = pl.col("symbol").replace_strict(ends, default=None, return_dtype=INSTANT)
    is_late = (pl.col("known_at") <= until).fill_null(value=False)
    return rows.with_columns(
        known_at=pl.when(is_late).then(pl.lit(now).cast(INSTANT)).otherwise("known_at")
    )


def _unread(stores: Stores, actions: pl.DataFrame, now: datetime) -> pl.DataFrame:
    # Prices that something stored was made of were made without an action that comes only now.
    pins = [read_pin(stores.database, Timeframe(minutes)) for minutes in MINUTES.values()]
    read_until = max((instant for instant in pins if instant is not None), default=None)
    if read_until is None:
        return actions
    was_read = pl.col("known_at") <= read_until
    moved = pl.when(was_read).then(pl.lit(now).cast(INSTANT)).otherwise("known_at")
    return actions.with_columns(known_at=moved)


def _told_once(stores: Stores, spec: FrameSpec, rows: pl.DataFrame) -> pl.DataFrame:
    # Of one story under several ids the first; an id already stored may change its words.
    if spec is not NEWS or rows.is_empty():
        return rows
    first: datetime = rows["published_at"].min()  # type: ignore[assignment]
    stored = read_facts(stores.database, NEWS, start=first - SAME_STORY)
    others = stored.filter(~pl.col("id").is_in(rows["id"].implode()))
    letters = pl.col("headline").str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]", "")
    told = pl.concat([others, rows]).with_columns(story=letters).sort("published_at", "id")
    since = pl.col("published_at") - pl.col("published_at").shift().over("story")
    repeats = told.filter((since <= SAME_STORY) & (pl.col("story") != "")).select("id")
    is_stored = pl.col("id").is_in(stored["id"].implode())
    return rows.filter(is_stored | ~pl.col("id").is_in(repeats["id"].implode()))
