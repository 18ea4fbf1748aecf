"""The schema brought up to date, once, however many processes start at the same time."""

from __future__ import annotations

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from candlecast.errors import Conflict, NotFound
from candlecast.store import tables, timescale, views

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0004"
"""The newest revision under migrations/versions; with it, starting needs no Alembic."""


@contextmanager
def file_lock(path: Path, *, is_shared: bool = False) -> Iterator[None]:
    """Held by one process at a time (or several readers); freed when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX)
        yield


def current_revision(connection: sa.Connection) -> str | None:
    """The revision of the schema, or None for an empty database."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(connection: sa.Connection) -> None:
    """Bring the schema to `HEAD` inside the transaction of `connection`."""
    revision = current_revision(connection)
    if revision == HEAD:
        timescale.enable(connection)  # the extension may have come since
        return
    from alembic import command
    from alembic.util import CommandError

    _take_down(connection)
    try:
        command.upgrade(_config(connection), "head")
    except CommandError as error:
        raise Conflict(
            f"the database has revision {revision}, which this version does not know; "
            "upgrade candlecast"
        ) from error
    _put_up(connection)
    known = connection.execute(sa.select(tables.database_identity.c.identity)).scalar()
    if known is None:
        values = {"id": 1, "identity": secrets.token_hex(16)}
        connection.execute(sa.insert(tables.database_identity).values(values))


def downgrade(connection: sa.Connection, revision: str) -> None:
    """Take the schema back to `revision` (``base``: nothing is left).

    The ledger's views are there again afterwards; the others, and the aggregates, only where the
    newest revision is in force.
    """
    from alembic import command
    from alembic.util import CommandError

    _take_down(connection)
    try:
        command.downgrade(_config(connection), revision)
    except CommandError as error:
        raise NotFound(f"no schema revision {revision!r}; name one, or base") from error
    reached = current_revision(connection)
    if reached == HEAD:
        _put_up(connection)
    elif reached is not None:
        views.create_views(connection, views.FIRST)


def _take_down(connection: sa.Connection) -> None:
    # What is derived from the tables stands in the way of changing them.
    views.drop_views(connection)
    timescale.suspend(connection)


def _put_up(connection: sa.Connection) -> None:
    views.create_views(connection)
    timescale.create_aggregates(connection)
    timescale.enable(connection)


def _config(connection: sa.Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
