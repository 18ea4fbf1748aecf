"""GARCH against the arch package, and its closed forms against simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import t as student

from candlecast import metrics
from candlecast.domain import distribution as dist
from candlecast.domain.examples import Examples
from candlecast.domain.history import History
from candlecast.errors import InvalidSpec, NotEnoughHistory
from candlecast.models.garch import Garch
from candlecast.models.variance_recursion import (
    Garch11,
    backcast,
    fourth_moment,
    horizon_share,
    log_likelihood,
    next_variance,
    quantiles_of_freedom,
)
from markets import make_examples

TRUTH = Garch11(omega=0.03, alpha=0.08, beta=0.89, freedom=6.0)
UNIT = 0.012
"""About a stock's standard deviation of a day."""


def simulated(
    n_bars: int, seed: int, model: Garch11 = TRUTH, start: float | None = None, n_paths: int = 1
) -> np.ndarray:
    """(n_paths, n_bars) returns with a long-run variance of 1."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_t(model.freedom, (n_bars, n_paths))
    shocks *= np.sqrt((model.freedom - 2) / model.freedom)
    sigma2 = np.full(n_paths, model.variance if start is None else start)
    returns = np.empty((n_bars, n_paths))
    for bar, shock in enumerate(shocks):
        returns[bar] = np.sqrt(sigma2) * shock
        sigma2 = model.omega + model.alpha * returns[bar] ** 2 + model.beta * sigma2
    return returns.T


def examples_of(returns: np.ndarray) -> Examples:
    """One row a bar and symbol: `returns` (n_symbols, n_bars), and the next bar as outcome."""
    n_symbols, n_bars = returns.shape
    kept = np.arange(n_bars - 1)
    when = np.datetime64("2010-01-01T21:00", "us") + np.arange(n_bars) * np.timedelta64(1, "D")
    symbol = np.tile(np.arange(n_symbols), len(kept)).astype(np.int32)
    at = np.repeat(kept, n_symbols) + symbol * n_bars
    return Examples(
        X=np.zeros((len(symbol), 1)),
        symbol=symbol,
        as_of=np.repeat(when[kept], n_symbols),
        scale=np.ones(len(symbol)),
        climatology=np.tile(dist.SCORES, (len(symbol), 1, 1)),
        feature_names=("nothing",),
        tickers=tuple(f"S{number}" for number in range(n_symbols)),
        horizons=("1D",),
        horizon_bars=np.array([1]),
        y=returns.reshape(-1)[at + 1][:, None],
        end_at=np.repeat(when[kept + 1], n_symbols)[:, None],
        weight=np.ones(len(symbol)),
        history=History(returns.reshape(-1), symbol * n_bars, at),
    )


@pytest.mark.parametrize("seed", range(3))
def test_parameters_and_likelihood_are_those_of_the_arch_package(seed: int) -> None:
    from arch import arch_model

    returns = simulated(3000, seed)[0]
    theirs = arch_model(returns, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
    found = theirs.fit(disp="off")
    model = Garch(shrinkage=0).fit(examples_of(np.append(returns, 0.0)[None, :]))
    ours = model.parameters("S0")
    unit = float((returns**2).mean())
    numbers = np.array([ours.omega * unit, ours.alpha, ours.beta, ours.freedom])
    np.testing.assert_allclose(numbers, found.params.to_numpy(), rtol=0.03, atol=2e-3)
    assert theirs.fix(numbers).loglikelihood > found.loglikelihood - 0.01


def test_the_likelihood_and_the_first_variance_are_those_of_the_arch_package() -> None:
    from arch import arch_model

    returns = simulated(500, 4)[0]
    theirs = arch_model(returns, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
    free = np.array([0.1, 3.0, -2.2, 1.2])
    numbers = list(Garch11.from_free(free))
    value, _ = log_likelihood(free, returns**2)
    assert value == pytest.approx(theirs.fix(numbers).loglikelihood, rel=1e-10)
    assert backcast(returns**2) == pytest.approx(theirs.volatility.backcast(returns), rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_is_that_of_finite_differences(seed: int) -> None:
    squared = simulated(400, seed)[0] ** 2
    free = np.array([0.0, 3.0, -2.0, 1.5]) + np.random.default_rng(seed).normal(0, 0.5, 4)
    numeric = approx_fprime(free, lambda x: log_likelihood(x, squared)[0], 1e-6)
    np.testing.assert_allclose(log_likelihood(free, squared)[1], numeric, rtol=1e-3, atol=2e-3)


def test_the_variance_of_the_next_bar_is_the_recursion_written_as_a_loop() -> None:
    squared, long_run = simulated(60, 1)[0] ** 2, 1.7
    sigma2, expected = long_run, []
    for value in squared:
        omega = (1 - TRUTH.persistence) * long_run
        sigma2 = omega + TRUTH.alpha * value + TRUTH.beta * sigma2
        expected.append(sigma2)
    found = next_variance(TRUTH, squared, np.full(60, long_run))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_variance_and_fourth_moment_of_a_horizon_are_those_of_simulated_paths() -> None:
    # Of independent innovations with a finite eighth moment, so that averages settle.
    model = Garch11(omega=0.04, alpha=0.06, beta=0.90, freedom=12.0)
    start, n_bars = 2.5, 10
    sums = simulated(n_bars, 3, model, start, n_paths=400_000).sum(axis=1)
    variance = n_bars + (start - 1) * horizon_share(np.array(model.persistence), n_bars)
    polynomial = fourth_moment(*(np.array(value) for value in model[1:]), n_bars)
    assert (sums**2).mean() == pytest.approx(float(variance), rel=0.01)
    assert (sums**4).mean() == pytest.approx(polynomial @ [1, start, start**2], rel=0.03)


def test_of_one_bar_the_kurtosis_is_that_of_the_innovation() -> None:
    polynomial = fourth_moment(np.array(0.1), np.array(0.8), np.array(10.0), 1)
    np.testing.assert_allclose(polynomial, [0, 0, 4.0], atol=1e-12)


@pytest.mark.parametrize("freedom", [2.5, 3.0, 4.7, 8.0, 30.0])
def test_tabled_quantiles_are_those_of_the_student_t(freedom: float) -> None:
    exact = student.ppf(dist.LEVELS, freedom) * np.sqrt((freedom - 2) / freedom)
    np.testing.assert_allclose(quantiles_of_freedom(np.array(freedom)), exact, rtol=2e-3, atol=1e-9)


def test_forecasts_of_a_garch_market_are_calibrated_and_better_than_its_past() -> None:
    returns = simulated(2500, 5, n_paths=4) * UNIT
    examples = examples_of(returns)
    cut = examples.as_of[len(examples) // 2]
    model = Garch().fit(examples.known_by(cut))
    later = examples.take(examples.as_of > cut)
    quantiles, y = model.predict(later.without_outcomes())[:, 0], later.y[:, 0]
    for level in (0.5, 0.8, 0.95):
        assert metrics.coverage(metrics.pit(quantiles, y), level) == pytest.approx(level, abs=0.02)
    past = np.quantile(examples.y[examples.as_of <= cut], dist.LEVELS)
    climatology = np.broadcast_to(past, quantiles.shape)
    assert metrics.crps(quantiles, y).mean() < 0.985 * metrics.crps(climatology, y).mean()


def test_a_short_symbol_is_held_to_all_symbols_and_a_new_one_gets_their_parameters() -> None:
    returns = simulated(1500, 6, n_paths=5) * UNIT
    examples = examples_of(returns)
    is_short = (examples.symbol == 4) & (examples.as_of > examples.as_of[80 * 5])
    model = Garch().fit(examples.take((examples.symbol != 4) | ~is_short))
    pooled, short = model.parameters("unheard of"), model.parameters("S4")
    assert pooled.persistence == pytest.approx(TRUTH.persistence, abs=0.03)
    assert abs(short.persistence - pooled.persistence) < 0.05
    own = Garch(shrinkage=0).fit(examples.take((examples.symbol == 4) & ~is_short))
    firmly = abs(short.freedom - pooled.freedom)
    assert firmly < abs(own.parameters("S4").freedom - pooled.freedom)


def test_a_wrong_split_does_not_stay_in_the_forecasts() -> None:
    sound = simulated(1500, 3)
    broken = sound.copy()
    broken[0, 700] = 120 * sound.std()
    rows = [examples_of(returns) for returns in (sound, broken)]
    plain, odd = (Garch().fit(known).predict(known)[-1, 0] for known in rows)
    np.testing.assert_allclose(odd, plain, rtol=0.15, atol=0.03)


def test_rows_without_a_history_are_refused_and_so_are_too_few_returns() -> None:
    examples = make_examples(seed=1)
    bare = replace(examples, history=None)
    with pytest.raises(InvalidSpec, match="carry none"):
        Garch().fit(bare)
    with pytest.raises(InvalidSpec, match="carry none"):
        Garch().fit(examples).predict(bare)
    with pytest.raises(NotEnoughHistory, match="60 returns"):
        Garch().fit(examples.take(np.arange(12)))
    with pytest.raises(InvalidSpec, match="at least 0"):
        Garch(shrinkage=-1.0)


def test_a_price_that_never_moved_gets_a_forecast_of_no_width() -> None:
    examples = examples_of(np.vstack([simulated(300, 7)[0] * UNIT, np.zeros(300)]))
    quantiles = Garch().fit(examples).predict(examples.without_outcomes())
    assert np.isfinite(quantiles).all()
    still = quantiles[examples.symbol == 1]
    assert np.abs(still).max() < 1e-100
