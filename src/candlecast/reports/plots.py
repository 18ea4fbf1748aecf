"""The plots of a report: calibration, skill, importances, and one forecast's reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from candlecast.domain.distribution import FloatArray
from candlecast.reports.calibration import N_PIT_BINS
from candlecast.reports.cards import ALL
from candlecast.reports.drawing import INK, MUTED, SERIES, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS: Final = "os^D"
N_BARS: Final = 12


def coverage_plot(calibration: pl.DataFrame) -> str:
    """Observed against stated coverage of the central bands, with their intervals."""

    def draw(axes: Axes) -> None:
        axes.plot([0.45, 1], [0.45, 1], color=MUTED, lw=1, ls=(0, (4, 3)), label="as stated")
        for horizon, own, colour, marker in _horizons(calibration, "coverage"):
            expected, observed, low, high = (
                own[name].to_numpy().astype(float)
                for name in ("expected", "observed", "low", "high")
            )
            axes.vlines(expected, low, high, color=colour, lw=1.4, alpha=0.55)
            axes.plot(expected, observed, marker, color=colour, ms=5, label=horizon)
        axes.set(title="Coverage", xlabel="stated share in the band", ylabel="observed share")
        axes.legend(loc="upper left")

    return drawn("coverage", "Observed share of outcomes within each band", draw)


def pit_plot(calibration: pl.DataFrame) -> str:
    """Where outcomes fell among the stated quantiles: flat when the forecast is calibrated."""

    def draw(axes: Axes) -> None:
        axes.axhline(1, color=MUTED, lw=1, ls=(0, (4, 3)))
        for horizon, own, colour, _ in _horizons(calibration, "pit"):
            height = own["observed"].to_numpy() * N_PIT_BINS
            edges = np.linspace(0, 1, N_PIT_BINS + 1)
            axes.stairs(height, edges, color=colour, lw=1.4, label=horizon)
        axes.set(
            title="PIT histogram",
            xlabel="probability stated for outcomes up to the one that came",
            ylabel="density",
        )
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, 1)
        axes.legend(loc="lower center", ncols=4)

    return drawn("pit", "Histogram of the probability integral transform", draw)


def reliability_plot(calibration: pl.DataFrame) -> str:
    """How often prices rose among forecasts with about the same P(up)."""

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        for horizon, own, colour, marker in _horizons(calibration, "reliability"):
            x, y = own["expected"].to_numpy(), own["observed"].to_numpy()
            axes.vlines(x, own["low"], own["high"], color=colour, lw=1.2, alpha=0.4)
            axes.plot(x, y, f"-{marker}", color=colour, ms=4, lw=1.2, label=horizon)
        low, high = (f(*axes.get_xlim(), *axes.get_ylim()) for f in (min, max))
        axes.plot([low, high], [low, high], color=MUTED, lw=1, ls=(0, (4, 3)), zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set(title="Reliability of P(up)", xlabel="stated P(up)", ylabel="share that rose")
        axes.legend(loc="upper left")

    return drawn("reliability", "Share of rises against the stated probability of a rise", draw)


def yearly_plot(per_year: pl.DataFrame) -> str:
    """CRPS skill over climatology year by year."""

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        axes.axhline(0, color=MUTED, lw=1)
        for (horizon,), colour, marker in zip(
            dict.fromkeys(per_year.select("horizon").iter_rows()),
            cycle(SERIES),
            cycle(MARKERS),
            strict=False,
        ):
            own = per_year.filter(pl.col("horizon") == horizon)
            skill = 100 * own["crps_skill_climatology"].to_numpy().astype(float)
            axes.plot(own["year"], skill, f"-{marker}", color=colour, ms=4, lw=1.2, label=horizon)
        axes.set(title="CRPS skill by year", ylabel="loss saved over climatology, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="best")

    return drawn("yearly", "CRPS skill over climatology by year", draw)


def comparison_plot(comparisons: pl.DataFrame) -> str:
    """CRPS skill over each reference with its interval."""
    own = comparisons.filter(pl.col("loss") == "crps", pl.col("part") == ALL)
    names = [f"{row['horizon']} over {row['reference']}" for row in own.to_dicts()]
    colours = dict(zip(dict.fromkeys(own["horizon"]), cycle(SERIES), strict=False))

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, lw=1)
        for at, row in enumerate(own.to_dicts()):
            colour = colours[row["horizon"]]
            if row["low"] is not None:
                axes.hlines(at, 100 * row["low"], 100 * row["high"], color=colour, lw=2, alpha=0.6)
            if row["skill"] is not None:
                axes.plot(100 * row["skill"], at, "o", color=colour, ms=6)
        axes.set(title="CRPS skill over the references", xlabel="loss saved, %, 95 % interval")
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")

    return drawn("comparison", "CRPS skill over each reference, with intervals", draw)


def importance_plot(measure: str, top: Sequence[Mapping[str, Any]]) -> str:
    """The most important features by one measure, with their scatter over the folds."""
    shown = list(top)[:N_BARS]

    def draw(axes: Axes) -> None:
        values, spread = ([row[name] for row in shown] for name in ("mean", "std"))
        axes.barh(range(len(shown)), values, color=SERIES[0], height=0.62)
        axes.errorbar(values, range(len(shown)), xerr=spread, fmt="none", ecolor=INK, elinewidth=1)
        axes.set_yticks(range(len(shown)), [row["feature"] for row in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set(title=f"Importance by {measure}", xlabel="mean over the folds, ± one deviation")

    size = (4.8, 1.2 + 0.24 * max(len(shown), 3))
    return drawn(f"importance-{measure}", f"The most important features by {measure}", draw, size)


def contribution_plot(title: str, contributions: Mapping[str, float]) -> str:
    """What makes one forecast's range wider (right) or narrower (left)."""
    shown = sorted(contributions.items(), key=lambda item: -abs(item[1]))[:N_BARS]

    def draw(axes: Axes) -> None:
        values = [100 * float(np.expm1(value)) for _, value in shown]
        colours = [SERIES[1] if value > 0 else SERIES[0] for value in values]
        axes.barh(range(len(shown)), values, color=colours, height=0.62)
        axes.axvline(0, color=MUTED, lw=1)
        axes.set_yticks(range(len(shown)), [name for name, _ in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set(title=title, xlabel="makes the range wider or narrower by, %")

    size = (4.8, 1.2 + 0.24 * max(len(shown), 3))
    return drawn("contributions", f"{title}: what each feature adds", draw, size)


def attention_plot(title: str, weights: FloatArray, timeframes: Sequence[str]) -> str:
    """Attention (n_steps, n_timeframes) as a heat map, the newest bar on the right."""
    n_steps = len(weights)
    strongest = max(float(np.max(weights, initial=0)), 1e-12)

    def draw(axes: Axes) -> None:
        from matplotlib.collections import PolyCollection
        from matplotlib.colors import to_rgba

        cells, colours = [], []
        for row, own in enumerate(np.asarray(weights).T):
            for step, weight in enumerate(own):
                x = step - n_steps
                cells.append([(x, row), (x + 1, row), (x + 1, row + 1), (x, row + 1)])
                colours.append(to_rgba(SERIES[0], 0.04 + 0.96 * float(weight) / strongest))
        axes.add_collection(PolyCollection(cells, facecolors=colours, edgecolors="none"))
        axes.set_xlim(-n_steps, 0)
        axes.set_ylim(len(timeframes), 0)
        axes.set_yticks(np.arange(len(timeframes)) + 0.5, list(timeframes))
        axes.grid(visible=False)
        axes.set_xlabel(
            f"bars before the forecast; full colour is {strongest:.1%} of the attention"
        )
        axes.set_title(title)

    size = (6.4, 1.3 + 0.36 * len(timeframes))
    return drawn("attention", f"{title}: attention by bar and timeframe", draw, size)


def _horizons(calibration: pl.DataFrame, kind: str) -> list[tuple[str, pl.DataFrame, str, str]]:
    rows = calibration.filter(pl.col("kind") == kind, pl.col("part") == ALL)
    names = dict.fromkeys(rows["horizon"])
    styles = zip(names, cycle(SERIES), cycle(MARKERS), strict=False)
    return [
        (name, rows.filter(pl.col("horizon") == name), colour, marker)
        for name, colour, marker in styles
    ]
