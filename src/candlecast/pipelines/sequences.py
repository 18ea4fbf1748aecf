"""Windows behind the rows of a data set, for models that look at them: the same when it counts.

Windows of the timeframe that is forecast are made of the bars of the market at hand. Those of
others stand beside it (`with_timeframes`), read and pinned in the same way, so that a training
set with windows can be rebuilt like any other. `Windows` sees to it that none shows a bar before
it had ended and was known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from candlecast.domain.market import Timeframe
from candlecast.domain.sequences import Sequences
from candlecast.domain.specs import ExperimentSpec, TensorSpec
from candlecast.errors import NotEnoughHistory
from candlecast.features.compute import compute
from candlecast.features.timeframes import Windows
from candlecast.features.timelines import Timeline, make_timeline
from candlecast.pipelines.demands import windows_of
from candlecast.pipelines.tensors import make_part
from candlecast.pipelines.universe import Market, read_market, read_pinned_market
from candlecast.store.stores import Stores

if TYPE_CHECKING:
    from candlecast.pipelines.dataset import TrainingSet


def with_timeframes(
    stores: Stores,
    market: Market,
    spec: ExperimentSpec,
    *,
    is_newest: bool = False,
    since: Callable[[str], Mapping[str, datetime]] | None = None,
) -> Market:
    """`market` with the other timeframes that the model of `spec` looks at, known by its `as_of`.

    They are pinned, because a result will be stored; not so where `since` tells for a timeframe
    where each symbol began when they were read before. NotEnoughHistory names a timeframe without
    bars.
    """
    windows = windows_of(spec)
    if windows is None:
        return market
    read = read_pinned_market if since is None else read_market
    found = []
    for name in windows.timeframes:
        if name == market.timeframe.name:
            continue
        options = {} if since is None else {"since": since(name)}
        try:
            beside = read(
                stores,
                Timeframe.parse(name),
                market.tickers,
                market.as_of,
                is_newest=is_newest,
                is_simulation_allowed=spec.allow_simulated,
                **options,
            )
        except NotEnoughHistory as error:
            raise NotEnoughHistory(
                f"{error}; the model looks at {', '.join(windows.timeframes)}: coarser bars are "
                "derived when finer ones are ingested, or name other timeframes in [model.tensors]"
            ) from error
        found.append(beside)
    return replace(market, beside=tuple(found))


def all_sequences(
    spec: ExperimentSpec, market: Market, features: pl.DataFrame, keys: pl.DataFrame
) -> Sequences | None:
    """The windows of rows with these `keys` (symbol, as_of), whose market has these FEATURES.

    None for a model that looks at none.
    """
    windows = windows_of(spec)
    if windows is None:
        return None

    def line_of(part: Market) -> Timeline:
        if part is not market:
            made = make_part(part, windows, part.tickers, market.facts)
            assert made is not None
            return made
        names = windows.features
        return make_timeline(part.timeframe, part.prices, features, names, part.calendars)

    return _sequences(windows, market, line_of, keys)


def with_sequences(stores: Stores, training: TrainingSet) -> TrainingSet:
    """`training` with the windows that its spec asks for, where it was built for another model."""
    spec = training.spec
    market = with_timeframes(stores, replace(training.market, beside=()), spec)
    sequences = None
    if (windows := windows_of(spec)) is not None:
        features = compute(market.prices, windows.features, market.facts)
        sequences = all_sequences(spec, market, features, training.keys)
    examples = replace(training.examples, sequences=sequences)
    return replace(
        training,
        rows=examples.without_outcomes(),
        examples=examples,
        market=market,
        sha256=market.sha256(),
    )


def newest_sequences(spec: ExperimentSpec, market: Market, keys: pl.DataFrame) -> Sequences | None:
    """The windows of the newest rows of their symbols, from no more bars than that takes."""
    windows = windows_of(spec)
    if windows is None or keys.is_empty():
        return None
    wanted = keys["symbol"].unique().to_list()

    def line_of(part: Market) -> Timeline:
        # Where none of the wanted has bars of a timeframe, their windows of it are all masked.
        made = make_part(part, windows, wanted, market.facts, market.as_of)
        made = made or make_part(part, windows, part.tickers, market.facts, market.as_of)
        assert made is not None
        return made

    return _sequences(windows, market, line_of, keys)


def _sequences(
    windows: TensorSpec,
    market: Market,
    line_of: Callable[[Market], Timeline],
    keys: pl.DataFrame,
) -> Sequences:
    parts = {part.timeframe.name: part for part in (market, *market.beside)}
    lines = [line_of(parts[name]) for name in windows.timeframes]
    return Sequences(Windows(windows, lines, keys), np.arange(len(keys)))
