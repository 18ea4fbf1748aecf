"""What the tests of training sets share: a quick experiment, and a past that goes on changing."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from candlecast.domain.frames import ACTIONS, NEWS
from candlecast.domain.sources import FetchedRows, Request
from candlecast.domain.specs import ExperimentSpec, FeatureSpec, LabelSpec, ModelSpec, SplitSpec
from candlecast.pipelines.facts import ingest_facts
from candlecast.store.facts import write_facts
from candlecast.store.stores import Stores
from pipeline_rows import LATER, at, put, sample_bars

SYMBOLS = ("AAPL", "IBM", "MSFT")
BARS = sample_bars(*SYMBOLS, n_sessions=420)
DAYS = BARS["ts"].unique().sort()
SPEC = ExperimentSpec(
    min_bars=250,
    features=FeatureSpec(("har_1", "har_5", "return_rank_21")),
    labels=LabelSpec(horizons=("1D", "1W")),
    splits=SplitSpec(n_splits=2),
    model=ModelSpec("linear"),
)
LAST_KNOWN = 400
"""How many of the sessions are stored when a training set is made."""


class Told:
    """A provider of these corporate actions."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = ACTIONS.conform(rows)

    def fetch_actions(self, request: Request, clock: object) -> FetchedRows:
        return FetchedRows(self.rows)


def first_bars(rng: np.random.Generator) -> pl.DataFrame:
    """The bars that are known at first: with holes, and half of them without adjusted closes."""
    known = BARS.filter(pl.col("ts") < DAYS[LAST_KNOWN])
    missing = rng.random(len(known)) < 0.02
    is_raw = pl.col("symbol") == "MSFT"  # its prices follow the actions that are told
    adjusted = pl.when(~is_raw).then("adj_close").alias("adj_close")
    return known.filter(~pl.Series(missing)).with_columns(adjusted)


def go_on(stores: Stores, rng: np.random.Generator, n_days: int) -> Stores:
    """What a source may say later: more bars, corrected bars, healed gaps and late actions."""
    later = at(stores, LATER + timedelta(days=n_days))
    n_known = LAST_KNOWN + int(rng.integers(0, len(DAYS) - LAST_KNOWN))
    bars = BARS.filter(pl.col("ts") < DAYS[n_known])
    is_wrong = pl.Series(rng.random(len(bars)) < 0.03)
    factor = pl.when(is_wrong).then(float(rng.uniform(0.97, 1.03))).otherwise(1.0)
    prices = [pl.col(name) * factor for name in ("open", "high", "low", "close", "adj_close")]
    is_raw = pl.col("symbol") == "MSFT"
    given = bars.with_columns(prices).with_columns(pl.when(~is_raw).then("adj_close"))
    put(later, given)
    day = DAYS[int(rng.integers(LAST_KNOWN - 120, n_known))]
    row = {"symbol": "MSFT", "ex_date": day, "kind": "split", "value": 2.0, "source": "told"}
    dividend = row | {"symbol": "MSFT", "kind": "dividend", "value": 0.5}
    rows = pl.DataFrame([r | {"known_at": day} for r in (row, dividend)])
    ingest_facts(later, "actions", "told", Told(rows), Request())
    return later


def tell(stores: Stores, number: int, headline: str, known_at: datetime) -> None:
    """Store a headline about IBM; the same number again is another version of it."""
    row = {
        "id": f"wire:{number}",
        "published_at": known_at,
        "source": "wire",
        "headline": headline,
        "symbols": ["IBM"],
        "known_at": known_at,
    }
    assert write_facts(stores.database, NEWS, NEWS.conform(pl.DataFrame([row]))) == 1
