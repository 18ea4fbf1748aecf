"""How often does the report claim skill where there is none, and how often does it find it?

Whole evaluations of seeded markets for every family of the catalogue (one of them: `-k garch`),
with the model's own parameters. On a random walk of constant volatility nothing can be known but
the drift and the volatility, which the reference learns too. In a market with regimes the size of
moves is told by those before; in one with momentum so is the direction. CANDLECAST_SOAK_PROCESSES
says how many markets are walked through at once, 2 by default.
"""

import os
import sys
import time
from collections import Counter

import pytest

from candlecast.domain.catalog import MODELS
from seeded_runs import BLIND_TO_DIRECTION, BLIND_TO_VOLATILITY, NETWORKS, Run, all_judged

N_PROCESSES = int(os.environ.get("CANDLECAST_SOAK_PROCESSES", "2"))
N_SEEDS, N_NETWORK_SEEDS, N_PLANTED = 100, 20, 10
FIVE_SYMBOLS = {"n_symbols": 5, "n_sessions": 1000, "n_splits": 3}
ONE_SYMBOL = {"n_symbols": 1, "n_sessions": 2500, "n_splits": 3}
NO_SKILL = "no skill"


def counted(kind, runs):
    """How often each verdict fell, overall and by horizon; written out with the time it took."""
    began = time.perf_counter()
    found = {}
    for verdicts in all_judged(runs, kind, N_PROCESSES):
        for name, verdict in verdicts.items():
            found.setdefault(name, Counter())[verdict] += 1
    seconds = time.perf_counter() - began
    lines = [f"{kind} on {runs[0]}: {len(runs)} seeds in {seconds:.0f} s"]
    lines += [f"  {name}: {dict(counter)}" for name, counter in found.items()]
    sys.stdout.write("\n".join(["", *lines, ""]))
    sys.stdout.flush()
    return found


def check_no_skill(kind, market):
    """At most 5 of 100 markets, and one of twenty for a network, are found to be skilled."""
    n_seeds = N_NETWORK_SEEDS if kind in NETWORKS else N_SEEDS
    found = counted(kind, [Run("random_walk", seed, **market) for seed in range(n_seeds)])
    for name, counter in found.items():
        assert counter[NO_SKILL] >= 0.95 * n_seeds, name


@pytest.mark.parametrize("kind", MODELS.names())
def test_a_random_walk_is_found_to_have_no_skill_in_95_of_100_seeds(kind):
    check_no_skill(kind, FIVE_SYMBOLS)


@pytest.mark.parametrize("kind", ["har", "lightgbm"])
def test_so_is_one_that_walks_alone(kind):
    check_no_skill(kind, ONE_SYMBOL)


@pytest.mark.parametrize("kind", [k for k in MODELS.names() if k not in BLIND_TO_VOLATILITY])
def test_the_skill_in_the_volatility_of_a_market_with_regimes_is_found(kind):
    runs = [Run("regimes", seed, n_sessions=2500) for seed in range(N_PLANTED)]
    found = counted(kind, runs)["1D"]
    assert sum(n for verdict, n in found.items() if "distribution" in verdict) == N_PLANTED
    assert sum(n for verdict, n in found.items() if "direction" in verdict) <= 1


@pytest.mark.parametrize("kind", [k for k in MODELS.names() if k not in BLIND_TO_DIRECTION])
def test_a_direction_that_the_last_return_tells_is_found(kind):
    runs = [Run("momentum", seed) for seed in range(N_PLANTED)]
    found = counted(kind, runs)["1D"]
    assert sum(n for verdict, n in found.items() if "direction" in verdict) == N_PLANTED


@pytest.mark.parametrize("kind", sorted({*BLIND_TO_DIRECTION, *BLIND_TO_VOLATILITY}))
def test_what_looks_at_no_feature_is_not_said_to_know_the_direction(kind):
    found = counted(kind, [Run("momentum", seed) for seed in range(N_PLANTED)])
    for name, counter in found.items():
        assert sum(n for verdict, n in counter.items() if "direction" in verdict) <= 1, name
