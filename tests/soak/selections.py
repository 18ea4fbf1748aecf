"""Feature selection over many seeds: noise is dropped in nine of ten, a signal always kept."""

from __future__ import annotations

from markets import make_examples
from selections import judged, with_noise

N_SEEDS = 40


def test_each_noise_feature_is_dropped_in_nine_seeds_of_ten_and_the_signal_kept() -> None:
    dropped: dict[str, int] = {}
    n_signals = 0
    for seed in range(N_SEEDS):
        made = make_examples(seed=seed, n_days=220, volatility_signal=0.5)
        found = judged(with_noise(made, 15, seed), seed)
        n_signals += "har_1" in found.kept
        for name in found.importances.keys() - {"har_1"}:
            dropped[name] = dropped.get(name, 0) + (name not in found.kept)
    assert n_signals == N_SEEDS
    assert min(dropped.values()) >= 0.9 * N_SEEDS


def test_of_pure_noise_nothing_at_all_is_kept_in_nine_seeds_of_ten() -> None:
    empty = [
        not judged(with_noise(make_examples(seed=s, n_days=150, volatility_signal=0.0), 15, s)).kept
        for s in range(N_SEEDS)
    ]
    assert sum(empty) >= 0.9 * N_SEEDS
