"""Bands that follow their outcomes: back after a jump, still where nothing changes, never ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast import metrics
from candlecast.domain import distribution as dist
from candlecast.domain.examples import Examples
from candlecast.errors import BadFrame
from candlecast.models.adaptive import BANDS, LOWER, UPPER, AdaptiveState, adapted, updated
from outcome_streams import forecasts, stream

BANDS_SHOWN = (0.5, 0.8, 0.9, 0.95)


def coverages(quantiles: np.ndarray, y: np.ndarray) -> np.ndarray:
    pits = metrics.pit(quantiles, y)
    return np.array([metrics.coverage(pits, band) for band in BANDS_SHOWN])


def test_coverage_is_back_within_200_steps_of_a_threefold_volatility() -> None:
    # Twice as many for the horizon of five bars, whose 400 outcomes are worth 80.
    for seed in range(2):
        examples = stream(seed, n_days=1000, spread=np.repeat([1.0, 3.0], [200, 800]))
        day = np.repeat(np.arange(1000), 10)
        fixed, following = forecasts(examples), adapted(forecasts(examples), examples)
        for h, (y, n_steps) in enumerate(zip(examples.y.T, (200, 400), strict=True)):
            late = day >= 200 + n_steps
            stays = coverages(fixed[late, h], y[late])[2]
            back = coverages(following[late, h], y[late])[2]
            assert stays < 0.5
            assert back == pytest.approx(0.9, abs=0.03)


def test_where_nothing_changes_it_costs_no_accuracy_and_coverage_stays() -> None:
    fixed, following, wrong = np.zeros(2), np.zeros(2), np.zeros((2, len(BANDS_SHOWN)))
    for seed in range(2):
        examples = stream(10 + seed, n_days=1200)
        made = adapted(forecasts(examples), examples)
        for h, y in enumerate(examples.y.T):
            fixed[h] += np.nansum(metrics.crps(forecasts(examples)[:, h], y))
            following[h] += np.nansum(metrics.crps(made[:, h], y))
            wrong[h] += (coverages(made[:, h], y) - BANDS_SHOWN) / 2
    assert np.all(following / fixed - 1 < 0.001)
    assert np.abs(wrong).max() < 0.01


def test_a_single_symbol_is_followed_in_smaller_steps() -> None:
    missed, state = np.ones(len(BANDS)), AdaptiveState()
    alone, many = state.after(missed, 1, 1), state.after(missed, 100, 1)
    weekly = state.after(missed, 100, 5)
    assert 0 < alone.fast < many.fast
    assert weekly.fast == pytest.approx(many.fast / np.sqrt(5))
    assert all(0 < a < m for a, m in zip(alone.slow, many.slow, strict=True))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 28))
def test_an_outcome_is_never_used_before_it_is_known(seed: int, cut: int) -> None:
    examples = stream(seed, n_days=30, n_symbols=3)
    instant = examples.as_of[0] + cut * np.timedelta64(1, "D")
    changed = np.where(examples.end_at <= instant, examples.y, 9.0)
    unknown = np.where(examples.end_at <= instant, examples.y, np.nan)
    made = adapted(forecasts(examples), examples)
    before = examples.as_of <= instant
    for other in (changed, unknown):
        assert np.array_equal(
            made[before], adapted(forecasts(examples), replace(examples, y=other))[before]
        )
    known = examples.take(before)
    assert np.array_equal(made[before], adapted(forecasts(known), known))


def test_what_is_stored_of_forecasts_leads_to_the_same_state_as_the_walk() -> None:
    examples = stream(5, n_days=300, spread=np.repeat([1.0, 2.0], 150))
    made = adapted(forecasts(examples), examples)
    rng = np.random.default_rng(0)
    for h in range(2):
        last = examples.as_of[-1]
        known = rng.permutation(np.flatnonzero(examples.end_at[:, h] <= last))
        pits = metrics.pit(made[known, h], examples.y[known, h])
        state = updated(
            AdaptiveState(), pits, examples.as_of[known], examples.end_at[known, h], (1, 5)[h]
        )
        today = examples.as_of == last
        expected = state.adapt(forecasts(examples)[today, h])
        assert made[today, h] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 30))
def test_what_ended_later_may_be_told_later(seed: int, cut: int) -> None:
    examples, rng = stream(seed, n_days=30, n_symbols=3), np.random.default_rng(seed)
    pits, end_at = rng.uniform(size=len(examples)), examples.end_at[:, 1]
    is_early = end_at <= examples.as_of[0] + cut * np.timedelta64(1, "D")
    told = AdaptiveState(0.1)
    for part in (is_early, ~is_early):
        told = updated(told, pits[part], examples.as_of[part], end_at[part], 5)
    assert told == updated(AdaptiveState(0.1), pits, examples.as_of, end_at, 5)


def naive(examples: Examples, horizon: int) -> np.ndarray:
    """Row by row, all that is known told again for each date: the definition, in loops."""
    made = np.zeros((len(examples), dist.N_LEVELS))
    for row, now in enumerate(examples.as_of):
        state = AdaptiveState()
        known = examples.end_at[:, horizon] <= now
        for end, asked in sorted(
            set(zip(examples.end_at[known, horizon], examples.as_of[known], strict=True))
        ):
            shares = []
            for i in np.flatnonzero((examples.end_at[:, horizon] == end) & known):
                if examples.as_of[i] == asked and not np.isnan(examples.y[i, horizon]):
                    y = examples.y[i, horizon]
                    shares.append(
                        [
                            y < made[i][a] or y > made[i][b]
                            for a, b in zip(LOWER, UPPER, strict=True)
                        ]
                    )
            if shares:
                bars = int(examples.horizon_bars[horizon])
                state = state.after(np.mean(shares, axis=0), len(shares), bars)
        made[row] = state.adapt(dist.SCORES[None])[0]
    return made


def test_the_walk_is_the_definition() -> None:
    examples = stream(8, n_days=25, n_symbols=2)
    y = examples.y.copy()
    y[::7] = np.nan  # a bar that never came
    examples = replace(examples, y=y)
    made = adapted(forecasts(examples), examples)
    for h in range(2):
        assert made[:, h] == pytest.approx(naive(examples, h), abs=1e-12)


def test_the_median_never_moves_and_quantiles_never_cross() -> None:
    state = AdaptiveState(-0.2, (1.5, -1.0, 0.5, 0.0, -1.5))
    quantiles = np.random.default_rng(1).standard_normal((50, 1)) + np.exp(dist.SCORES / 2)
    made = state.adapt(quantiles)
    assert np.all(np.diff(made, axis=-1) >= 0)
    calm = AdaptiveState(0.4).adapt(quantiles)
    assert calm[:, dist.MEDIAN] == pytest.approx(quantiles[:, dist.MEDIAN], abs=1e-12)
    assert AdaptiveState().adapt(quantiles) == pytest.approx(quantiles, abs=1e-12)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"fast": 0.0, "slow": [0.0]},
        {"fast": "x", "slow": [0.0] * 5},
        {"fast": float("nan"), "slow": [0.0] * 5},
        {"fast": 0.0, "slow": None},
    ],
)
def test_a_state_that_is_none_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(BadFrame):
        AdaptiveState.from_mapping(values)


def test_a_state_comes_back_as_it_was_written() -> None:
    state = AdaptiveState(0.1, (0.1, 0.2, 0.3, 0.4, 0.5))
    assert AdaptiveState.from_mapping(state.to_mapping()) == state
