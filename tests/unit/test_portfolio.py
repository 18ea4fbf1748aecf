"""Actions and position sizes from distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from candlecast.domain import distribution as dist
from candlecast.errors import BadFrame, InvalidSpec
from candlecast.portfolio import signals, sizing

finite = st.floats(-0.5, 0.5)
spreads = st.floats(1e-6, 2.0)


def probabilities(n_rows):
    raw = hnp.arrays(float, (n_rows, 3), elements=st.floats(0.01, 1.0))
    return raw.map(lambda values: values / values.sum(axis=1, keepdims=True))


def normal(mean, std):
    return mean + std * dist.SCORES


@given(probabilities(5), hnp.arrays(float, 5, elements=finite))
def test_buying_and_selling_are_mirror_images(p, mean):
    mirrored = signals.actions(p[:, ::-1], -mean)
    swap = {"buy": "sell", "hold": "hold", "sell": "buy"}
    assert [swap[a] for a in signals.actions(p, mean)] == list(mirrored)


@given(probabilities(5), hnp.arrays(float, 5, elements=finite))
def test_an_action_never_contradicts_the_expected_return(p, mean):
    chosen = signals.actions(p, mean)
    assert (mean[chosen == "buy"] > 0).all()
    assert (mean[chosen == "sell"] < 0).all()


@given(probabilities(5), hnp.arrays(float, 5, elements=finite))
def test_an_action_never_contradicts_the_label(p, mean):
    labels, _ = dist.label(p)
    chosen = signals.actions(p, mean)
    assert (labels[chosen == "buy"] == "Bullish").all()
    assert (labels[chosen == "sell"] == "Bearish").all()


@given(probabilities(4), hnp.arrays(float, 4, elements=finite), st.floats(0, 0.4))
def test_a_larger_edge_never_acts_more_often(p, mean, least_edge):
    acts = signals.actions(p, mean, least_edge=least_edge) != "hold"
    acts_at_more = signals.actions(p, mean, least_edge=least_edge + 0.1) != "hold"
    assert not (acts_at_more & ~acts).any()


def test_probabilities_near_a_third_hold():
    assert signals.action(np.array([0.32, 0.33, 0.35]), 0.001) == "hold"


def test_a_clear_bullish_distribution_buys_and_its_mirror_sells():
    quantiles = normal(0.03, 0.04)
    classes = dist.class_probabilities(quantiles, -0.02, 0.02)
    assert signals.action(classes, float(dist.mean(quantiles))) == "buy"
    assert signals.action(classes[::-1], -float(dist.mean(quantiles))) == "sell"


def test_a_missing_forecast_holds_and_takes_no_position():
    assert signals.action(np.full(3, np.nan), np.nan) == "hold"
    assert sizing.position_size(np.nan, 0.02) == 0
    assert sizing.position_size(0.01, np.nan) == 0


def test_one_action_of_many_rows_equals_each_row_alone():
    rng = np.random.default_rng(5)
    p, mean = rng.dirichlet(np.ones(3), 50), rng.normal(0, 0.02, 50)
    alone = [signals.action(row, m) for row, m in zip(p, mean, strict=True)]
    assert list(signals.actions(p, mean)) == alone
    assert {"buy", "hold", "sell"} == set(alone)


def test_wrong_shapes_and_edges_are_refused():
    with pytest.raises(BadFrame, match="Bearish, Neutral, Bullish"):
        signals.actions(np.ones((2, 4)), np.zeros(2))
    with pytest.raises(InvalidSpec, match="least_edge"):
        signals.actions(np.ones((2, 3)) / 3, np.zeros(2), least_edge=1.0)


@given(finite, spreads)
def test_a_position_is_odd_in_the_mean_and_within_the_cap(mean, std):
    size = float(sizing.position_size(mean, std))
    assert abs(size) <= sizing.LARGEST_SHARE
    assert size == -float(sizing.position_size(-mean, std))
    assert np.sign(size) == np.sign(mean) or size == 0


@given(st.floats(1e-4, 0.2), spreads, st.floats(1.01, 3))
def test_more_risk_for_the_same_return_is_never_a_larger_position(mean, std, factor):
    calm, wild = sizing.position_size(mean, np.array([std, std * factor]))
    assert wild <= calm


def test_below_the_cap_it_is_the_fraction_of_kelly():
    assert sizing.position_size(0.001, 0.1, fraction=0.5) == pytest.approx(0.5 * 0.001 / 0.1**2)


def test_kelly_share_maximises_the_growth_of_small_gaussian_bets():
    rng = np.random.default_rng(11)
    half = rng.normal(0.0004, 0.03, 200_000)
    returns = np.concatenate([half, 2 * 0.0004 - half])  # antithetic: the mean is exact
    shares = np.linspace(0, 1, 101)
    growth = [np.log1p(share * returns).mean() for share in shares]
    kelly = sizing.position_size(returns.mean(), returns.std(), fraction=1.0, largest_share=1.0)
    assert shares[int(np.argmax(growth))] == pytest.approx(float(kelly), abs=0.02)


def test_no_spread_takes_no_position_and_a_tiny_one_takes_the_cap():
    assert sizing.position_size(0.01, 0.0) == 0
    assert sizing.position_size(0.01, 1e-160) == sizing.LARGEST_SHARE


@pytest.mark.parametrize(("fraction", "largest_share"), [(0, 0.2), (1.5, 0.2), (0.5, 0), (0.5, 2)])
def test_shares_outside_the_unit_interval_are_refused(fraction, largest_share):
    with pytest.raises(InvalidSpec, match="fraction and largest_share"):
        sizing.position_size(0.01, 0.1, fraction=fraction, largest_share=largest_share)
