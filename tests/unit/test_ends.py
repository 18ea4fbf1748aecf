"""The last value of an expression, taken apart, is the last value of the expression."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from candlecast.features.ends import Ends

N_BARS = 40
INPUTS = {
    "move": lambda: pl.col("a").diff(),
    "place": lambda: pl.int_range(pl.len()),
    "doubled": lambda: pl.col("a").map_batches(lambda values: values * 2, return_dtype=pl.Float64),
}
LEAVES = [pl.col(name) for name in ("a", "b", *INPUTS)]
WINDOWS = st.integers(1, 12)
ROLLED = ("mean", "sum", "min", "max", "std", "var")


def rolled(kind, inner, n_bars, least):
    if kind in {"std", "var"}:
        n_bars, least = max(n_bars, 2), max(least, 2)
    return getattr(inner, f"rolling_{kind}")(n_bars, min_samples=min(least, n_bars))


EXPRESSIONS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.builds(lambda x, n: x.shift(n), inner, WINDOWS),
        st.builds(lambda x, n: x.diff(n), inner, WINDOWS),
        st.builds(rolled, st.sampled_from(ROLLED), inner, WINDOWS, WINDOWS),
        st.builds(lambda x, y: x + y, inner, inner),
        st.builds(lambda x, y: x - 0.5 * y, inner, inner),
        st.builds(lambda x: (x.abs() + 1).log().clip(-3.0, 3.0), inner),
        st.builds(lambda x, y: pl.when(x > y).then(x).otherwise(y), inner, inner),
        st.builds(lambda x: x.fill_null(0.25), inner),
        st.builds(lambda x: x.cum_sum(), inner),
        st.builds(lambda x: x.ewm_mean(alpha=0.3), inner),
        st.builds(lambda x: x.forward_fill(), inner),
        st.builds(lambda x: (x - x.shift(1)).rolling_mean(3, min_samples=2), inner),
        st.builds(lambda x: pl.max_horizontal(x, pl.col("b")), inner),
        st.builds(lambda x: (x > 0).cast(pl.UInt8).diff(), inner),
        st.builds(lambda x: pl.rolling_corr(x, pl.col("b"), window_size=6), inner),
        st.builds(lambda x: x.rolling_quantile(0.3, window_size=5, min_samples=2), inner),
        st.builds(lambda x: x.pct_change(2).fill_nan(None), inner),
    ),
    max_leaves=6,
)


def market(seed):
    """Groups of unlike lengths, one shorter than most windows, with values missing."""
    generator = np.random.default_rng(seed)
    lengths = (3, 17, N_BARS)
    values = generator.normal(size=(2, sum(lengths))).round(3)
    values[:, generator.random(sum(lengths)) < 0.05] = np.nan
    return pl.DataFrame(
        {
            "group": np.repeat(np.arange(len(lengths)), lengths),
            "a": pl.Series(values[0], nan_to_null=True),
            "b": pl.Series(values[1], nan_to_null=True),
        }
    )


def taken_apart(frame, expressions):
    """The last values by way of leaves, each from no more bars than it asks for."""
    ends = Ends(INPUTS, N_BARS)
    finals = [ends.add(e.alias(f"x{n}"), N_BARS) for n, e in enumerate(expressions)]
    from_end = pl.int_range(pl.len()).reverse().over("group")
    frame = frame.with_columns(
        *(INPUTS[name]().over("group").alias(name) for name in sorted(ends.named)),
        from_end=from_end,
    )
    last = frame.filter(pl.col("from_end") == 0).select("group")
    for n_bars, leaf in ends.leaves():
        tails = frame.filter(pl.col("from_end") < n_bars)
        values = tails.group_by("group", maintain_order=True).agg(leaf).drop("group")
        last = last.with_columns(values.get_columns())
    return last.select(finals)


def whole(frame, expressions):
    """The last values by way of whole columns."""
    inputs = [INPUTS[name]().over("group").alias(name) for name in INPUTS]
    named = [e.alias(f"x{n}").last() for n, e in enumerate(expressions)]
    grouped = frame.with_columns(inputs).group_by("group", maintain_order=True).agg(named)
    return grouped.drop("group")


@settings(max_examples=150, deadline=None)
@given(st.lists(EXPRESSIONS, min_size=1, max_size=4), st.integers(0, 9))
def test_any_expression_has_the_same_last_value_taken_apart(expressions, seed):
    frame = market(seed)
    ours, expected = taken_apart(frame, expressions), whole(frame, expressions)
    for name in expected.columns:
        left, right = (f[name].cast(pl.Float64).to_numpy() for f in (ours, expected))
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("expression", "n_bars"),
    [
        (pl.col("a").rolling_mean(5), 5),
        (pl.col("a").shift(3).rolling_max(4), 7),
        (pl.col("a").diff(6), 7),
        (pl.col("a") / pl.col("b"), 1),
        (pl.col("a").cum_sum(), N_BARS),
    ],
)
def test_a_leaf_asks_for_no_more_bars_than_it_depends_on(expression, n_bars):
    ends = Ends({}, N_BARS)
    ends.add(expression.alias("x"), N_BARS)
    assert max(n for n, _ in ends.leaves()) == n_bars


def test_what_two_expressions_share_is_one_leaf():
    ends = Ends({}, N_BARS)
    mean = pl.col("a").rolling_mean(5)
    for number, expression in enumerate((mean, mean / pl.col("b"), mean.log())):
        ends.add(expression.alias(f"x{number}"), N_BARS)
    assert len(list(ends.leaves())) == 3  # the mean, how many it is made of, and the last b


def test_the_places_in_a_group_stay_together_with_what_they_are_counted_for():
    ends = Ends({}, N_BARS)
    since = pl.int_range(pl.len()) - pl.when(pl.col("a") > 0).then(pl.int_range(pl.len())).max()
    ends.add(since.alias("x"), N_BARS)
    assert [n for n, _ in ends.leaves()] == [N_BARS]
