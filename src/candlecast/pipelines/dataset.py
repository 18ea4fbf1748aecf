"""Bars to the rows a model sees: features, scale, climatology and, for training, outcomes.

1. Take adjusted prices, known by `as_of` (`universe.read_market`).
2. Compute features, the volatility scale and labels, all causal.
3. Keep the rows a model can use; a symbol with too little history is left out and named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain import volatility
from candlecast.domain.catalog import FEATURES
from candlecast.domain.climatology import MIN_COUNT, climatology
from candlecast.domain.described import content_hash, to_mapping
from candlecast.domain.distribution import N_LEVELS, FloatArray
from candlecast.domain.examples import Examples, Rows
from candlecast.domain.history import History
from candlecast.domain.market import Timeframe
from candlecast.domain.prices import newest_segment_bars
from candlecast.domain.specs import ExperimentSpec, LabelSpec
from candlecast.errors import NotEnoughHistory
from candlecast.features.compute import compute, newest
from candlecast.labels.weights import sample_weights
from candlecast.pipelines.demands import feature_names, resolved_features
from candlecast.pipelines.label import compute_labels
from candlecast.pipelines.provenance import features_code
from candlecast.pipelines.sequences import all_sequences, newest_sequences, with_timeframes
from candlecast.pipelines.universe import (
    Market,
    find_shortfalls,
    horizon_lengths,
    instants,
    read_pinned_market,
    with_facts,
)
from candlecast.store.stores import Stores

NEVER_READY: Final = "bring more history, or drop it if its price hardly moves"
SCALE_BARS: Final = volatility.LONG_RUN_BARS + 300
"""After so many bars an EWMA has forgotten where it started."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows for a model, and beside each row what a forecast of it needs.

    `failures` names the symbols that get no row, `shortfalls` those with too little history.

    `keys` has one row for each of `rows`: symbol, ts, as_of, last_close (as the source gave it).
    `end_at` is (n_rows, n_horizons).
    """

    rows: Rows
    keys: pl.DataFrame
    end_at: NDArray[np.datetime64]
    shortfalls: dict[str, str]
    failures: dict[str, str]


@dataclass(frozen=True, eq=False)
class TrainingSet(Dataset):
    """Examples, and the ids under which they can be built again."""

    examples: Examples
    market: Market
    spec: ExperimentSpec
    sha256: str

    @property
    def set_id(self) -> str:
        """Content hash of spec, as_of, prices and code."""
        return training_set_id(self.spec, self.market, self.sha256)


def training_set_id(spec: ExperimentSpec, market: Market, sha256: str) -> str:
    """What decides a training run: the spec, the as_of, the data, and the code that makes rows."""
    made_by = [version("candlecast"), features_code(feature_names(spec.features))]
    return content_hash([to_mapping(spec), market.as_of.isoformat(), sha256, *made_by])


def read_training_market(stores: Stores, spec: ExperimentSpec, as_of: datetime | None) -> Market:
    """The universe of `spec` in first versions, with the facts that its features are made of, as
    known at `as_of`, and pinned so.
    """
    market = read_pinned_market(
        stores,
        Timeframe.parse(spec.timeframe),
        spec.symbols,
        as_of,
        is_simulation_allowed=spec.allow_simulated,
    )
    names = resolved_features(spec.features).names
    market = with_facts(stores, market, names, is_pinned=True)
    return with_timeframes(stores, market, spec)


def refused_simulations(spec: ExperimentSpec, market: Market) -> dict[str, str]:
    """The symbols that are left out because none of their bars was traded."""
    if spec.allow_simulated:
        return {}
    reason = "its bars are simulated; ingest real ones, or allow it with --allow-simulated"
    return dict.fromkeys(sorted(market.simulated), reason)


def make_training_set(spec: ExperimentSpec, market: Market) -> TrainingSet:
    """Every row of the universe whose features and past are complete, with its outcomes.

    Features of other facts than prices may be missing (NaN): a source can be absent.
    """
    lengths, odd = horizon_lengths(market, spec.labels.horizons)
    shortfalls = find_shortfalls(market, spec.min_bars, market.tickers) | odd
    names = feature_names(spec.features)
    features = compute(market.prices, names, market.facts)
    scales = market.prices.select("symbol", "ts", scale=volatility.scale().over("segment"))
    needed = [name for name in names if FEATURES.get(name).table == "ohlcv"]
    is_usable = pl.all_horizontal(pl.col(*needed, "scale").is_not_null())
    kept = (
        _beside(features, scales, market.prices)
        .filter(is_usable & ~pl.col("symbol").is_in(list(shortfalls)))
        .sort("as_of", "symbol", "ts")
        # Bars of a healed gap became known together: only the newest of them can be acted on.
        .unique(["as_of", "symbol"], keep="last", maintain_order=True)
    )
    for ticker in {*market.tickers} - {*shortfalls} - {*kept["symbol"]}:
        shortfalls[ticker] = f"no bar has complete features; {NEVER_READY}"
    rows, outcomes, end_at, keys = _assemble(kept, names, lengths, spec, market)
    has_past = np.asarray(~np.isnan(rows.climatology).any(axis=(1, 2)))
    if not has_past.any():
        raise NotEnoughHistory(
            f"no symbol has {spec.min_bars} bars with complete features; "
            + "; ".join(f"{s}: {why}" for s, why in list(shortfalls.items())[:5])
        )
    examples = Examples(**vars(rows), y=outcomes, end_at=end_at, weight=np.ones(len(rows)))
    examples = weighted(examples.take(has_past), spec.labels, market.as_of)
    keys = keys.filter(pl.Series(has_past))
    examples = replace(examples, sequences=all_sequences(spec, market, features, keys))
    return TrainingSet(
        examples.without_outcomes(), keys, examples.end_at, shortfalls, {},
        examples=examples, market=market, spec=spec, sha256=market.sha256(),
    )  # fmt: skip


def weighted(examples: Examples, labels: LabelSpec, until: datetime | None = None) -> Examples:
    """`examples` with the weights that `labels` tell, of what is known `until` then.

    By default that is when the newest was made. Outcomes that have not come count for nothing.
    """
    ends = np.where(np.isnan(examples.y), np.datetime64("NaT"), examples.end_at)
    newest_at: datetime = examples.as_of.max().astype("datetime64[us]").item()
    known_at = until or newest_at.replace(tzinfo=UTC)
    weight = sample_weights(examples.symbol, examples.as_of, ends, labels, known_at)
    return replace(examples, weight=weight)


def newest_dataset(
    spec: ExperimentSpec, market: Market, symbols: tuple[str, ...] = ()
) -> tuple[Dataset, pl.DataFrame]:
    """One row a symbol, its newest bar's, and the FEATURES they were made of.

    A symbol too young for some features is given NaN there and a shortfall; one without a
    volatility or a past is left out, with its shortfall.
    """
    names = feature_names(spec.features)
    features = newest(market.prices, names, market.facts)
    recent = newest_segment_bars(market.prices, SCALE_BARS)
    scales = recent.select("symbol", "ts", scale=volatility.scale().over("segment"))
    wanted = list(symbols or spec.symbols or market.tickers)
    lengths, odd = horizon_lengths(market, spec.labels.horizons)
    failures = {ticker: reason for ticker, reason in odd.items() if ticker in wanted}
    kept = _beside(features, scales, market.prices).filter(
        pl.col("symbol").is_in(wanted) & ~pl.col("symbol").is_in(list(odd))
    )
    shortfalls = find_shortfalls(market, spec.min_bars, wanted)
    rows, _, end_at, keys = _assemble(kept, names, lengths, spec, market)
    is_ready = ~np.isnan(rows.climatology).any(axis=(1, 2)) & ~np.isnan(rows.scale)
    for ticker in keys.filter(pl.Series(~is_ready))["symbol"]:
        failures[ticker] = (
            f"no forecast: volatility needs {volatility.SCALE_WARMUP_BARS} bars since the last gap "
            f"and every horizon {MIN_COUNT} past outcomes; {NEVER_READY}"
        )
    failures |= {t: why for t, why in shortfalls.items() if t not in {*keys["symbol"], *failures}}
    rows, keys = rows.take(is_ready), keys.filter(pl.Series(is_ready))
    dataset = Dataset(
        replace(rows, sequences=newest_sequences(spec, market, keys)),
        keys,
        end_at[is_ready],
        {ticker: why for ticker, why in shortfalls.items() if ticker not in failures},
        failures,
    )
    return dataset, features.join(dataset.keys.select("symbol"), on="symbol", how="semi")


def _beside(features: pl.DataFrame, scales: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    raw_close = (pl.col("close") / pl.col("factor")).alias("last_close")
    key = ["symbol", "ts"]
    return features.join(scales, on=key, how="left").join(
        prices.select(*key, raw_close, "close_at"), on=key, how="left"
    )


def _assemble(
    kept: pl.DataFrame,
    names: tuple[str, ...],
    lengths: NDArray[np.int64],
    spec: ExperimentSpec,
    market: Market,
) -> tuple[Rows, FloatArray, NDArray[np.datetime64], pl.DataFrame]:
    horizons = spec.labels.horizons
    tickers = market.tickers
    labels = compute_labels(spec.labels, market)
    shape = (len(kept), len(horizons))
    outcomes, past = np.full(shape, np.nan), np.full((*shape, N_LEVELS), np.nan)
    end_at = np.full(shape, np.datetime64("NaT"), "M8[us]")
    for column, horizon in enumerate(horizons):
        own = labels.filter(pl.col("horizon") == horizon)
        matched = kept.select("symbol", "ts", "as_of", horizon=pl.lit(horizon)).join(
            own, on=["symbol", "ts", "horizon"], how="left", maintain_order="left"
        )
        outcomes[:, column] = matched["value"].to_numpy()
        end_at[:, column] = instants(matched["end_at"])
        past[:, column] = climatology(own, matched.select("symbol", "horizon", "as_of"))
    rows = Rows(
        X=kept.select(names).to_numpy().astype(float),
        symbol=_codes(kept["symbol"], tickers),
        as_of=instants(kept["as_of"]),
        scale=kept["scale"].to_numpy(),
        climatology=past,
        feature_names=names,
        tickers=tickers,
        horizons=horizons,
        horizon_bars=lengths,
        history=_history(market.prices, kept),
    )
    return rows, outcomes, end_at, kept.select("symbol", "ts", "as_of", "last_close", "close_at")


def _history(prices: pl.DataFrame, kept: pl.DataFrame) -> History:
    bars = (
        prices.sort("segment", "ts")
        .with_row_index("at")
        .select(
            *("symbol", "ts", "at"),
            start=pl.col("at").first().over("segment"),
            value=volatility.log_return().over("segment"),
            variance=volatility.bar_variance().over("segment"),
        )
    )
    placed = kept.select("symbol", "ts").join(
        bars, on=["symbol", "ts"], how="left", maintain_order="left"
    )
    returns, variances = (bars[name].to_numpy().astype(float) for name in ("value", "variance"))
    start, at = (placed[name].cast(pl.Int64).to_numpy() for name in ("start", "at"))
    return History(returns, start, at, variances)


def _codes(symbols: pl.Series, tickers: tuple[str, ...]) -> NDArray[Any]:
    codes = {ticker: code for code, ticker in enumerate(tickers)}
    return symbols.replace_strict(codes, return_dtype=pl.Int32).to_numpy()
