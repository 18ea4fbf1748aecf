"""Alembic's environment: runs the revisions on the connection it is handed."""

from __future__ import annotations

from alembic import context

from candlecast.store import fact_tables, ledger_tables, tables  # noqa: F401 - they enter metadata
from candlecast.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
