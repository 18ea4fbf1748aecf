"""Direction is believed only where later dates prove it, however many exchanges share a date."""

from dataclasses import replace

import numpy as np
import pytest

from candlecast.models.evidence import proven_slope
from candlecast.models.network_proof import prior_belief, proven_belief
from markets import make_examples

EXAMPLES = make_examples(seed=3, n_days=400)
HOURS = replace(EXAMPLES, as_of=EXAMPLES.as_of + EXAMPLES.symbol * np.timedelta64(2, "h"))
"""The same rows, of exchanges that close one after the other."""


def shocks(seed, n_dates=250, n_symbols=12):
    """Guesses and outcomes that have nothing to do with each other, both alike within a date."""
    rng = np.random.default_rng(seed)
    guess, target = (
        (
            rng.standard_normal((n_dates, 1)) + 0.3 * rng.standard_normal((n_dates, n_symbols))
        ).ravel()
        for _ in range(2)
    )
    return guess, target, np.repeat(np.arange(n_dates), n_symbols)


def test_a_guess_that_is_noise_is_hardly_ever_believed():
    believed = [proven_slope(*shocks(seed), 1) > 0 for seed in range(400)]
    assert np.mean(believed) < 0.025


def test_a_guess_that_is_right_is_believed_by_its_slope_and_at_most_fully():
    guess, noise, date = shocks(1)
    assert proven_slope(guess, 0.5 * guess + noise, date, 1) == pytest.approx(0.5, abs=0.15)
    assert proven_slope(guess, 3.0 * guess + noise, date, 1) == 1.0
    assert proven_slope(guess, noise - guess, date, 1) == 0.0
    assert proven_slope(0 * guess, noise, date, 1) == 0.0


def test_a_network_is_believed_alike_whenever_the_exchanges_of_a_date_close():
    found = []
    for examples in (EXAMPLES, HOURS):
        location = 0.4 * np.nan_to_num(EXAMPLES.targets()) + shocks(2, 400, 6)[0].reshape(-1, 2)
        prior = prior_belief(examples)
        spread = np.repeat(prior.shape[None], len(examples), axis=0)
        found.append(proven_belief(prior, location, spread, examples).to_mapping())
    assert found[0] == found[1]
    assert max(found[0]["location_trust"]) > 0
