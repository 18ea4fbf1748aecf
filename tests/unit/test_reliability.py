"""The reliability curve of P(up), and what the Brier score is made of."""

from __future__ import annotations

import numpy as np
import pytest

from candlecast import metrics
from candlecast.domain import distribution as dist
from candlecast.models.adaptive import adapted
from outcome_streams import forecasts, stream


def told(seed: int, n: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Honest probabilities, what came, and dates of ten rows each."""
    rng = np.random.default_rng(seed)
    probability = rng.uniform(0.3, 0.7, n)
    y = np.where(rng.random(n) < probability, 0.01, -0.01)
    return probability, y, np.arange(n) // 10


def test_the_curve_is_what_counting_by_hand_gives() -> None:
    probability, y, block = told(1, 500)
    probability, y = probability.round(1), y.copy()
    y[::9], probability[::11] = np.nan, np.nan
    curve = metrics.reliability(probability, y, block, n_bins=50)
    values = np.unique(probability[~np.isnan(probability)])
    assert len(curve.n) == len(values)
    for i, value in enumerate(values):
        own = (probability == value) & ~np.isnan(y)
        rises = y[own] > 0
        rate = rises.mean()
        squares = sum(float((rises - rate)[block[own] == b].sum()) ** 2 for b in set(block[own]))
        margin = metrics.Z_95 * squares**0.5 / own.sum()
        assert (curve.stated[i], curve.n[i]) == (pytest.approx(value), own.sum())
        assert curve.came[i] == pytest.approx(rate)
        assert curve.low[i] == pytest.approx(max(rate - margin, 0))
        assert curve.high[i] == pytest.approx(min(rate + margin, 1))


def test_the_parts_of_the_brier_score_add_up_to_it() -> None:
    probability, y, block = told(2, 600)
    probability = probability.round(1)
    curve = metrics.reliability(probability, y, block, n_bins=50)
    reliability, resolution, uncertainty = curve.brier_parts()
    whole = float(metrics.brier(probability, y).mean())
    assert reliability - resolution + uncertainty == pytest.approx(whole, abs=1e-12)
    assert uncertainty == pytest.approx((y > 0).mean() * (y <= 0).mean())


def test_honest_probabilities_lie_within_the_intervals_and_exaggerated_ones_do_not() -> None:
    kept = caught = 0
    for seed in range(20):
        probability, y, block = told(10 + seed)
        curve = metrics.reliability(probability, y, block)
        kept += int(((curve.low <= curve.stated) & (curve.stated <= curve.high)).sum())
        bold = metrics.reliability(0.5 + 2 * (probability - 0.5), y, block)
        caught += int((bold.stated[0] < bold.low[0]) & (bold.stated[-1] > bold.high[-1]))
        assert curve.brier_parts()[0] < bold.brier_parts()[0]
    assert kept / 200 == pytest.approx(0.95, abs=0.05)
    assert caught == 20


def test_rows_that_share_their_fate_widen_the_intervals() -> None:
    probability, y, _ = told(3, 1000)
    probability, y = np.repeat(probability, 5), np.repeat(y, 5)
    alone = metrics.reliability(probability, y, np.arange(5000))
    together = metrics.reliability(probability, y, np.repeat(np.arange(1000), 5))
    ratio = (together.high - together.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(np.sqrt(5), rel=1e-9)


def test_p_up_of_an_adapted_forecast_is_read_off_the_same_distribution() -> None:
    examples = stream(3, n_days=400, spread=np.repeat([1.0, 3.0], 200))
    shifted = forecasts(examples) + 0.1
    made = adapted(shifted, examples)
    up = dist.prob_up(made[:, 0])
    assert np.all(up > 0.5)
    late = up[-500:].mean()
    assert 0.5 < late < dist.prob_up(shifted[-500:, 0]).mean()  # wider bands, nearer to a coin


def test_nothing_known_gives_no_bins() -> None:
    nothing = np.full(3, np.nan)
    assert len(metrics.reliability(nothing, nothing, np.arange(3)).n) == 0
