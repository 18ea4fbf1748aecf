"""What is known besides prices, as features see it: texts scored, each fact as first known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import polars as pl

from candlecast.domain.catalog import Scorer
from candlecast.domain.facts import Facts
from candlecast.domain.frames import (
    CAPITALISATIONS,
    INDICES,
    LARGE_TRADES,
    NEWS,
    POSTS,
    TEXTS,
    FrameSpec,
)
from candlecast.store.database import Database
from candlecast.store.first_facts import read_first_facts, read_texts
from candlecast.store.scores import read_scores, sha256_of, write_scores
from candlecast.store.stores import Stores

SOURCES: Final[dict[str, FrameSpec]] = {"news": NEWS, "post": POSTS}


def read_known_facts(
    stores: Stores,
    symbols: Sequence[str],
    as_of: datetime,
    scorer: Scorer | None = None,
    *,
    since: datetime | None = None,
) -> Facts:
    """All facts that values of `symbols` (all when empty) at `as_of` or before depend on.

    Each comes in the version known first. Headlines and posts are scored by `scorer`, that of the
    stores by default: a headline without its summary, and each text once in its life, for scores
    are stored. A post without a weight counts like a headline, one of weight 0 not at all.

    With `since` texts and large trades known until then are left out. Of indices and
    capitalisations, which are few, the day that they are about tells whether they count.
    """
    database = stores.database
    pages = [
        _scored(database, scorer or stores.make_scorer(), page).with_columns(kind=pl.lit(kind))
        for kind, spec in SOURCES.items()
        for page in read_texts(database, spec, since=since, as_of=as_of)
    ]
    of_symbols = list(symbols) or None
    return Facts.of(
        texts=_texts(pages),
        indices=read_first_facts(database, INDICES, as_of=as_of),
        capitalisations=read_first_facts(database, CAPITALISATIONS, as_of=as_of),
        large_trades=read_first_facts(
            database, LARGE_TRADES, since=since, as_of=as_of, symbols=of_symbols
        ),
    )


def _scored(database: Database, scorer: Scorer, page: pl.DataFrame) -> pl.DataFrame:
    # The page with a score in place of each text; what was not scored yet is, and stored.
    hashed = page.with_columns(text_sha256=pl.Series(sha256_of(page["text"].to_list())))
    known = read_scores(database, scorer.id, hashed["text_sha256"])
    missing = hashed.join(known, on="text_sha256", how="anti").unique("text_sha256")
    if len(missing):
        missing = missing.sort("id")
        scores = scorer.score(missing["text"].to_list())
        write_scores(database, scorer.id, missing["text_sha256"].to_list(), scores)
        told = missing.select("text_sha256", score=pl.Series(scores, dtype=pl.Float64))
        known = pl.concat([known, told])
    return hashed.join(known, on="text_sha256", how="left").drop("text", "text_sha256")


def _texts(pages: list[pl.DataFrame]) -> pl.DataFrame:
    if not pages:
        return TEXTS.empty()
    # Ids are unique among news and among posts, not among both.
    name = pl.format("{}:{}", "kind", "id")
    weighted = pl.concat(pages).with_columns(id=name, weight=pl.col("weight").fill_null(1.0))
    return TEXTS.conform(weighted.filter(pl.col("weight") > 0))
