"""Expanding quantiles against sorting everything anew for each ask."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.domain import climatology as module
from candlecast.domain.climatology import climatology, expanding_quantiles
from candlecast.domain.distribution import LEVELS
from candlecast.domain.frames import INSTANT

START = np.datetime64("2020-01-01", "us")


def days(numbers):
    return START + np.asarray(numbers).astype("timedelta64[D]")


def naive(value, known_at, asked_at, min_count):
    result = np.full((len(asked_at), 17), np.nan)
    for row, instant in enumerate(asked_at):
        known = value[(known_at <= instant) & ~np.isnan(value)]
        if len(known) >= min_count:
            result[row] = np.quantile(known, LEVELS, method="median_unbiased")  # type 8
    return result


@st.composite
def histories(draw):
    n, n_asked = draw(st.integers(0, 120)), draw(st.integers(0, 60))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    value = random.standard_normal(n).round(draw(st.sampled_from([0, 1, 8])))
    value[random.random(n) < draw(st.sampled_from([0.0, 0.2]))] = np.nan
    return value, days(random.integers(0, 100, n)), days(random.integers(-5, 110, n_asked))


@given(histories(), st.sampled_from([1, 2, 10, 100]))
@settings(max_examples=80)
def test_they_equal_numpys_quantiles_of_all_that_was_known(history, min_count):
    value, known_at, asked_at = history
    np.testing.assert_allclose(
        expanding_quantiles(value, known_at, asked_at, min_count),
        naive(value, known_at, asked_at, min_count),
        atol=1e-12,
    )


@pytest.mark.parametrize("max_links", [1, 3000, 10**7])
def test_the_number_of_chunks_does_not_matter(max_links, monkeypatch):
    monkeypatch.setattr(module, "MAX_LINKS", max_links)
    random = np.random.default_rng(5)
    value, at = random.standard_normal(700), days(np.arange(700))
    asked = np.concatenate([at[150:300], at[300::7]])
    np.testing.assert_allclose(
        expanding_quantiles(value, at, asked, 100), naive(value, at, asked, 100), atol=1e-12
    )


@given(st.integers(0, 1000))
@settings(max_examples=25)
def test_whole_frames_get_the_quantiles_of_their_own_symbol_and_horizon(seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 200))
    names = {"symbol": random.choice(["A", "B", "C"], n), "horizon": random.choice(["1D", "1W"], n)}
    ends, value = days(random.integers(0, 60, n)), random.standard_normal(n)
    value[random.random(n) < 0.1] = np.nan
    labels = pl.DataFrame(
        {**names, "value": pl.Series(value).fill_nan(None), "end_at": pl.Series(ends)}
    ).with_columns(pl.col("end_at").dt.replace_time_zone("UTC"))
    asked = pl.DataFrame(
        {
            "horizon": random.choice(["1D", "1W", "1M"], 40),
            "as_of": pl.Series(days(random.integers(0, 70, 40))).dt.replace_time_zone("UTC"),
            "symbol": random.choice(["A", "B", "D"], 40),
        }
    )
    assert labels.schema["end_at"] == INSTANT
    expected = np.full((40, 17), np.nan)
    for row, (horizon, as_of, symbol) in enumerate(asked.iter_rows()):
        same = (names["symbol"] == symbol) & (names["horizon"] == horizon)
        instant = np.array([as_of.replace(tzinfo=None)], dtype="datetime64[us]")
        expected[row] = naive(value[same], ends[same], instant, 5)[0]
    np.testing.assert_allclose(climatology(labels, asked, 5), expected, atol=1e-12)
