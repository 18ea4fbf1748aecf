"""Labels of stored bars into their table: looked up, checked, computed, stored."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Final

import polars as pl

from candlecast.domain.catalog import LABELS, Label
from candlecast.domain.described import Parameter, check_parameters
from candlecast.domain.market import Horizon, Timeframe
from candlecast.domain.specs import ExperimentSpec, LabelSpec
from candlecast.errors import InvalidSpec, NotFound
from candlecast.pipelines.materialize import Span
from candlecast.pipelines.universe import Market, read_market
from candlecast.store.features import write_labels
from candlecast.store.stores import Stores

SHARED: Final = ("prices", "timeframe", "horizons", "calendars")
"""What every label takes; all else are parameters of its own."""


def own_parameters(label: Label) -> dict[str, Parameter]:
    """The parameters of a label and their defaults."""
    known = inspect.signature(label.compute).parameters
    return {name: known[name].default for name in known if name not in SHARED}


def look_up(spec: LabelSpec) -> tuple[Label, LabelSpec]:
    """The label of `spec`, and `spec` with those parameters alone that differ from the defaults.

    A label that classifies by a threshold like the forecast's takes that of `spec`, unless its own
    parameters name another. NotFound or InvalidSpec names the kind or parameter that is wrong.
    """
    label = LABELS.get(spec.kind)
    check_parameters(f"the label {spec.kind}", label.compute, spec.parameters, hidden=SHARED)
    defaults, given = own_parameters(label), dict(spec.parameters)
    if isinstance(defaults.get("threshold"), str):
        given.setdefault("threshold", spec.threshold)
    changed = {name: value for name, value in given.items() if value != defaults[name]}
    return label, replace(spec, parameters=changed)


def default_horizons(kind: str, timeframe: Timeframe) -> tuple[str, ...]:
    """The horizons of a label when none are named: those that are whole numbers of bars."""
    usual = LABELS.get(kind).default_horizons(timeframe)
    whole = [h for h in usual if not (Horizon.parse(h).minutes or 0) % timeframe.minutes]
    if not whole:
        raise InvalidSpec(
            f"the horizons that {kind} has by default ({', '.join(usual)}) are no whole numbers of "
            f"{timeframe} bars; name one with --horizon, or choose a finer timeframe"
        )
    return tuple(whole)


def compute_labels(spec: LabelSpec, market: Market) -> pl.DataFrame:
    """LABELS of `spec` for all bars of a market."""
    label, known = look_up(spec)
    return label.compute(
        market.prices,
        timeframe=market.timeframe,
        horizons=known.horizons,
        calendars=market.calendars,
        **known.parameters,
    )


def materialize_labels(stores: Stores, spec: ExperimentSpec, span: Span) -> int:
    """Compute the labels of `spec` and store those within `span`; returns the rows that changed.

    The market is made of the span's symbols alone: a label that compares symbols compares these.
    They stand under the kind with its parameters, such as ``forward_return[is_simple=true]``.
    NotFound where no label of that span is known yet.
    """
    kind = look_up(spec.labels)[1].stored_kind
    market = read_market(stores, Timeframe.parse(spec.timeframe), span.symbols, None)
    labels = compute_labels(spec.labels, market)
    known = span.cut(labels).filter(pl.col("end_at") <= market.as_of)
    if known.is_empty():
        raise NotFound(
            f"no {kind} over {', '.join(spec.labels.horizons)} of {market.timeframe} bars of "
            f"{span} is known at {market.as_of:%Y-%m-%d %H:%M}; choose another span or shorter "
            "horizons"
        )
    return write_labels(stores.database, market.timeframe, known, kind)
