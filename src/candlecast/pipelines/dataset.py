"""Bars to the rows a model sees: features, scale, climatology and, for training, outcomes.

1. Read each bar's first version, known by `as_of`, and adjust it (`read_market`).
2. Compute features, the volatility scale and labels, all causal.
3. Keep the rows a model can use; a symbol with too little history is left out and named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain import volatility
from candlecast.domain.catalog import LABELS
from candlecast.domain.climatology import MIN_COUNT, climatology
from candlecast.domain.distribution import N_LEVELS, FloatArray
from candlecast.domain.examples import Examples, Rows
from candlecast.domain.market import Horizon, Timeframe, TradingCalendar, trading_calendar
from candlecast.domain.prices import make_prices, newest_segment_bars
from candlecast.domain.specs import ExperimentSpec, content_hash, to_mapping
from candlecast.errors import InvalidSpec, NotEnoughHistory, NotFound
from candlecast.features.compute import compute, newest, standard_set
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

NEVER_READY: Final = "bring more history, or drop it if its price hardly moves"
SESSIONS_DAILY: Final = 252
SESSIONS_INTRADAY: Final = 63
SCALE_BARS: Final = (
    volatility.LONG_RUN_BARS + 300
)  # after so many bars an EWMA has forgotten its start


@dataclass(frozen=True, eq=False)
class Market:
    """Adjusted prices of a universe as known at `as_of`, with each ticker's calendar."""

    timeframe: Timeframe
    as_of: datetime
    prices: pl.DataFrame
    calendars: dict[str, TradingCalendar]

    @property
    def tickers(self) -> tuple[str, ...]:
        """All symbols of the universe that have bars."""
        return tuple(self.prices["symbol"].unique().sort())

    def sha256(self) -> str:
        """Hash of all prices: the same data give the same hash, on every machine."""
        digest = hashlib.sha256(",".join(self.tickers).encode())
        codes = self.prices["symbol"].rle_id().to_numpy()
        digest.update(np.ascontiguousarray(codes).tobytes())
        for name in self.prices.columns[1:]:
            values = self.prices[name].to_physical().to_numpy()
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows for a model, and beside each row what a forecast of it needs.

    `keys` has one row for each of `rows`: symbol, ts, as_of, last_close (as the source gave it).
    `end_at` is (n_rows, n_horizons). `shortfalls` names the symbols with too little history.
    """

    rows: Rows
    keys: pl.DataFrame
    end_at: NDArray[np.datetime64]
    shortfalls: dict[str, str]


@dataclass(frozen=True, eq=False)
class TrainingSet(Dataset):
    """Examples, and the ids under which they can be built again."""

    examples: Examples
    market: Market
    spec: ExperimentSpec
    sha256: str

    @property
    def set_id(self) -> str:
        """Content hash of spec, as_of and prices."""
        return training_set_id(self.spec, self.market, self.sha256)


def training_set_id(spec: ExperimentSpec, market: Market, sha256: str) -> str:
    """What decides a training run: the spec, the as_of, the data and the version of the code."""
    return content_hash([to_mapping(spec), market.as_of.isoformat(), sha256, version("candlecast")])


def read_market(
    stores: Stores,
    timeframe: Timeframe,
    symbols: tuple[str, ...],
    as_of: datetime | None,
    *,
    is_newest: bool = False,
) -> Market:
    """The universe `symbols` (all when empty) known at `as_of` (by default all there is).

    Training reads each bar's first version, as it was known at its own time; with `is_newest`
    bars come in the version known at `as_of`, stamped as the first one was. The `as_of` of the
    result is when the last of these versions was known, so that it depends on the data alone.
    """
    known = {symbol.ticker: symbol for symbol in read_symbols(stores.database)}
    for ticker in symbols:
        if ticker not in known:
            raise NotFound.among("symbol", ticker, known)
    now = stores.clock.now()
    until = min(as_of or now, now)
    wanted = list(symbols) or None
    bars = stores.mirror.read(
        timeframe, symbols=wanted, as_of=until, is_first_version=not is_newest
    )
    if bars.is_empty():
        raise NotEnoughHistory(
            f"no {timeframe} bars are known at {until:%Y-%m-%d %H:%M}; "
            "run `candlecast ingest` first, or choose a later --as-of"
        )
    calendars = {
        ticker: trading_calendar(known[ticker].calendar) for ticker in bars["symbol"].unique()
    }
    newest_at = cast("datetime", bars["known_at"].max())
    if is_newest:
        first = stores.mirror.read(timeframe, symbols=wanted, as_of=until, is_first_version=True)
        bars = bars.with_columns(first["known_at"])
    prices = make_prices(bars, timeframe, calendars, is_first_version=not is_newest)
    return Market(timeframe, newest_at, prices, calendars)


def make_training_set(spec: ExperimentSpec, market: Market) -> TrainingSet:
    """Every row of the universe whose features and past are complete, with its outcomes."""
    shortfalls = find_shortfalls(market, spec.min_bars, market.tickers)
    names = spec.features.names or standard_set()
    features = compute(market.prices, names)
    scales = market.prices.select("symbol", "ts", scale=volatility.scale().over("segment"))
    is_usable = pl.all_horizontal(pl.col(*names, "scale").is_not_null())
    kept = (
        _beside(features, scales, market.prices)
        .filter(is_usable & ~pl.col("symbol").is_in(list(shortfalls)))
        .sort("as_of", "symbol")
    )
    for ticker in {*market.tickers} - {*shortfalls} - {*kept["symbol"]}:
        shortfalls[ticker] = f"no bar has complete features; {NEVER_READY}"
    rows, outcomes, end_at, keys = _assemble(kept, names, spec, market)
    has_past = np.asarray(~np.isnan(rows.climatology).any(axis=(1, 2)))
    if not has_past.any():
        raise NotEnoughHistory(
            f"no symbol has {spec.min_bars} bars with complete features; "
            + "; ".join(f"{s}: {why}" for s, why in list(shortfalls.items())[:5])
        )
    examples = Examples(**vars(rows), y=outcomes, end_at=end_at, weight=np.ones(len(rows)))
    examples = examples.take(has_past)
    keys = keys.filter(pl.Series(has_past))
    return TrainingSet(
        examples.without_outcomes(), keys, examples.end_at, shortfalls,
        examples=examples, market=market, spec=spec, sha256=market.sha256(),
    )  # fmt: skip


def newest_dataset(
    spec: ExperimentSpec, market: Market, symbols: tuple[str, ...] = ()
) -> tuple[Dataset, pl.DataFrame]:
    """One row a symbol, its newest bar's, and the FEATURES they were made of.

    A symbol too young for some features is given NaN there and a shortfall; one without a
    volatility or a past is left out, with its shortfall.
    """
    names = spec.features.names or standard_set()
    features = newest(market.prices, names)
    recent = newest_segment_bars(market.prices, SCALE_BARS)
    scales = recent.select("symbol", "ts", scale=volatility.scale().over("segment"))
    wanted = list(symbols or spec.symbols or market.tickers)
    kept = _beside(features, scales, market.prices).filter(pl.col("symbol").is_in(wanted))
    shortfalls = find_shortfalls(market, spec.min_bars, wanted)
    rows, _, end_at, keys = _assemble(kept, names, spec, market)
    is_ready = ~np.isnan(rows.climatology).any(axis=(1, 2)) & ~np.isnan(rows.scale)
    for ticker in keys.filter(pl.Series(~is_ready))["symbol"]:
        shortfalls[ticker] = (
            f"no forecast: volatility needs {volatility.SCALE_WARMUP_BARS} bars since the last gap "
            f"and every horizon {MIN_COUNT} past outcomes; {NEVER_READY}"
        )
    dataset = Dataset(
        rows.take(is_ready), keys.filter(pl.Series(is_ready)), end_at[is_ready], shortfalls
    )
    return dataset, features.join(dataset.keys.select("symbol"), on="symbol", how="semi")


def needed_bars(min_bars: int, timeframe: Timeframe, calendar: TradingCalendar) -> int:
    """How many bars a symbol needs to be trained on: `min_bars`, a year of daily bars or three
    months of finer ones, whichever is most.
    """
    sessions = SESSIONS_DAILY if timeframe.is_daily else SESSIONS_INTRADAY
    return max(min_bars, sessions * calendar.bars_per_session(timeframe))


def find_shortfalls(market: Market, min_bars: int, tickers: Collection[str]) -> dict[str, str]:
    """Those of `tickers` that have too few bars to be trained on, and what they lack."""
    counts = dict(market.prices.group_by("symbol").len().iter_rows())
    found = {}
    for ticker in sorted(tickers):
        if ticker not in counts:
            found[ticker] = f"no bar of it is known at {market.as_of:%Y-%m-%d %H:%M}"
            continue
        n, needed = (
            counts[ticker],
            needed_bars(min_bars, market.timeframe, market.calendars[ticker]),
        )
        if n < needed:
            found[ticker] = f"{n} of {needed} bars; it is not trained on, and its own past is short"
    return found


def _beside(features: pl.DataFrame, scales: pl.DataFrame, prices: pl.DataFrame) -> pl.DataFrame:
    raw_close = (pl.col("close") / pl.col("factor")).alias("last_close")
    key = ["symbol", "ts"]
    return features.join(scales, on=key, how="left").join(
        prices.select(*key, raw_close, "close_at"), on=key, how="left"
    )


def _assemble(
    kept: pl.DataFrame, names: tuple[str, ...], spec: ExperimentSpec, market: Market
) -> tuple[Rows, FloatArray, NDArray[np.datetime64], pl.DataFrame]:
    horizons = spec.labels.horizons
    tickers = market.tickers
    labels = LABELS.get(spec.labels.kind)(
        market.prices, timeframe=market.timeframe, horizons=horizons, calendars=market.calendars
    )
    shape = (len(kept), len(horizons))
    outcomes, past = np.full(shape, np.nan), np.full((*shape, N_LEVELS), np.nan)
    end_at, n_bars = np.full(shape, np.datetime64("NaT"), "M8[us]"), np.ones(shape, dtype=np.int64)
    for column, horizon in enumerate(horizons):
        own = labels.filter(pl.col("horizon") == horizon)
        matched = kept.select("symbol", "ts", "as_of", horizon=pl.lit(horizon)).join(
            own, on=["symbol", "ts", "horizon"], how="left", maintain_order="left"
        )
        outcomes[:, column] = matched["value"].to_numpy()
        end_at[:, column] = instants(matched["end_at"])
        n_bars[:, column] = matched["horizon_bars"].to_numpy()
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
        horizon_bars=one_length(n_bars, horizons),
    )
    return rows, outcomes, end_at, kept.select("symbol", "ts", "as_of", "last_close", "close_at")


def one_length(n_bars: NDArray[np.int64], horizons: tuple[str, ...]) -> NDArray[np.int64]:
    """(n_horizons,): the bars of each horizon, which must be the same for all symbols."""
    lengths = n_bars.max(axis=0) if len(n_bars) else np.ones(len(horizons), dtype=np.int64)
    if len(n_bars) and (n_bars != lengths).any():
        raise InvalidSpec(
            "these symbols trade on calendars that give a horizon different lengths; "
            "train stocks and always-open markets apart (--symbols)"
        )
    return lengths


def instants(series: pl.Series) -> NDArray[np.datetime64]:
    """A UTC series as datetime64[us]."""
    return series.dt.replace_time_zone(None).to_numpy().astype("datetime64[us]")


def _codes(symbols: pl.Series, tickers: tuple[str, ...]) -> NDArray[Any]:
    codes = {ticker: code for code, ticker in enumerate(tickers)}
    return symbols.replace_strict(codes, return_dtype=pl.Int32).to_numpy()


def horizon_objects(spec: ExperimentSpec) -> tuple[Horizon, ...]:
    """The horizons of `spec`."""
    return tuple(Horizon.parse(name) for name in spec.labels.horizons)
