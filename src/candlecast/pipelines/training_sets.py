"""Training sets by their manifests: made and noted down, and rebuilt to the same bytes later."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from importlib.metadata import version
from typing import Final

import orjson
import polars as pl

from candlecast.domain.described import to_mapping
from candlecast.domain.market import Timeframe
from candlecast.domain.specs import ExperimentSpec
from candlecast.errors import Conflict
from candlecast.features.chosen import check_code
from candlecast.models.artifact import open_sealed
from candlecast.pipelines.dataset import TrainingSet, make_training_set, read_training_market
from candlecast.pipelines.demands import feature_names, resolved
from candlecast.pipelines.provenance import features_code, rows_sha256
from candlecast.pipelines.sequences import with_timeframes
from candlecast.pipelines.universe import Market, read_market, with_facts
from candlecast.store.features import TrainingSet as Manifest
from candlecast.store.features import read_training_set, write_training_set
from candlecast.store.stores import Stores

ELSEWHERE: Final = (
    "make it where it was made first, or make another set (another `seed` in the spec does)"
)
MAKE_ANEW: Final = "make a new set (`candlecast dataset export --spec`) or train again"


def make_manifest(training: TrainingSet, created_at: datetime) -> Manifest:
    """What it takes to build `training` again, and hashes that tell whether it is the same."""
    return Manifest(
        set_id=training.set_id,
        spec=orjson.dumps(to_mapping(training.spec), option=orjson.OPT_SORT_KEYS).decode(),
        as_of=training.market.as_of,
        n_rows=len(training.examples),
        sha256=training.sha256,
        created_at=created_at,
        rows_sha256=rows_sha256(training.examples),
        code_sha256=features_code(training.examples.feature_names),
        version=version("candlecast"),
        first_bars=orjson.dumps(_first_bars(training.market), option=orjson.OPT_SORT_KEYS).decode(),
    )


def note_training_set(
    stores: Stores, spec: ExperimentSpec, as_of: datetime | None = None
) -> tuple[Manifest, TrainingSet]:
    """The training set of `spec` as known at `as_of`, with its manifest stored.

    A set whose manifest stands already keeps it, and has to be the same.
    """
    market = read_training_market(stores, spec, as_of)
    training = make_training_set(resolved(spec, market), market)
    return keep_manifest(stores, training), training


def keep_manifest(stores: Stores, training: TrainingSet) -> Manifest:
    """Store the manifest of `training`; one that stands already stays, and has to be the same.

    Conflict where it describes other rows: another processor may give other digits.
    """
    write_training_set(stores.database, make_manifest(training, stores.clock.now()))
    manifest = read_training_set(stores.database, training.set_id)
    _check_rows(manifest, training, ELSEWHERE)
    return manifest


def rebuild_training_set(stores: Stores, set_id: str) -> TrainingSet:
    """The examples of a stored manifest, to the same bytes, whatever has become known since.

    Raises
    ------
    NotFound : no such set, or one of its features or symbols is gone; names the close ones.
    Conflict : what comes out is not what the manifest says. The message tells whether the stored
        prices, the code of the features, or the version of candlecast is another one.
    """
    manifest = read_training_set(stores.database, set_id)
    spec = _named(stores, ExperimentSpec.from_mapping(orjson.loads(manifest.spec)), manifest)
    check_code(spec.features)
    market = _market_of(stores, spec, manifest)
    training = make_training_set(spec, market)
    _check_rows(manifest, training)
    return training


def _named(stores: Stores, spec: ExperimentSpec, manifest: Manifest) -> ExperimentSpec:
    # The oldest specs do not name the standard set, which was another one then: the model that
    # was trained on it does.
    if spec.features.names:
        return spec
    for model in stores.registry.list():
        if model.training_set_id == manifest.set_id:
            folder = stores.registry.fetch(model.version)
            names = open_sealed(folder, model.artifact_sha256)["feature_names"]
            return replace(spec, features=replace(spec.features, names=tuple(names)))
    raise Conflict(
        f"training set {manifest.set_id} cannot be rebuilt: it does not say which features the "
        f"standard set was made of then, and no registered model does; {MAKE_ANEW}"
    )


def _market_of(stores: Stores, spec: ExperimentSpec, manifest: Manifest) -> Market:
    market = read_market(
        stores,
        Timeframe.parse(spec.timeframe),
        spec.symbols,
        manifest.as_of,
        is_simulation_allowed=spec.allow_simulated,
        since=_since(manifest, spec.timeframe),
    )
    market = with_facts(stores, market, feature_names(spec.features))
    market = with_timeframes(stores, market, spec, since=partial(_since, manifest))
    found = market.sha256()
    if found != manifest.sha256:
        raise Conflict(
            f"training set {manifest.set_id} cannot be rebuilt: the {_what(market)} known at "
            f"{manifest.as_of:%Y-%m-%d %H:%M} are not those it was made of (sha256 {found[:8]}, "
            f"was {manifest.sha256[:8]}); bars, actions or a symbol's calendar were changed "
            f"without a trace{_of_facts(market)}, or this is another database. Restore a backup, "
            f"or {MAKE_ANEW}{_newer_version(manifest)}"
        )
    return market


def _first_bars(market: Market) -> dict[str, str]:
    # Of the timeframe that is forecast by symbol, of those beside it by timeframe and symbol.
    found: dict[str, str] = {}
    for part in (market, *market.beside):
        mark = "" if part is market else f"{part.timeframe} "
        first = part.prices.group_by("symbol").agg(pl.col("ts").min())
        found |= {f"{mark}{symbol}": ts.isoformat() for symbol, ts in first.iter_rows()}
    return found


def _since(manifest: Manifest, timeframe: str) -> dict[str, datetime]:
    spec = orjson.loads(manifest.spec)
    mark = "" if timeframe == spec["timeframe"] else f"{timeframe} "
    told = orjson.loads(manifest.first_bars or "{}")
    return {
        name.removeprefix(mark): datetime.fromisoformat(text)
        for name, text in told.items()
        if name.startswith(mark)
    }


def _check_rows(manifest: Manifest, training: TrainingSet, remedy: str = MAKE_ANEW) -> None:
    # The oldest manifests say of their rows only how many there are.
    found = rows_sha256(training.examples)
    has_all = manifest.n_rows == len(training.examples)
    if has_all and manifest.rows_sha256 in {None, found}:
        return
    names = training.examples.feature_names
    if manifest.code_sha256 is None:
        reason = "the prices are the same, the code of features or labels may be another one"
    elif manifest.code_sha256 != features_code(names):
        reason = "the prices are the same, the code of features or labels is another one"
    else:
        reason = "prices and code are the same; facts besides prices, or the processor, differ"
    raise Conflict(
        f"training set {manifest.set_id} cannot be rebuilt: {reason}{_newer_version(manifest)}; "
        f"{manifest.n_rows} rows then, {len(training.examples)} now; {remedy}"
    )


def _what(market: Market) -> str:
    return "prices" if market.facts is None else "prices or facts"


def _of_facts(market: Market) -> str:
    if market.facts is None:
        return ""
    return ", news or other facts of that time were brought in only later"


def _newer_version(manifest: Manifest) -> str:
    now = version("candlecast")
    if manifest.version in {None, now}:
        return ""
    return f" (made by candlecast {manifest.version}, this is {now})"
