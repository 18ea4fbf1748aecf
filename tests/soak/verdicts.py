"""How often does the report claim skill where there is none, and how often does it find it?

Whole pipelines on seeded markets, with the model's own parameters. On a random walk of constant
volatility nothing can be known but the drift and the volatility, which the reference learns too.
"""

import sys
import time
from collections import Counter

import pytest

from seeded_runs import Run, all_reported, verdicts

N_SEEDS = 100
N_REGIMES = 20
MARKETS = {
    "five symbols": {"n_symbols": 5, "n_sessions": 1500, "n_splits": 5},
    "one symbol": {"n_symbols": 1, "n_sessions": 2500, "n_splits": 3},
}


def counted(runs):
    """How often each verdict fell, overall and by horizon; written out with the time it took."""
    began = time.perf_counter()
    found = {}
    for _, report in all_reported(runs):
        for name, verdict in verdicts(report).items():
            found.setdefault(name, Counter())[verdict] += 1
    seconds = time.perf_counter() - began
    lines = [f"{runs[0]}: {len(runs)} seeds in {seconds:.0f} s"]
    lines += [f"  {name}: {dict(counter)}" for name, counter in found.items()]
    sys.stdout.write("\n".join(["", *lines, ""]))
    return found


@pytest.mark.parametrize("model", ["lightgbm", "har"])
@pytest.mark.parametrize("size", MARKETS)
def test_a_random_walk_is_found_to_have_no_skill_in_95_of_100_seeds(model, size):
    runs = [Run("random_walk", model, seed, **MARKETS[size]) for seed in range(N_SEEDS)]
    for name, counter in counted(runs).items():
        assert counter["no skill"] >= 95, name


@pytest.mark.parametrize("model", ["lightgbm", "har"])
def test_the_skill_in_the_volatility_of_a_market_with_regimes_is_found(model):
    runs = [Run("regimes", model, seed, n_sessions=2500) for seed in range(N_REGIMES)]
    found = counted(runs)
    assert found["1D"]["skill in the distribution"] == N_REGIMES
    assert found["overall"]["skill in the distribution"] >= 0.8 * N_REGIMES
