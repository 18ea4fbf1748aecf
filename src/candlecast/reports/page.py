"""An evaluation as one HTML page that needs nothing else: no script, no file, no network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

import polars as pl

from candlecast.reports import plots
from candlecast.reports.cards import ALL
from candlecast.reports.columns import COMPARED, ERRORS, HORIZON, LOSSES, PART, SHORT
from candlecast.reports.evaluation import Evaluation
from candlecast.reports.scored import CLASSES
from candlecast.reports.style import PALETTE, RULES
from candlecast.reports.tables import count, percent, probability, small, table, text

MAX_LISTED: Final = 60
PARTS: Final = {ALL: "All out of sample", "development": "Development", "holdout": "Final holdout"}
NO_ADVICE: Final = "Past skill is no promise, and nothing here is advice to buy or sell."


def page(evaluation: Evaluation) -> str:
    """The page as text, the same for the same evaluation."""
    kind = escape(evaluation.facts["spec"]["model"]["kind"])
    parts = (
        _head(evaluation),
        _verdicts(evaluation),
        _scores(evaluation),
        _comparisons(evaluation),
        _calibration(evaluation),
        _classes(evaluation),
        _groups(evaluation),
        _importances(evaluation),
        _made_of(evaluation.facts),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>candlecast: evaluation of {kind}</title>\n"
        f"<style>{PALETTE}{RULES}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + f'\n<p class="muted">{NO_ADVICE}</p>\n</main></body></html>\n'
    )


def _head(evaluation: Evaluation) -> str:
    facts = evaluation.facts
    simulated = facts["simulated"]
    warning = (
        f'<p class="bad">Made of simulated bars: {escape(_listed(simulated))}. Skill on them says '
        "nothing of a market.</p>"
        if simulated
        else ""
    )
    return (
        f"<h1>Evaluation of {escape(facts['spec']['model']['kind'])}</h1>"
        f'<p class="muted">{len(facts["symbols"])} symbols, forecasts from {facts["tested_from"]} '
        f"to {facts['tested_until']}, each by a model fitted on what was known before.</p>{warning}"
    )


def _verdicts(evaluation: Evaluation) -> str:
    def block(part: str) -> str:
        found = evaluation.verdicts[part]
        lines = "".join(
            f"<p><b>{escape(horizon)}</b>: {escape(own['verdict'])}. {escape(own['sentence'])}</p>"
            for horizon, own in found.items()
            if horizon != "overall"
        )
        said = found["overall"]
        return (
            f'<section class="verdict"><span class="muted">{PARTS[part]}</span><br>'
            f"<strong>{escape(said['verdict'].capitalize())}</strong>"
            f"<p>{escape(said['sentence'])}</p><details><summary>By horizon</summary>{lines}"
            "</details></section>"
        )

    n_trials = evaluation.facts["n_trials"]
    tried = (
        f"{count(n_trials)} different models have been tried on this question: the best of many "
        "looks better than it is, so trust the final holdout, which no search has seen."
        if n_trials > 1
        else "No other model has been tried on this question in this database."
    )
    blocks = "".join(block(part) for part in PARTS if part in evaluation.verdicts)
    return f'<div class="verdicts">{blocks}</div><p>{tried}</p>'


def _scores(evaluation: Evaluation) -> str:
    rows = _rows(evaluation.overall)
    return (
        "<h2>Scores</h2><p>Losses and errors are of log returns, lower is better; a skill is the "
        "share of the loss of each symbol’s own past (climatology) that is saved. RMSE and R² are "
        "of the mean, MAE of the median. IC: correlation across symbols, averaged over dates.</p>"
        + table(
            rows,
            [HORIZON, PART, *LOSSES],
            "Losses and direction, with the interval of the direction",
        )
        + table(rows, [HORIZON, PART, *ERRORS], "Errors of the point forecast, and correlations")
    )


def _comparisons(evaluation: Evaluation) -> str:
    rows = [
        row | {"loss": {"crps": "distribution", "brier": "direction"}[row["loss"]]}
        for row in _rows(evaluation.comparisons)
    ]
    return (
        "<h2>Against the references</h2><p>Block-bootstrap intervals and one-sided tests over "
        "dates: small p-values say that the reference is beaten by more than luck. The second is "
        "Diebold and Mariano’s (DM), the third the same for all comparisons here, or all models "
        "tried (Holm). The deflated Sharpe ratio is the probability that more is saved from date "
        "to date than the luckiest of all models tried on this question would save without skill; "
        "0.95 is a usual demand, and it is left out where fewer than twenty outcomes follow one "
        "another. Against climatology, the first p-value and this ratio ask for more than what a "
        "model saves that only knows the distribution of all times.</p>"
        f'<div class="plots">{_figure(plots.comparison_plot(evaluation.comparisons))}'
        f"{_figure(plots.yearly_plot(evaluation.per_year))}</div>" + table(rows, COMPARED)
    )


def _calibration(evaluation: Evaluation) -> str:
    found = evaluation.calibration
    drawn = (plots.coverage_plot, plots.pit_plot, plots.reliability_plot)
    figures = "".join(_figure(plot(found)) for plot in drawn)
    coverage = _rows(found.filter(pl.col("kind") == "coverage"))
    columns = [
        HORIZON,
        PART,
        ("expected", "stated", percent),
        ("observed", "observed", percent),
        ("low", "from", percent),
        ("high", "to", percent),
        ("n", "forecasts", count),
    ]
    tests = [
        HORIZON,
        PART,
        ("p_value", "p", probability),
        *((name, name, small) for name in ("centre", "width", "skew", "tails")),
    ]
    return (
        "<h2>Are the stated probabilities kept?</h2>"
        f'<div class="plots">{figures}</div>'
        + table(coverage, columns, "Coverage of the central bands, 95 % interval over date blocks")
        + table(
            _rows(evaluation.uniformity),
            tests,
            "Is the PIT uniform? Smooth test over date blocks; a small p says that it is not. "
            "Above zero, outcomes lie higher, wider, more to the right or further in the tails "
            "than stated",
        )
    )


def _classes(evaluation: Evaluation) -> str:
    columns = [
        HORIZON,
        PART,
        ("accuracy", "accuracy", percent),
        *(
            (f"{score}_{name}", f"{title} {name}", percent)
            for name in CLASSES
            for score, title in (("precision", "precision"), ("recall", "recall"), ("f1", "F1"))
        ),
    ]
    whole = evaluation.confusion.filter(pl.col("part") == ALL)
    wide = whole.pivot("said", index=["horizon", "came"], values="n", maintain_order=True)
    counts = [
        HORIZON,
        ("came", "came", text),
        *((name, f"said {name}", count) for name in CLASSES),
    ]
    return (
        "<h2>Classes</h2><p>Bearish, Neutral and Bullish as the labels’ thresholds have them. A "
        "confident class is rare where direction cannot be told.</p>"
        + table(_rows(evaluation.overall), columns)
        + table(wide.to_dicts(), counts, "Confusion, all out of sample")
    )


def _groups(evaluation: Evaluation) -> str:
    fold, year = ("fold", "fold", count), ("year", "year", text)
    return (
        "<h2>By fold, year and symbol</h2>"
        + table(_rows(evaluation.per_fold), [HORIZON, fold, PART, *SHORT], "By fold")
        + table(evaluation.per_year.to_dicts(), [HORIZON, year, *SHORT], "By year")
        + "<details><summary>By symbol</summary>"
        + table(evaluation.per_symbol.to_dicts(), [HORIZON, ("symbol", "symbol", text), *SHORT])
        + "</details>"
    )


def _importances(evaluation: Evaluation) -> str:
    top = evaluation.top_features()
    figures = "".join(
        _figure(plots.importance_plot(measure, shown))
        for measure, rows in top.items()
        if (shown := [row for row in rows if row["mean"] != 0])
    )
    columns = [
        ("fold", "fold", count),
        ("kind", "deleted", text),
        ("n_deleted", "how many", count),
        ("loss", "loss", small),
        ("loss_top", "without the top", small),
        ("loss_random", "without as many at random", small),
        ("difference", "difference", small),
        ("low", "from", small),
        ("high", "to", small),
    ]
    rows = [
        row | dict(zip(("low", "high"), row["interval"] or (None, None), strict=True))
        for row in evaluation.deletions
    ]
    deleted = table(rows, columns, "Deletion test: CRPS in units of the forecast volatility")
    return (
        "<h2>What it rests on</h2><p>Permutation: by what share the CRPS out of sample grows when "
        "one feature’s values change places. Gain and contribution: what trees learnt and what "
        "they add to the width of a range.</p>"
        + (f'<div class="plots">{figures}</div>' if figures else "<p>It looks at no feature.</p>")
        + (deleted if rows else "")
    )


def _made_of(facts: Mapping[str, Any]) -> str:
    said = {
        "data": f"{facts['data_from']} to {facts['data_until']}, known by {facts['as_of']}",
        "forecasts": f"{facts['tested_from']} to {facts['tested_until']}, {facts['n_tested']:,} "
        f"rows in {facts['n_folds']} folds",
        "symbols": f"{len(facts['symbols'])}: {_listed(facts['symbols'])}",
        "left out": ", ".join(facts["shortfalls"]) or "none",
        "spec": facts["spec_id"],
        "run": facts["run_id"],
        "seed": facts["seed"],
        "sha256 of the data": facts["data_sha256"],
        "trials counted": facts["n_trials"],
        "versions": ", ".join(f"{name} {found}" for name, found in facts["versions"].items()),
    }
    items = "".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in said.items())
    return (
        f"<h2>Made of</h2><dl>{items}</dl><details><summary>Experiment as TOML</summary>"
        f"<pre>{escape(facts['toml'])}</pre></details>"
    )


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
    return ", ".join(listed[:MAX_LISTED]) + more


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.with_columns(pl.col("part").replace(PARTS)).to_dicts()


def _figure(svg: str) -> str:
    return f"<figure>{svg}</figure>"
