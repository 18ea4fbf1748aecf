"""The contract of every provider, and the truth behind the simulated markets."""

import inspect
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.distribution import LEVELS
from candlecast.domain.frames import UNSTAMPED
from candlecast.domain.market import FixedClock, Symbol, Timeframe, trading_calendar
from candlecast.domain.sources import Request
from candlecast.errors import InvalidSpec, NotFound
from candlecast.pipelines.facts import KINDS
from candlecast.providers import sample
from candlecast.providers.synthetic import SWITCH, VOLATILITY, make_market

DAILY = Timeframe.parse("1d")
LATE = FixedClock(datetime(2030, 1, 1, tzinfo=UTC))


def asked(*tickers):
    return Request(tuple(map(Symbol, tickers)))


@pytest.fixture(params=["files", "sample", "synthetic"])
def provider(request, tmp_path):
    if request.param != "files":
        return PROVIDERS.get(request.param)()
    rows = PROVIDERS.get("sample")().fetch_bars(asked("AAPL", "FB"), DAILY, LATE).bars
    rows.drop("source", "vwap", "trade_count").write_parquet(tmp_path / "bars.parquet")
    return PROVIDERS.get("files")(tmp_path)


def test_every_provider_offers_something_and_says_how_late_it_is():
    offers = {f"fetch_{what}" for what in ("bars", *(method[6:] for method, _ in KINDS.values()))}
    for name in PROVIDERS.names():
        factory = PROVIDERS.get(name)
        assert any(hasattr(factory, method) for method in (*offers, "open_feed")), name
        told = inspect.signature(factory).parameters.get("delay_seconds")
        delay = told.default if told else factory.delay_seconds
        assert delay >= 0, name


def test_bars_are_unstamped_named_after_their_source_and_the_same_each_time(provider):
    fetched = provider.fetch_bars(Request(), DAILY, LATE)
    UNSTAMPED.check(fetched.bars)
    assert len(fetched.bars) > 3000
    assert fetched.bars["source"].unique().to_list()[0] in PROVIDERS.names()
    assert not fetched.refusals
    assert not fetched.failures
    assert fetched.bars.equals(provider.fetch_bars(Request(), DAILY, LATE).bars)


def test_only_the_asked_symbols_come_and_an_unknown_one_fails_alone(provider):
    everything = provider.fetch_bars(Request(), DAILY, LATE).bars
    name = everything["symbol"][0]
    fetched = provider.fetch_bars(asked(name, f"{name}X"), DAILY, LATE)
    assert fetched.bars.equals(everything.filter(pl.col("symbol") == name))
    assert set(fetched.failures) == {f"{name}X"}
    assert f"did you mean {name}" in fetched.failures[f"{name}X"]


def test_a_bar_that_has_not_ended_by_the_clock_is_left_out(provider):
    everything = provider.fetch_bars(Request(), DAILY, LATE).bars
    last = everything["ts"].max()
    calendar = trading_calendar("XNYS")
    close = calendar.close_at(np.array([last.replace(tzinfo=None)], "datetime64[us]"), DAILY)[0]
    closing = close.astype(datetime).replace(tzinfo=UTC)
    just_before = FixedClock(closing - timedelta(seconds=1))
    assert provider.fetch_bars(Request(), DAILY, FixedClock(closing)).bars.equals(everything)
    earlier = provider.fetch_bars(Request(), DAILY, just_before).bars
    assert earlier.equals(everything.filter(pl.col("ts") < last))


def test_the_sample_is_complete_and_ends_when_it_says():
    bars = PROVIDERS.get("sample")().fetch_bars(Request(), DAILY, FixedClock(sample.ENDS_AT)).bars
    counts = dict(bars.group_by("symbol").len().iter_rows())
    assert counts == {"AAPL": 3270, "FB": 196, "GOOG": 2148, "IBM": 3270, "MSFT": 3270}
    assert bars["ts"].min() == datetime(2000, 3, 1, tzinfo=UTC)
    assert bars["ts"].max() == datetime(2013, 3, 1, tzinfo=UTC)
    before = FixedClock(sample.ENDS_AT - timedelta(microseconds=1))
    assert PROVIDERS.get("sample")().fetch_bars(Request(), DAILY, before).bars[
        "ts"
    ].max() == datetime(2013, 2, 28, tzinfo=UTC)


def test_every_bar_of_the_sample_is_a_possible_one_on_a_session():
    bars = PROVIDERS.get("sample")().fetch_bars(Request(), DAILY, LATE).bars
    assert bars.select((pl.col("high") >= pl.max_horizontal("open", "close", "low")).all()).item()
    assert bars.select((pl.col("low") <= pl.min_horizontal("open", "close")).all()).item()
    assert bars.select((pl.min_horizontal("low", "adj_close", "volume") > 0).all()).item()
    opens = bars["ts"].dt.replace_time_zone(None).to_numpy()
    assert (trading_calendar("XNYS").session_index(opens) >= 0).all()


def test_the_adjusted_close_of_the_sample_is_smooth_where_a_split_breaks_the_price():
    fetched = PROVIDERS.get("sample")().fetch_bars(asked("AAPL"), DAILY, LATE)
    split = fetched.bars.filter(
        pl.col("ts").dt.date().is_between(date(2005, 2, 25), date(2005, 2, 28))
    )
    raw, adjusted = (split[name].log().diff()[1] for name in ("close", "adj_close"))
    assert raw < -0.6
    assert abs(adjusted) < 0.02


@pytest.mark.parametrize("name", ["sample", "synthetic"])
def test_what_has_daily_bars_only_refuses_minutes(name):
    with pytest.raises(InvalidSpec, match="use 1d"):
        PROVIDERS.get(name)().fetch_bars(Request(), Timeframe.parse("5m"), LATE)


@given(
    kind=st.sampled_from(sorted(VOLATILITY)),
    seed=st.integers(0, 2**32 - 1),
    n_symbols=st.integers(1, 4),
    n_sessions=st.integers(1, 60),
    correlation=st.floats(0, 0.99),
)
@settings(max_examples=30, deadline=None)
def test_a_market_is_fixed_by_its_seed_and_its_bars_are_possible(
    kind, seed, n_symbols, n_sessions, correlation
):
    size = {"n_symbols": n_symbols, "n_sessions": n_sessions, "correlation": correlation}
    market = make_market(kind, seed=seed, **size)
    assert market.bars.equals(make_market(kind, seed=seed, **size).bars)
    assert len(market.bars) == n_symbols * n_sessions
    assert market.bars.select(
        (
            (pl.col("high") >= pl.max_horizontal("open", "close"))
            & (pl.col("low") <= pl.min_horizontal("open", "close"))
            & (pl.min_horizontal("low", "volume") > 0)
        ).all()
    ).item()
    opens = market.bars["ts"].dt.replace_time_zone(None).to_numpy()
    assert (trading_calendar("XNYS").session_index(opens) >= 0).all()


def test_another_seed_is_another_market():
    assert not make_market(seed=1).bars.equals(make_market(seed=2).bars)


def test_a_senseless_market_is_refused():
    with pytest.raises(NotFound, match="did you mean regimes"):
        make_market("regime", seed=1)
    with pytest.raises(InvalidSpec, match="at least one symbol"):
        make_market(seed=1, n_symbols=0)
    with pytest.raises(InvalidSpec, match="sessions"):
        make_market(seed=1, n_sessions=10**6)


def log_returns(market, horizon_bars=1):
    closes = market.bars["close"].to_numpy().reshape(len(market.symbols), -1).T
    return np.log(closes[horizon_bars:] / closes[:-horizon_bars])


def test_a_random_walk_has_the_volatility_it_says_and_no_memory():
    market = make_market("random_walk", seed=11, n_symbols=1, n_sessions=5000)
    shocks = (log_returns(market) / market.volatility[:, 0])[:, 0]
    assert kstest(shocks, "norm").pvalue > 0.001
    for memory in (shocks, shocks**2):
        assert abs(np.corrcoef(memory[1:], memory[:-1])[0, 1]) < 4 / np.sqrt(len(shocks))


def test_symbols_are_correlated_as_asked():
    market = make_market(seed=5, n_symbols=2, n_sessions=5000, correlation=0.6)
    returns = log_returns(market) / market.volatility[:, 0]
    calm = returns[~market.is_wild[1:]]
    assert np.corrcoef(calm.T)[0, 1] == pytest.approx(0.6, abs=0.05)


def test_regimes_last_and_come_as_often_as_their_probabilities_say():
    market = make_market(seed=3, n_symbols=1, n_sessions=6000)
    switches = market.is_wild[1:] != market.is_wild[:-1]
    for state, probability in zip((False, True), SWITCH, strict=True):
        leaving = switches[market.is_wild[:-1] == state]
        error = np.sqrt(probability * (1 - probability) / len(leaving))
        assert leaving.mean() == pytest.approx(probability, abs=4 * error)


@pytest.mark.parametrize("horizon_bars", [1, 5, 21])
def test_returns_fall_below_the_true_quantiles_as_often_as_the_levels_say(horizon_bars):
    below = []
    for seed in range(4):
        market = make_market(seed=seed, n_symbols=10, n_sessions=4000, correlation=0.0)
        truth = market.true_quantiles(horizon_bars, LEVELS)[:-horizon_bars]
        below.append(log_returns(market, horizon_bars)[..., None] <= truth)
    share = np.concatenate(below).mean(axis=(0, 1))
    # Overlapping returns and the common regime: some 500 independent stretches.
    assert np.abs(share - LEVELS).max() < 0.015
    assert (np.diff(truth, axis=-1) > 0).all()


def test_the_true_median_is_zero_so_no_direction_can_be_known():
    market = make_market(seed=1, n_sessions=100)
    assert np.abs(market.true_quantiles(5, [0.5])).max() < 1e-12


def test_the_truth_of_one_bar_is_the_mixture_of_both_states():
    market = make_market(seed=1, n_symbols=1, n_sessions=300)
    quantile = market.true_quantiles(1, [0.05])[:, 0, 0]
    generator = np.random.default_rng(0)
    for state, leave in zip((False, True), SWITCH, strict=True):
        next_wild = (generator.random(400_000) < leave) != state
        deviation = market.volatility[0][next_wild.astype(int)]
        drawn = np.quantile(generator.standard_normal(400_000) * deviation, 0.05)
        known = np.unique(quantile[market.is_wild == state])
        assert known == pytest.approx([drawn], rel=0.01)
