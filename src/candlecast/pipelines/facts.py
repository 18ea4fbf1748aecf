"""A provider's facts besides bars into the store: stamped, told once, versions kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

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
from candlecast.domain.sources import FetchedRows, Request, Span
from candlecast.errors import InvalidSpec, NotFound
from candlecast.store.bars import read_ends
from candlecast.store.fact_tables import EVENT_TIME
from candlecast.store.facts import read_facts, read_progress, write_facts, write_progress
from candlecast.store.pins import read_pins
from candlecast.store.quotes import write_quotes
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

Asked: TypeAlias = Mapping[str, Span]
"""The span that a provider was asked about, by ticker, or under no name for all."""

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
OWN_ACTIONS: Final = "action_files"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
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
    up within a span that was asked about without it is known from now on, and so is a fact that
    something stored, of its time or later, was made without.

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
    request = _resumed(stores, spec, wanted, asked)
    fetched: FetchedRows = fetch(request, stores.clock)
    rows, failures = _of_known(stores, spec, fetched)
    if kind == "quotes":
        return FactsRun(len(fetched.rows), write_quotes(stores.database, rows), failures)
    stamped = _stamped(spec, rows, asked, now)
    if spec is ACTIONS:
        stamped = _unread(stores, _of_first_source(stores, stamped, name), now)
    n_new = write_facts(stores.database, spec, _told_once(stores, spec, stamped), now)
    if spec is CAPITALISATIONS:
        known = read_facts(stores.database, CAPITALISATIONS)
        write_facts(stores.database, INDICES, compute_dominance(known), now)
    span = (request.start or EPOCH, min(request.end or now, now))
    scopes = [scope for scope in request.tickers or ("",) if scope not in failures]
    spans = {scope: _joined(asked.get(scope), span) for scope in scopes}
    write_progress(stores.database, spec.name, name, spans)
    return FactsRun(len(fetched.rows), n_new, failures)


def _resumed(stores: Stores, spec: FrameSpec, wanted: Request, asked: Asked) -> Request:
    # Without a start: from shortly before the end of what was asked, if that reaches back as far
    # as it has to. Actions have to as far as there are bars.
    if wanted.start is not None:
        return wanted
    scopes = wanted.tickers or ("",)
    if any(scope not in asked for scope in scopes):
        return wanted
    needed = _first_bars(stores, scopes) if spec is ACTIONS else {}
    if any(asked[scope][0] > needed.get(scope, asked[scope][0]) for scope in scopes):
        return replace(wanted, start=min(needed.values()))
    return replace(wanted, start=min(asked[scope][1] for scope in scopes) - RECHECKED)


def _first_bars(stores: Stores, tickers: Sequence[str]) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    for minutes in MINUTES.values():
        ends = read_ends(stores.database, Timeframe(minutes))
        for ticker, first in ends.select("symbol", "first").iter_rows():
            if ticker in tickers:
                found[ticker] = min(first, found.get(ticker, first))
    return found


def _joined(old: Span | None, new: Span) -> Span:
    # One span without a hole. What lies apart from it will be asked for once more.
    if old is None:
        return new
    if new[0] > old[1] or new[1] < old[0]:
        return old
    return min(old[0], new[0]), max(old[1], new[1])


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


def _stamped(spec: FrameSpec, rows: pl.DataFrame, asked: Asked, now: datetime) -> pl.DataFrame:
    # Known from now on is what turns up within a span that was asked about without it.
    is_late = pl.any_horizontal(
        pl.lit(value=False),
        *(
            _is_of(spec, scope)
            & (pl.col(EVENT_TIME[spec.name]) >= start)
            & (pl.col("known_at") <= end)
            for scope, (start, end) in asked.items()
        ),
    )
    return rows.with_columns(
        known_at=pl.when(is_late).then(pl.lit(now).cast(INSTANT)).otherwise("known_at")
    )


def _is_of(spec: FrameSpec, scope: str) -> pl.Expr:
    if not scope:
        return pl.lit(value=True)
    if "symbol" in spec.columns:
        return pl.col("symbol") == scope
    return pl.col("symbols").list.contains(scope) if "symbols" in spec.columns else pl.lit(False)


def _of_first_source(stores: Stores, actions: pl.DataFrame, name: str) -> pl.DataFrame:
    # Who told an action first goes on telling it; only a file of the user's own may differ.
    if name == OWN_ACTIONS:
        return actions
    stored = read_facts(stores.database, ACTIONS).select(*ACTIONS.key, first="source")
    beside = actions.join(stored, on=ACTIONS.key, how="left", maintain_order="left")
    is_own = (pl.col("first") == pl.col("source")).fill_null(value=True)
    return beside.filter(is_own).drop("first")


def _unread(stores: Stores, actions: pl.DataFrame, now: datetime) -> pl.DataFrame:
    # Prices that something stored was made of were made without an action that comes only now.
    pins = pl.concat(read_pins(stores.database, Timeframe(m)) for m in MINUTES.values())
    latest = pins.group_by("symbol").agg(pl.col("pinned_at").max())
    beside = actions.join(latest, on="symbol", how="left", maintain_order="left")
    was_read = (pl.col("known_at") <= pl.col("pinned_at")).fill_null(value=False)
    moved = pl.when(was_read).then(pl.lit(now).cast(INSTANT)).otherwise("known_at")
    return beside.with_columns(known_at=moved).drop("pinned_at")


def _told_once(stores: Stores, spec: FrameSpec, rows: pl.DataFrame) -> pl.DataFrame:
    # Of one story under several ids the first, and again only after SAME_STORY, so that it does
    # not matter what came together; an id already stored may change its words.
    if spec is not NEWS or rows.is_empty():
        return rows
    first: datetime = rows["published_at"].min()  # type: ignore[assignment]
    stored = read_facts(stores.database, NEWS, start=first - SAME_STORY)
    known = {*stored["id"]}
    letters = pl.col("headline").str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]", "")
    told = pl.concat([stored, rows.filter(~pl.col("id").is_in(known))]).with_columns(story=letters)
    last: dict[str, datetime] = {}
    repeats = set()
    ordered = told.filter(pl.col("story") != "").sort("published_at", "id")
    for name, story, at in ordered.select("id", "story", "published_at").iter_rows():
        if name not in known and story in last and at - last[story] <= SAME_STORY:
            repeats.add(name)
        else:
            last[story] = at
    return rows.filter(~pl.col("id").is_in(repeats))
