"""Trials: every model that was tried and scored, so that luck can be counted against the best."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

import sqlalchemy as sa

from candlecast.store.database import Database
from candlecast.store.tables import ml_trials as table


@dataclass(frozen=True)
class TrialRecord:
    """One model that was tried on a question.

    `study` is what the trials have in common, `spec` and `details` are JSON, `score` is the CRPS
    skill over climatology, None where the trial failed.
    """

    study: str
    spec_id: str
    spec: str
    kind: str
    score: float | None
    details: str
    created_at: datetime


def write_trial(database: Database, trial: TrialRecord) -> bool:
    """Count a trial; whether it is the first of its spec in its study.

    The first score stays: what was tried twice was tried once. One that failed gets the score of
    a later try.
    """
    is_same = sa.and_(table.c.study == trial.study, table.c.spec_id == trial.spec_id)
    with database.transaction(lock="trials") as connection:
        known = connection.execute(sa.select(table.c.score).where(is_same)).one_or_none()
        if known is None:
            connection.execute(sa.insert(table).values(asdict(trial)))
        elif known.score is None and trial.score is not None:
            values = {"score": trial.score, "details": trial.details}
            connection.execute(sa.update(table).where(is_same).values(values))
    return known is None


def count_trials(database: Database, study: str) -> int:
    """How many different specs were tried in `study`, failed ones included."""
    query = sa.select(sa.func.count()).select_from(table).where(table.c.study == study)
    with database.reading() as connection:
        return int(connection.execute(query).scalar_one())


def read_trials(database: Database, study: str) -> list[TrialRecord]:
    """All trials of `study`, in the order in which they were counted."""
    columns = [column for column in table.c if column.name != "id"]
    query = sa.select(*columns).where(table.c.study == study).order_by(table.c.id)
    with database.reading() as connection:
        return [TrialRecord(**row._asdict()) for row in connection.execute(query)]
