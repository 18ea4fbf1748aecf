"""Stored forecasts of a universe to who will rank where, and to what a portfolio may lose.

1. The newest forecast of each symbol by one model, at one horizon, made by `as_of`.
2. The correlation of their standardised residuals, from bars known by then.
3. Scenarios that keep each forecast as it stands; ranks and portfolios are counted in them.

Nothing is stored: the same forecasts and bars give the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from candlecast.domain import distribution as dist
from candlecast.domain import volatility
from candlecast.domain.described import content_hash
from candlecast.domain.distribution import FloatArray
from candlecast.domain.frames import QUANTILES
from candlecast.domain.market import Horizon, Timeframe
from candlecast.domain.prices import newest_segment_bars
from candlecast.domain.ranks import expected_rank
from candlecast.errors import InvalidSpec, NotEnoughHistory, NotFound
from candlecast.models import joint
from candlecast.pipelines.answer import DISCLAIMER, TAIL
from candlecast.pipelines.dataset import SCALE_BARS
from candlecast.pipelines.forecast import chosen_model
from candlecast.pipelines.universe import read_market
from candlecast.store import ledger
from candlecast.store.origins import read_simulated
from candlecast.store.registry import ModelVersion
from candlecast.store.stores import Stores
from candlecast.store.symbols import read_symbols

CORRELATION_BARS: Final = 504
HALF_LIFE_BARS: Final = 252.0
OVERLAP_BARS: Final = 5
"""Decision 32 says on what these were chosen."""
MIN_SYMBOLS: Final = 2
MAX_SYMBOLS: Final = 1000
MOST_OUTCOMES: Final = 4_000_000
"""Symbols times scenarios of one ranking."""
MAX_WEIGHT: Final = 10.0
LEAST_AGE: Final = timedelta(days=1)
ORIGINS: Final[tuple[ledger.Origin, ...]] = ("live", "simulated")
READ: Final = ("symbol", "as_of", "end_at", *QUANTILES)


@dataclass(frozen=True)
class RankQuery:
    """Whose ranks: `symbols` (all that are forecast when empty) at one `horizon`.

    `version` is a model version (None: the champion of `timeframe`); `weights` are a portfolio's
    shares of the capital by symbol, negative for what is sold short, the rest being cash.

    Ranks hang on small differences of expected returns, of which a forecast knows next to nothing:
    every symbol counts as equally likely to rise and to fall, unless `has_drift` asks for the
    location that the model forecast. Portfolios always keep it.
    """

    symbols: tuple[str, ...] = ()
    horizon: str = "1M"
    weights: Mapping[str, float] = field(default_factory=dict)
    timeframe: str = "1d"
    version: str | None = None
    as_of: datetime | None = None
    has_drift: bool = False


def rank(stores: Stores, query: RankQuery) -> dict[str, Any]:
    """The probability of each fifth of the ranks, by symbol, and the portfolio's distribution.

    Raises
    ------
    NotFound : an unknown symbol, horizon or version, or nothing is forecast yet.
    NotEnoughHistory : fewer than two symbols have a forecast that still stands.
    InvalidSpec : a weight is no share, or of a symbol that is not ranked.
    """
    version = chosen_model(stores, Timeframe.parse(query.timeframe), query.version)
    _check_weights(query.weights)
    rows, left_out = _standing(_read(stores, query, version))
    left_out |= _unforecast(query.symbols, rows, left_out)
    if len(rows) < MIN_SYMBOLS:
        raise NotEnoughHistory(_too_few(rows, left_out))
    tickers: list[str] = rows["symbol"].to_list()
    weights = _weights(query.weights, tickers)
    as_of: datetime = rows["as_of"].max()  # type: ignore[assignment]
    quantiles = rows.select(QUANTILES).to_numpy().astype(float)
    correlation = joint.correlation(
        read_residuals(stores, version.timeframe, tickers, as_of),
        half_life_bars=HALF_LIFE_BARS,
        overlap_bars=OVERLAP_BARS,
    )
    horizon = Horizon.parse(query.horizon).name
    seed = content_hash([version.version, horizon, as_of.isoformat(), tickers])
    outcomes = joint.scenarios(
        quantiles, correlation, n_scenarios=n_scenarios(len(tickers)), seed=int(seed, 16)
    )
    compared = outcomes if query.has_drift else outcomes - quantiles[:, dist.MEDIAN]
    return {
        "as_of": _iso(as_of),
        "horizon": horizon,
        "timeframe": version.timeframe.name,
        "model_version": version.version,
        "is_in_sample": as_of < version.training_until,
        "has_drift": query.has_drift,
        "n_scenarios": len(outcomes),
        "ranks": _ranks(rows, joint.rank_probabilities(compared)),
        "portfolio": _portfolio(outcomes, weights, tickers) if query.weights else None,
        "left_out": dict(sorted(left_out.items())),
        "simulated": sorted(read_simulated(stores.database, version.timeframe, tickers)),
        "disclaimer": DISCLAIMER,
    }


def n_scenarios(n_symbols: int) -> int:
    """How many scenarios of so many symbols are drawn: a power of two, 16,384 at most."""
    most = MOST_OUTCOMES // n_symbols
    return min(joint.N_SCENARIOS, 1 << (most.bit_length() - 1))


def read_residuals(
    stores: Stores, timeframe: Timeframe, tickers: list[str], as_of: datetime
) -> FloatArray:
    """(n_bars, n_symbols): the newest of `make_residuals` among what is known at `as_of`."""
    market = read_market(stores, timeframe, tuple(tickers), as_of, is_newest=True)
    recent = newest_segment_bars(market.prices, CORRELATION_BARS + SCALE_BARS)
    return make_residuals(recent, tickers)[1][-CORRELATION_BARS:]


def make_residuals(
    prices: pl.DataFrame, tickers: list[str]
) -> tuple[NDArray[np.datetime64], FloatArray]:
    """The opens of all bars of PRICES, (n_bars,), and (n_bars, n_symbols): each return over the
    volatility that was forecast for it a bar before; NaN where a symbol has none.
    """
    residual = (volatility.log_return() / volatility.scale().shift()).over("segment")
    return by_bar(prices.select("symbol", "ts", residual=residual), tickers)


def by_bar(values: pl.DataFrame, tickers: list[str]) -> tuple[NDArray[np.datetime64], FloatArray]:
    """The instants of `values` (symbol, ts, a number), and (n_instants, n_symbols); NaN: none."""
    instants, row = np.unique(values["ts"].to_numpy(), return_inverse=True)
    codes = {ticker: code for code, ticker in enumerate(tickers)}
    column = values["symbol"].replace_strict(codes, return_dtype=pl.Int64).to_numpy()
    table = np.full((len(instants), len(tickers)), np.nan)
    table[row, column] = values.to_series(2).to_numpy()
    return instants, table


def _read(stores: Stores, query: RankQuery, version: ModelVersion) -> pl.DataFrame:
    # Each symbol's newest forecast that was made of what was known by as_of.
    known = {symbol.ticker for symbol in read_symbols(stores.database)}
    for ticker in query.symbols:
        if ticker not in known:
            raise NotFound.among("symbol", ticker, known)
    if max(len(query.symbols), len(query.weights)) > MAX_SYMBOLS:
        raise InvalidSpec(f"at most {MAX_SYMBOLS} symbols are ranked at once; name fewer")
    horizon = Horizon.parse(query.horizon).name
    if horizon not in version.horizons:
        raise NotFound.among(f"horizon of model {version.version}", horizon, version.horizons)
    rows = ledger.read_forecasts(
        stores.database,
        version.timeframe,
        symbols=list(query.symbols) or None,
        horizon=horizon,
        end=query.as_of,
        origins=ORIGINS,
        model_version=version.version,
        columns=READ,
    )
    until = min(query.as_of or stores.clock.now(), stores.clock.now())
    made = rows.filter(pl.col("as_of") <= until)
    if made.is_empty():
        at = f" --as-of {query.as_of:%Y-%m-%dT%H:%M}" if query.as_of else ""
        raise NotFound(
            f"model {version.version} has made no forecast of them known by "
            f"{until:%Y-%m-%d %H:%M}; run `candlecast forecast --model {version.version}{at}` first"
        )
    return made.unique("symbol", keep="last", maintain_order=True).sort("symbol")


def _standing(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
    # A forecast that is over, or much older than the newest one, is about another time.
    newest: datetime = rows["as_of"].max()  # type: ignore[assignment]
    most = pl.max_horizontal((pl.col("end_at") - pl.col("as_of")) / 4, pl.lit(LEAST_AGE))
    stands = (pl.col("end_at") > newest) & (newest - pl.col("as_of") <= most)
    left_out = {
        row["symbol"]: f"its newest forecast is of {row['as_of']:%Y-%m-%d %H:%M}, too old beside "
        f"others of {newest:%Y-%m-%d %H:%M}; ingest its bars and run `candlecast forecast`"
        for row in rows.filter(~stands).iter_rows(named=True)
    }
    kept = rows.filter(stands)
    if len(kept) > MAX_SYMBOLS:
        raise InvalidSpec(
            f"{len(kept)} symbols are forecast, and at most {MAX_SYMBOLS} are ranked at once; "
            "name those to rank with --symbols"
        )
    return kept, left_out


def _unforecast(
    asked: tuple[str, ...], rows: pl.DataFrame, left_out: Mapping[str, str]
) -> dict[str, str]:
    known = {*rows["symbol"], *left_out}
    reason = "this model has made no forecast of it; `candlecast forecast` says why"
    return {ticker: reason for ticker in asked if ticker not in known}


def _too_few(rows: pl.DataFrame, left_out: Mapping[str, str]) -> str:
    reasons = "; ".join(f"{ticker}: {why}" for ticker, why in list(left_out.items())[:5])
    return (
        f"ranks need at least {MIN_SYMBOLS} symbols with a forecast, and there are {len(rows)}"
        + (f" ({reasons})" if reasons else "; name more of them or run `candlecast forecast`")
    )


def _check_weights(weights: Mapping[str, float]) -> None:
    for ticker, weight in weights.items():
        if not abs(weight) <= MAX_WEIGHT:
            raise InvalidSpec(
                f"the weight of {ticker} is {weight}; give a share of the capital within "
                f"±{MAX_WEIGHT:g}"
            )


def _weights(weights: Mapping[str, float], tickers: list[str]) -> FloatArray:
    for ticker in weights:
        if ticker not in tickers:
            raise InvalidSpec(
                f"{ticker} has a weight and is not among the {len(tickers)} symbols ranked; "
                "name it among the symbols, and see that it is forecast"
            )
    return np.array([weights.get(ticker, 0.0) for ticker in tickers])


def _ranks(rows: pl.DataFrame, probabilities: FloatArray) -> list[dict[str, Any]]:
    parts = zip(
        rows.select("symbol", "as_of", "end_at").iter_rows(),
        probabilities,
        expected_rank(probabilities),
        strict=True,
    )
    return [
        {
            "symbol": symbol,
            "as_of": _iso(as_of),
            "end_at": _iso(end_at),
            "probabilities": [float(p) for p in own],
            "expected_rank": float(expected),
        }
        for (symbol, as_of, end_at), own, expected in parts
    ]


def _portfolio(outcomes: FloatArray, weights: FloatArray, tickers: list[str]) -> dict[str, Any]:
    quantiles = joint.portfolio_quantiles(outcomes, weights)
    return {
        "weights": {t: float(w) for t, w in zip(tickers, weights, strict=True) if w},
        "quantiles": dict(zip(QUANTILES, map(float, quantiles), strict=True)),
        "mean": float(dist.mean(quantiles)),
        "std": float(dist.std(quantiles)),
        "prob_up": float(dist.prob_up(quantiles)),
        "value_at_risk_95": float(dist.value_at_risk(quantiles, TAIL)),
        "expected_shortfall_95": float(dist.expected_shortfall(quantiles, TAIL)),
    }


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
