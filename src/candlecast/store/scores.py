"""Scores of texts: told once by each scorer, found again by the text's hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
import sqlalchemy as sa

from candlecast.domain.distribution import FloatArray
from candlecast.errors import InvalidSpec
from candlecast.store.database import Database
from candlecast.store.fact_tables import text_scores
from candlecast.store.statements import schema_of, shaped


def sha256_of(texts: Sequence[str]) -> list[str]:
    """The hash of each text, by which its score is stored."""
    return [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def read_scores(database: Database, scorer_id: str, hashes: Iterable[str]) -> pl.DataFrame:
    """text_sha256 and score of those among `hashes` that this scorer has told."""
    t = text_scores
    query = sa.select(t.c.text_sha256, t.c.score).where(
        t.c.scorer == scorer_id, t.c.text_sha256.in_(sorted({*hashes}))
    )
    return database.read(query, schema_of([t.c.text_sha256, t.c.score]))


def write_scores(
    database: Database, scorer_id: str, hashes: Sequence[str], scores: FloatArray
) -> int:
    """Store what a scorer told; how many were new: those stored already stay as they are.

    InvalidSpec when the scorer tells what is no score in [-1, 1].
    """
    if len(scores) != len(hashes) or not bool(np.all(np.abs(scores) <= 1)):
        raise InvalidSpec(
            f"scorer {scorer_id!r} told {len(scores)} scores for {len(hashes)} texts, not all "
            "within -1 and 1; mend it, or name another"
        )
    rows = pl.DataFrame({"scorer": scorer_id, "text_sha256": hashes, "score": scores})
    with database.bulk(lock="features") as bulk:
        return bulk.upsert(text_scores, shaped(text_scores, rows), "nothing")
