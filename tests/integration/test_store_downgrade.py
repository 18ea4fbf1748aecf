"""A schema taken back to an earlier revision has the views of that revision."""

import polars as pl
import sqlalchemy as sa

from candlecast.domain.market import Symbol
from candlecast.store import migrate, views
from candlecast.store.aggregates import AGGREGATES
from candlecast.store.symbols import read_symbols, write_symbols


def views_of(database):
    with database.reading() as reader:
        return set(sa.inspect(reader).get_view_names())


def test_the_first_revision_has_its_views_and_no_aggregates(database):
    write_symbols(database, [Symbol("A", aliases=(("yahoo", "B"),))])
    everything = views_of(database)
    database.downgrade("0001")
    assert views_of(database) == set(views.FIRST)
    for name in views.FIRST:
        count = database.read(sa.text(f"SELECT count(*) AS n FROM {name}"), {"n": pl.Int64})
        assert count.item() == 0
    database.upgrade()
    assert views_of(database) == everything
    assert [symbol.ticker for symbol in read_symbols(database)] == ["A"]


def test_taking_it_back_to_where_it_is_leaves_all_views(database):
    database.downgrade(migrate.HEAD)
    assert views_of(database) == {*views.NAMES, *(aggregate.name for aggregate in AGGREGATES)}
