"""Every number of a report beside one that is counted row by row."""

import math
from bisect import bisect_left
from dataclasses import replace
from datetime import datetime, timedelta
from statistics import NormalDist, fmean, stdev

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.stats import pearsonr, spearmanr

from candlecast.domain.distribution import LEVELS, mean
from candlecast.pipelines import evidence
from candlecast.pipelines.pair_tests import LOSSES, pair_tests
from candlecast.reports.calibration import calibration
from candlecast.reports.cards import ALL, BANDS, by_part, cards, confusions
from candlecast.reports.scored import CLASSES
from candlecast.validation.significance import SKILL
from evaluations import made_of, scored_rows
from markets import make_examples

EXAMPLES = make_examples(seed=5, n_days=70)
MADE = made_of(EXAMPLES)
DAY = datetime(2015, 1, 5)  # noqa: DTZ001 - dates of sessions have no zone


def compared(rows, n_trials=0):
    """The table of comparisons."""
    return evidence.comparisons(rows, pair_tests(rows, n_trials))


def twins(threshold="scaled"):
    """One plain record for each forecast and horizon, made in a loop."""
    found = []
    for at, row in enumerate(MADE.rows):
        for horizon, name in enumerate(EXAMPLES.horizons):
            y = EXAMPLES.y[row, horizon]
            if math.isnan(y):
                continue
            q = MADE.quantiles[at, horizon].tolist()
            past = EXAMPLES.climatology[row, horizon].tolist()
            wide = [1.5 * value for value in q]
            if threshold == "scaled":
                low, high = (at_score(past, NORMAL.inv_cdf(level)) for level in (1 / 3, 2 / 3))
            else:
                low, high = math.log(0.98), math.log(1.02)
            below, above = cdf(q, low), 1 - cdf(q, high)
            classes = (below, 1 - below - above, above)
            said = max((1, 0, 2), key=lambda code, c=classes: (c[code], code == 1))
            came = 2 if y > high else 0 if y < low else 1
            reached = [came <= code for code in range(3)]
            up = 1 - cdf(q, 0.0)
            found.append(
                {
                    "horizon": name,
                    "symbol": EXAMPLES.tickers[EXAMPLES.symbol[row]],
                    "date": EXAMPLES.as_of[row],
                    "fold": int(MADE.fold[at]),
                    "part": "holdout" if MADE.is_holdout[at] else "development",
                    "y": y,
                    "mean": float(mean(np.array(q))),
                    "median": q[8],
                    "up": up,
                    "came": came,
                    "said": said,
                    "pit": cdf(q, y),
                    "hit": (up > 0.5) == (y > 0),
                    "brier": (up - (y > 0)) ** 2,
                    "rps": sum((sum(classes[: c + 1]) - reached[c]) ** 2 for c in range(3)) / 3,
                    "pinball": pinball(q, y, LEVELS, q),
                    "crps": crps(q, y),
                    "crps_past": crps(past, y),
                    "crps_wide": crps(wide, y),
                    "pinball_past": pinball(past, y, LEVELS, past),
                    "brier_past": (1 - cdf(past, 0.0) - (y > 0)) ** 2,
                }
            )
    return found


NORMAL = NormalDist()
SCORES = [NORMAL.inv_cdf(level) for level in LEVELS]
PERCENTILES = [NORMAL.inv_cdf(n / 100) for n in range(1, 100)]


def cdf(q, value):
    """P(return <= value) of the interpolated quantiles, by bisection of the normal score."""
    low, high = -9.0, 9.0
    for _ in range(45):
        middle = (low + high) / 2
        low, high = (middle, high) if at_score(q, middle) <= value else (low, middle)
    return NORMAL.cdf(low)


def at_score(q, z):
    right = min(max(bisect_left(SCORES, z), 1), len(q) - 1)
    share = (z - SCORES[right - 1]) / (SCORES[right] - SCORES[right - 1])
    return q[right - 1] + share * (q[right] - q[right - 1])


def pinball(q, y, levels, values):
    return fmean(
        level * (y - v) if y >= v else (1 - level) * (v - y)
        for level, v in zip(levels, values, strict=True)
    )


def crps(q, y):
    levels = [n / 100 for n in range(1, 100)]
    return 2 * pinball(q, y, levels, [at_score(q, z) for z in PERCENTILES])


TWINS = twins()
ROWS = scored_rows(EXAMPLES, MADE)


def naive_card(own):
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support, r2_score

    y, means = [r["y"] for r in own], [r["mean"] for r in own]
    came, said = [r["came"] for r in own], [r["said"] for r in own]
    squares = fmean((m - v) ** 2 for m, v in zip(means, y, strict=True))
    card = {
        "n": len(own),
        "n_dates": len({r["date"] for r in own}),
        "mse": squares,
        "rmse": squares**0.5,
        "mae": fmean(abs(r["median"] - r["y"]) for r in own),
        "r2": r2_score(y, means),
        "direction_accuracy": fmean(r["hit"] for r in own),
        "accuracy": accuracy_score(came, said),
        **{name: fmean(r[name] for r in own) for name in ("pinball", "crps", "brier", "rps")},
        "crps_skill_climatology": saved(own, "crps", "crps_past"),
        "crps_skill_wide": saved(own, "crps", "crps_wide"),
        "pinball_skill_climatology": saved(own, "pinball", "pinball_past"),
        "brier_skill_climatology": saved(own, "brier", "brier_past"),
    }
    for level in BANDS:
        inside = [abs(r["pit"] - 0.5) <= level / 2 for r in own]
        card[f"coverage_{level * 100:g}"] = fmean(inside)
    scores = precision_recall_fscore_support(came, said, labels=range(3), zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1"), scores[:3], strict=True):
        card |= {f"{name}_{label}": v for label, v in zip(CLASSES, values, strict=True)}
    for prefix, correlation in (("", pearsonr), ("rank_", spearmanr)):
        found = []
        for date in sorted({r["date"] for r in own}):
            day = [r for r in own if r["date"] == date]
            if len(day) > 1:
                found.append(correlation([r["mean"] for r in day], [r["y"] for r in day])[0])
        if found:
            card |= {f"{prefix}ic": fmean(found), f"{prefix}icir": fmean(found) / stdev(found)}
    return card


def saved(own, loss, reference):
    return 1 - sum(r[loss] for r in own) / sum(r[reference] for r in own)


def check(frame, by, groups):
    assert len(frame) == len(groups)
    for row in frame.to_dicts():
        expected = naive_card(groups[tuple(row[name] for name in ("horizon", *by))])
        for name, value in expected.items():
            if value == value:
                assert row[name] == pytest.approx(value, rel=1e-7, abs=1e-9), (name, row)


def grouped(*names):
    groups = {}
    for record in TWINS:
        groups.setdefault(tuple(record[name] for name in ("horizon", *names)), []).append(record)
    return groups


def test_every_score_of_a_horizon_and_a_part_is_that_of_a_loop_over_its_rows():
    whole = {(horizon, ALL): own for (horizon,), own in grouped().items()}
    check(by_part(ROWS), ["part"], whole | grouped("part"))


def test_scores_by_fold_and_by_symbol_are_those_of_a_loop_over_their_rows():
    check(cards(ROWS, ["fold"]), ["fold"], grouped("fold"))
    check(cards(ROWS, ["symbol"]), ["symbol"], grouped("symbol"))
    assert cards(ROWS, ["year"])["n"].sum() == len(TWINS)


def test_a_fixed_threshold_makes_other_classes():
    fixed = scored_rows(EXAMPLES, MADE, "fixed:0.02")
    expected = [(r["came"], r["said"]) for r in twins("fixed:0.02")]
    assert sorted(fixed.select("came", "said").rows()) == sorted(expected)


def test_the_confusion_counts_each_pair():
    found = {tuple(row[:4]): row[4] for row in confusions(ROWS).iter_rows()}
    for record in TWINS:
        for part in (ALL, record["part"]):
            found[record["horizon"], part, CLASSES[record["came"]], CLASSES[record["said"]]] -= 1
    assert set(found.values()) == {0}


def test_the_calibration_counts_bands_pits_and_rises():
    frame = calibration(ROWS)
    assert frame.filter(kind="coverage", part=ALL).height == len(BANDS) * 2
    for (horizon,), own in grouped().items():
        pits = np.sort([r["pit"] for r in own])
        for row in frame.filter(kind="pit", part=ALL, horizon=horizon).to_dicts():
            share = np.mean((pits >= row["lower"]) & (pits < row["upper"]))
            assert row["observed"] == pytest.approx(share, abs=1e-9)
        for row in frame.filter(kind="coverage", part=ALL, horizon=horizon).to_dicts():
            inside = np.mean(np.abs(pits - 0.5) <= row["expected"] / 2)
            assert (row["observed"], row["n"]) == (pytest.approx(inside), len(own))
        bins = frame.filter(kind="reliability", part=ALL, horizon=horizon)
        assert bins["n"].sum() == len(own)
        assert bins["expected"].is_sorted()
        assert ((bins["low"] <= bins["observed"]) & (bins["observed"] <= bins["high"])).all()
        rises = (bins["observed"] * bins["n"]).sum()
        assert rises == pytest.approx(sum(r["y"] > 0 for r in own))
        said = (bins["expected"] * bins["n"]).sum()
        assert said == pytest.approx(sum(r["up"] for r in own), rel=1e-9)


def test_the_comparison_averages_by_date_and_its_tests_tell_a_wider_reference_apart():
    examples = make_examples(seed=6, n_days=900, volatility_signal=0.5)
    rows = scored_rows(examples, made_of(examples))
    found = compared(rows)
    row = found.row(
        by_predicate=(pl.col("horizon") == "1D")
        & (pl.col("part") == ALL)
        & (pl.col("reference") == "wide"),
        named=True,
    )
    dates = rows.filter(horizon="1D").group_by("as_of").agg(pl.col("crps", "crps_wide").mean())
    skill = 1 - dates["crps"].mean() / dates["crps_wide"].mean()
    assert row["skill"] == pytest.approx(skill)
    assert row["low"] < skill < row["high"]
    assert row["verdict"] == SKILL
    assert row["n_dates"] == len(dates)


def test_symbols_whose_exchanges_close_at_different_hours_share_their_dates():
    examples = make_examples(seed=6, n_days=300)
    rows = scored_rows(examples, made_of(examples))
    hours = pl.col("symbol").replace_strict({"AAA": -15, "BBB": 0, "CCC": 3})
    apart = rows.with_columns(pl.col("as_of") + pl.duration(hours=hours))
    assert apart["as_of"].n_unique() == 3 * rows["as_of"].n_unique()
    found, expected = (compared(one) for one in (apart, rows))
    assert_frame_equal(found, expected)
    assert found["dm_p_adjusted"].count() > 0
    assert evidence.uniformity(apart)["n_dates"].equals(evidence.uniformity(rows)["n_dates"])


@pytest.mark.parametrize("n_trials", [0, 1, 99])
def test_the_deflated_sharpe_ratio_counts_overlapping_outcomes_once_and_all_models_tried(n_trials):
    examples = make_examples(seed=6, n_days=260, volatility_signal=0.1)
    rows = scored_rows(examples, made_of(examples))
    known = compared(rows, n_trials)
    luck = [NORMAL.inv_cdf(1 - 1 / n) for n in (99, 99 * math.e)] if n_trials == 99 else [0, 0]
    told = []
    for row in known.iter_rows(named=True):
        own = rows.filter(horizon=row["horizon"])
        own = own if row["part"] == ALL else own.filter(part=row["part"])
        n_bars, loss = own["horizon_bars"][0], row["loss"]
        margin = fmean(min(n_bars / n, 0.5) for n in own["n_past"])
        share = 1 - margin if row["reference"] == "climatology" else 1
        saved = share * pl.col(f"{loss}_{row['reference']}") - pl.col(loss)
        saved = own.group_by("date").agg(saved=saved.mean())["saved"].to_list()
        n, spread = len(saved) / n_bars, np.std(saved)
        if n < 20:
            assert row["deflated_sharpe"] is None
            continue
        ratio = fmean(saved) / stdev(saved)
        skew, tails = (fmean(((x - fmean(saved)) / spread) ** k for x in saved) for k in (3, 4))
        threshold = ((1 - np.euler_gamma) * luck[0] + np.euler_gamma * luck[1]) / math.sqrt(n)
        error = math.sqrt((1 - skew * ratio + (tails - 1) / 4 * ratio**2) / (n - 1))
        expected = NORMAL.cdf((ratio - threshold) / error)
        assert row["deflated_sharpe"] == pytest.approx(expected, rel=1e-6, abs=1e-12)
        told.append(row["part"])
    assert {ALL, "development"} <= set(told)
    assert len(told) < len(known)


def test_who_only_knows_the_distribution_of_all_times_has_no_deflated_sharpe_ratio_to_show():
    # The reference has to estimate what this one knows, and loses a little by it.
    told = []
    for seed in range(12):
        generator = np.random.default_rng(seed)
        n_days, names = 600, ("A", "B", "C")
        losses = generator.gamma(2.0, size=(n_days, len(names)))
        n_past = np.arange(100.0, 100 + n_days)[:, None].repeat(len(names), axis=1)
        lost = generator.normal(1, 1, losses.shape) * losses.mean() / n_past
        days = pl.datetime_range(DAY, DAY + timedelta(days=n_days - 1), eager=True)
        rows = pl.DataFrame(
            {
                "horizon": "1D",
                "part": "development",
                "horizon_bars": 1,
                "date": np.repeat(days.to_numpy(), len(names)),
                "n_past": n_past.ravel(),
                **{loss: losses.ravel() for loss in LOSSES},
                **{f"{loss}_climatology": (losses + lost).ravel() for loss in LOSSES},
            }
        )
        (own,) = compared(rows).filter(part=ALL, loss="crps").iter_rows(named=True)
        told.append(own["deflated_sharpe"])
    assert sum(share > 0.95 for share in told) <= 1


def test_the_same_losses_are_no_evidence_whatever_rounding_does_to_them():
    examples = make_examples(seed=6, n_days=200)
    rows = scored_rows(examples, made_of(examples))
    noise = pl.Series(np.random.default_rng(0).normal(1, 1e-16, len(rows)))
    for same in (pl.col("crps"), pl.col("crps") * noise):
        found = compared(rows.with_columns(crps_wide=same)).filter(reference="wide", part=ALL)
        assert found["deflated_sharpe"].null_count() == len(found)
        assert found["dm_p_value"].drop_nulls().to_list() == [0.5] * len(found)


def test_the_more_was_compared_and_tried_the_less_a_small_p_value_proves():
    examples = make_examples(seed=6, n_days=600, volatility_signal=0.5)
    rows = scored_rows(examples, made_of(examples))
    found = {n: compared(rows, n).drop_nulls("dm_p_value") for n in (0, 10**30)}
    raw, adjusted = (found[0][name].to_numpy() for name in ("dm_p_value", "dm_p_adjusted"))
    # Those of the table, and of all horizons together: two losses for each of three parts.
    n_compared = len(raw) + 6
    smallest = raw.argmin()
    assert 0 < raw[smallest] < 1e-4
    assert adjusted[smallest] == pytest.approx(n_compared * raw[smallest], rel=0.5)
    assert (adjusted >= raw).all()
    assert (found[10**30]["dm_p_adjusted"] >= adjusted).all()
    few, many = (evidence.verdicts(rows, pair_tests(rows, n))["all"]["1D"] for n in (0, 10**30))
    assert few["verdict"] == many["verdict"] == "skill in the distribution"
    assert "may be luck" not in few["sentence"]
    assert "may be luck" in many["sentence"]


def test_intervals_stand_beside_the_coverage_and_around_it():
    frame = evidence.with_intervals(calibration(ROWS), ROWS).filter(kind="coverage", part=ALL)
    for row in frame.filter(horizon="1D").to_dicts():
        assert row["low"] is None or row["low"] <= row["observed"] <= row["high"]
    assert set(frame.columns) >= {"low", "high"}


def test_exchanges_that_close_at_different_hours_share_their_dates():
    shifted = EXAMPLES.as_of + EXAMPLES.symbol * np.timedelta64(2, "h")
    hours = replace(
        EXAMPLES, as_of=shifted, end_at=EXAMPLES.end_at + (shifted - EXAMPLES.as_of)[:, None]
    )
    together, apart = (cards(scored_rows(examples, MADE)) for examples in (EXAMPLES, hours))
    assert apart["n_dates"].to_list() == together["n_dates"].to_list()
    for name in ("ic", "icir", "rank_ic", "rank_icir"):
        assert together[name].is_not_null().all()
        np.testing.assert_allclose(apart[name], together[name], rtol=1e-9)
