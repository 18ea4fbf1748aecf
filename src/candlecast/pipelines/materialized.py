"""Features of a universe from a file that was made before, as long as it still tells the truth.

What is asked for (features, universe, as_of, versions) is the question. What the answer was made
of is the state: the bars' last change, actions and other facts, who scores texts, calendars, code.
Where either differs, the features are computed from the market and kept for the next time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import polars as pl
import sqlalchemy as sa

from candlecast.domain.described import content_hash
from candlecast.domain.frames import INSTANT
from candlecast.domain.market import Timeframe
from candlecast.domain.specs import FeatureSpec
from candlecast.features.compute import compute, standard_set
from candlecast.pipelines.provenance import features_code, has_facts, package_code
from candlecast.pipelines.universe import read_market, with_facts
from candlecast.store.fact_tables import FACTS
from candlecast.store.feature_files import State
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

PRICING: Final = ("ACTIONS",)
"""Facts that prices themselves are made of."""
TEXTS: Final = ("NEWS", "POSTS")
"""Facts whose scores depend on who scores them."""


def materialized_features(  # noqa: PLR0913 - each is part of what is asked for
    stores: Stores,
    timeframe: Timeframe,
    names: Sequence[str] = (),
    symbols: tuple[str, ...] = (),
    as_of: datetime | None = None,
    *,
    is_newest: bool = False,
    is_simulation_allowed: bool = True,
) -> pl.DataFrame:
    """FEATURES as `compute` gives them for `read_market` of the same arguments.

    Without `names` the standard set. The frame may be a view of a memory-mapped file. Nothing is
    kept while the stores hold rows that are known only later than their clock's now: the answer
    would change with the time alone.
    """
    wanted = tuple(names) or standard_set()
    now = stores.clock.now()
    past = as_of if as_of is not None and as_of < now else None
    question = content_hash(
        [
            FeatureSpec(wanted).id,
            features_code(wanted),
            sorted({*symbols}),
            None if past is None else past.isoformat(),
            is_newest,
            is_simulation_allowed,
        ]
    )
    state, last_at = _state(stores, timeframe, wanted)
    files = stores.feature_files
    known = files.read(timeframe.name, question, state, None if past else now)
    if known is not None:
        return known
    market = read_market(
        stores,
        timeframe,
        symbols,
        as_of,
        is_newest=is_newest,
        is_simulation_allowed=is_simulation_allowed,
    )
    market = with_facts(stores, market, wanted)
    features = compute(market.prices, wanted, market.facts)
    is_final = past is not None or _is_all_known(stores, timeframe, last_at, now)
    if is_final and _state(stores, timeframe, wanted)[0] == state:
        files.write(timeframe.name, question, state, features, now)
    return features


def _state(
    stores: Stores, timeframe: Timeframe, names: Sequence[str]
) -> tuple[State, datetime | None]:
    # What decides the values beside the question, and when the last of the facts is known.
    kinds = [*FACTS] if has_facts(names) else [*PRICING]
    told: dict[str, str] = {}
    last_at: list[datetime] = []
    for kind in kinds:
        count, last = _versions(stores, FACTS[kind])
        told[kind] = f"{count} {last and last.isoformat()}"
        last_at += [last] if last else []
        if kind in TEXTS and count:  # without a text nobody has to be asked
            told["scorer"] = stores.make_scorer().id
    calendars = sorted((s.ticker, s.calendar) for s in read_symbols(stores.database))
    stamp = stores.mirror.stamp(timeframe)
    state = {
        **stamp._asdict(),
        "code": package_code(),
        "calendars": content_hash(calendars),
        **told,
    }
    return state, max(last_at, default=None)


def _versions(stores: Stores, table: sa.Table) -> tuple[int, datetime | None]:
    # Versions of facts are added, never changed: their number and the last instant tell a state.
    columns = (sa.func.count().label("n"), sa.func.max(table.c.known_at).label("last"))
    row = stores.database.read(sa.select(*columns), {"n": pl.Int64, "last": INSTANT}).row(0)
    return int(row[0]), row[1]


def _is_all_known(
    stores: Stores, timeframe: Timeframe, last_fact_at: datetime | None, now: datetime
) -> bool:
    last_bar_at = stores.mirror.read(timeframe)["known_at"].max()
    return all(at <= now for at in (last_bar_at, last_fact_at) if isinstance(at, datetime))
