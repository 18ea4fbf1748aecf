"""Seeded markets with known volatility regimes and a known edge of zero.

1. A two-state Markov chain, one for the whole market, is calm or wild on each session.
2. The log return of a session is normal with mean zero and the standard deviation of the state,
   scaled for each symbol; one common factor correlates the symbols.
3. The return is split over the night and `N_STEPS` steps of the day, whose path gives open, high,
   low and close; all steps together have exactly the variance of step 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.distribution import FloatArray
from candlecast.domain.frames import UNSTAMPED
from candlecast.domain.market import Clock, Timeframe, trading_calendar
from candlecast.domain.sources import Fetched, Request
from candlecast.errors import InvalidSpec, NotFound
from candlecast.providers.rows import fetch_daily

SOURCE: Final = "synthetic"
FIRST_DAY: Final = np.datetime64("2000-01-03")
VOLATILITY: Final = {"random_walk": (0.012, 0.012), "regimes": (0.007, 0.021)}
"""Standard deviation of a session's log return while calm, while wild."""
SWITCH: Final = (0.01, 0.03)
"""Probability of leaving the calm state, the wild state, from one session to the next."""
CORRELATION: Final = 0.4
N_STEPS: Final = 24
NIGHT_SHARE: Final = 0.2
"""Share of a session's variance that falls between the last close and the open."""
START_PRICE: Final = 100.0
USUAL_VOLUME: Final = 1e6


@dataclass(frozen=True, eq=False)
class Market:
    """A simulated market, and the truth behind it.

    `bars` are UNSTAMPED; `is_wild` (n_sessions,) is the state each session was drawn in;
    `volatility` (n_symbols, 2) the standard deviation of a session's log return in both states.
    """

    bars: pl.DataFrame
    symbols: tuple[str, ...]
    is_wild: NDArray[np.bool_]
    volatility: FloatArray

    def true_quantiles(self, horizon_bars: int, levels: ArrayLike) -> FloatArray:
        """(n_sessions, n_symbols, n_levels) of the log return over the next `horizon_bars`.

        Conditional on the state of the session: nobody can know more. The return is a mixture of
        normals over the number of wild sessions to come; its distribution function is inverted
        by bisection.
        """
        score = np.ravel(np.asarray(levels, dtype=float))
        n_wild = np.arange(horizon_bars + 1)
        variance = self.volatility**2 @ np.stack([horizon_bars - n_wild, n_wild])
        by_state = [
            _mixture_quantiles(_wild_counts(horizon_bars, is_wild), np.sqrt(variance), score)
            for is_wild in (False, True)
        ]
        return np.asarray(np.stack(by_state)[self.is_wild.astype(int)])


def make_market(
    kind: str = "regimes",
    *,
    seed: int,
    n_symbols: int = 5,
    n_sessions: int = 2500,
    correlation: float = CORRELATION,
) -> Market:
    """The market of this `kind` (``random_walk`` or ``regimes``) and `seed`, always the same."""
    if kind not in VOLATILITY:
        raise NotFound.among("kind of market", kind, VOLATILITY)
    days = trading_calendar("XNYS").sessions
    days = days[days >= FIRST_DAY][:n_sessions]
    if n_symbols < 1 or n_sessions < 1 or len(days) < n_sessions or not 0 <= correlation < 1:
        raise InvalidSpec(
            f"a market has at least one symbol and 1 to {len(days)} sessions, and a correlation "
            "in [0, 1)"
        )
    generator = np.random.default_rng(seed)
    is_wild = _draw_states(generator, n_sessions)
    own = generator.uniform(0.7, 1.4, n_symbols)
    volatility = own[:, None] * np.asarray(VOLATILITY[kind])
    scale = volatility[:, is_wild.astype(int)]
    paths = _draw_paths(generator, scale, correlation)
    symbols = tuple(f"SYN{number:02d}" for number in range(n_symbols))
    volume = USUAL_VOLUME * (scale / volatility[:, :1]) * generator.lognormal(0, 0.3, scale.shape)
    return Market(_as_bars(symbols, days, paths, volume), symbols, is_wild, volatility)


@PROVIDERS.register(SOURCE)
class SyntheticProvider:
    """Daily bars of a simulated market on the sessions of XNYS from 2000 on.

    Parameters
    ----------
    kind : ``regimes`` (calm and wild times) or ``random_walk`` (constant volatility)
    seed : the same seed gives the same bars
    n_symbols, n_sessions : size of the market

    Notes
    -----
    Log returns have mean zero whatever is known before: no direction can be forecast, and of a
    random walk nothing but its volatility. `make_market` also returns the true distributions.

    Raises
    ------
    NotFound : unknown kind. InvalidSpec : a size that makes no sense, or not 1d.
    """

    delay_seconds = 0.0
    is_bulk = True
    is_simulated = True

    def __init__(
        self,
        kind: str = "regimes",
        *,
        seed: int = 7,
        n_symbols: int = 5,
        n_sessions: int = 2500,
    ) -> None:
        self.market = make_market(kind, seed=seed, n_symbols=n_symbols, n_sessions=n_sessions)

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        """Closed bars of the symbols (None: all)."""
        return fetch_daily(self.market.bars, request, timeframe, clock)


def _draw_states(generator: np.random.Generator, n_sessions: int) -> NDArray[np.bool_]:
    # Stays in the states alternate and are geometric; each is at least one session long.
    starts_wild = generator.random() < SWITCH[0] / sum(SWITCH)
    leaving = np.resize(SWITCH[::-1] if starts_wild else SWITCH, n_sessions)
    stays = generator.geometric(leaving)
    states = np.resize([starts_wild, not starts_wild], n_sessions)
    return np.repeat(states, stays)[:n_sessions]


def _draw_paths(
    generator: np.random.Generator, scale: FloatArray, correlation: float
) -> FloatArray:
    # (n_symbols, n_sessions, 1 + N_STEPS): log price after the night and after each step.
    n_symbols, n_sessions = scale.shape
    shape = (n_sessions, 1 + N_STEPS)
    common = generator.standard_normal((1, *shape))
    alone = generator.standard_normal((n_symbols, *shape))
    shocks = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * alone
    share = np.full(1 + N_STEPS, (1 - NIGHT_SHARE) / N_STEPS)
    share[0] = NIGHT_SHARE
    steps = scale[..., None] * np.sqrt(share) * shocks
    flat = np.cumsum(steps.reshape(n_symbols, -1), axis=1)
    return np.asarray(np.log(START_PRICE) + flat.reshape(steps.shape))


def _as_bars(
    symbols: tuple[str, ...], days: NDArray[np.datetime64], paths: FloatArray, volume: FloatArray
) -> pl.DataFrame:
    prices = np.exp(paths)
    values = {
        "open": prices[..., 0],
        "high": prices.max(axis=-1),
        "low": prices.min(axis=-1),
        "close": prices[..., -1],
        "volume": np.round(volume),
        "adj_close": prices[..., -1],
    }
    ts = pl.Series(np.tile(days.astype("datetime64[us]"), len(symbols)))
    frame = pl.DataFrame(
        {
            "symbol": np.repeat(np.array(symbols), len(days)),
            "ts": ts.dt.replace_time_zone("UTC"),
            **{name: value.ravel() for name, value in values.items()},
        }
    )
    return UNSTAMPED.conform(frame.with_columns(source=pl.lit(SOURCE)))


def _wild_counts(horizon_bars: int, is_wild: bool) -> FloatArray:
    # (horizon_bars + 1,): probabilities of that many wild sessions after one in this state.
    counts = np.zeros((2, horizon_bars + 1))
    counts[int(is_wild), 0] = 1.0
    for _ in range(horizon_bars):
        to_calm = counts[0] * (1 - SWITCH[0]) + counts[1] * SWITCH[1]
        to_wild = counts[0] * SWITCH[0] + counts[1] * (1 - SWITCH[1])
        counts = np.stack([to_calm, np.concatenate([[0.0], to_wild[:-1]])])
    return np.asarray(counts.sum(axis=0))


def _mixture_quantiles(weight: FloatArray, deviation: FloatArray, levels: FloatArray) -> FloatArray:
    # (n_symbols, n_levels) of the mixture with `weight` of the normals with these `deviation`s.
    score = ndtri(levels)
    ends = deviation.min(axis=1)[:, None] * score, deviation.max(axis=1)[:, None] * score
    low, high = np.minimum(*ends), np.maximum(*ends)
    for _ in range(60):
        middle = (low + high) / 2
        below = np.einsum("k,slk->sl", weight, ndtr(middle[..., None] / deviation[:, None, :]))
        low, high = np.where(below < levels, middle, low), np.where(below < levels, high, middle)
    return np.asarray((low + high) / 2)
