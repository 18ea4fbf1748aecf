"""What forecasts just made rest on, kept beside them in the ledger."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl

from candlecast.domain.catalog import Attentive, Attributed, Forecaster
from candlecast.domain.examples import Rows
from candlecast.models.explain import attentive, attributed, named_contributions
from candlecast.store.explanations import ATTENTION, CONTRIBUTIONS, write_explanations
from candlecast.store.stores import Stores

DIGITS: Final = 6


def keep_reasons(
    stores: Stores,
    model: Forecaster,
    rows: Rows,
    standing: pl.DataFrame,
    *,
    has_contributions: bool = False,
) -> None:
    """Store the attention behind the forecasts `standing` in the ledger that were made of `rows`.

    With `has_contributions` also what each feature adds, which asks the library that the model was
    learnt with. A model that does not know leaves nothing.
    """
    ids = _ids(rows, standing)
    now = stores.clock.now()
    looks, knows = attentive(model), attributed(model)
    if looks is not None and rows.sequences is not None:
        write_explanations(stores.database, ATTENTION, _attention(looks, rows, ids), now)
    if has_contributions and knows is not None:
        added = _contributions(knows, rows, ids)
        write_explanations(stores.database, CONTRIBUTIONS, added, now)


def _ids(rows: Rows, standing: pl.DataFrame) -> dict[tuple[int, int], int]:
    # The id of the forecast of each row and horizon, by their positions.
    places = {
        (rows.tickers[code], as_of): at
        for at, (code, as_of) in enumerate(
            zip(rows.symbol.tolist(), rows.as_of.astype("datetime64[us]").tolist(), strict=True)
        )
    }
    found = {}
    for number, symbol, as_of, horizon in standing.select(
        "id", "symbol", pl.col("as_of").dt.replace_time_zone(None), "horizon"
    ).iter_rows():
        if (symbol, as_of) in places:
            found[places[symbol, as_of], rows.horizons.index(horizon)] = number
    return found


def _attention(looks: Attentive, rows: Rows, ids: dict[tuple[int, int], int]) -> dict[int, Any]:
    assert rows.sequences is not None
    timeframes = rows.sequences.source.spec.timeframes
    weights = np.round(looks.attention(rows).astype(float), DIGITS).tolist()
    return {
        number: {"timeframes": timeframes, "weights": weights[at]}
        for (at, _), number in ids.items()
    }


def _contributions(
    knows: Attributed, rows: Rows, ids: dict[tuple[int, int], int]
) -> dict[int, Any]:
    added = named_contributions(knows, rows)
    named = {number: added[at][horizon] for (at, horizon), number in ids.items()}
    return {number: {"features": found} for number, found in named.items() if found}
