"""The command that says what a forecast rests on: explain."""

from __future__ import annotations

import tempfile
from math import expm1
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from candlecast.cli.printing import echo_json, echo_table
from candlecast.cli.session import AsOf, FeatureFiles, Json, TimeframeName, instant, opened
from candlecast.errors import Conflict, InvalidSpec, NotFound
from candlecast.pipelines.explain import Explanation, explain, of_horizon

MAX_SHOWN: Final = 10


def register(app: typer.Typer) -> None:
    """Enter this command."""
    app.command("explain")(explain_forecast)


def explain_forecast(  # noqa: PLR0913 - one argument an option
    ticker: Annotated[str, typer.Argument(help="The symbol, e.g. AAPL.")],
    horizon: Annotated[str, typer.Option(help="One horizon, e.g. 1D; all by default.")] = "",
    version: Annotated[
        str, typer.Option("--model", help="A registered version; by default the champion.")
    ] = "",
    as_of: AsOf = "",
    timeframe: TimeframeName = "1d",
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the shortest horizon into this SVG file.")
    ] = None,
    _feature_files: FeatureFiles = None,
    is_json: Json = False,
) -> None:
    """Say what makes a forecast's range wide or narrow, and which bars it looks at.

    Example: candlecast explain AAPL --horizon 1D --plot aapl.svg
    """
    if plot is not None:
        _check_plot(plot)
    with opened() as stores:
        found = explain(
            stores,
            (ticker,),
            timeframe=timeframe,
            version=version or None,
            as_of=instant(as_of, is_end=True),
        )
    shown = of_horizon(found, horizon or None)
    if not shown:
        raise NotFound(
            f"the model keeps nothing that would explain a forecast of {ticker}: climatology, EWMA "
            "and GARCH look at no feature; serve trees, a linear model or a network"
        )
    if plot is not None:
        _write(plot, _drawn(shown[0]))
    if is_json:
        echo_json([_values(one) for one in shown])
        return
    for one in shown:
        _tell(one)


def _values(one: Explanation) -> dict[str, Any]:
    return {
        "symbol": one.symbol,
        "horizon": one.horizon,
        "as_of": one.as_of,
        "model_version": one.model_version,
        "contributions": one.contributions
        and [{"feature": name, "value": value} for name, value in one.contributions.items()],
        "attention": one.attention,
        "timeframes": one.timeframes,
    }


def _tell(one: Explanation) -> None:
    typer.echo(f"{one.symbol} {one.horizon}, as of {one.as_of:%Y-%m-%d %H:%M}, {one.model_version}")
    if one.contributions is not None:
        top = sorted(one.contributions.items(), key=lambda item: -abs(item[1]))[:MAX_SHOWN]
        rows = [[name, f"{expm1(value):+.1%}"] for name, value in top]
        echo_table("Features", ("feature", "makes the range wider by"), rows)
        typer.echo(f"{len(top)} of {len(one.contributions)} features with an effect")
    if one.attention is not None:
        weights = np.array(one.attention)
        rows = [
            [name, f"{weights[:, at].sum():.1%}", f"{len(weights) - int(weights[:, at].argmax())}"]
            for at, name in enumerate(one.timeframes)
        ]
        columns = ("timeframe", "attention", "most on the bar so many back")
        echo_table("Bars", columns, rows)


def _check_plot(plot: Path) -> None:
    # Before the work, and never in place of what is not a drawing of ours.
    from candlecast.reports.drawing import is_drawing
    from candlecast.reports.files import check_can_write

    if plot.suffix.lower() != ".svg":
        raise InvalidSpec(f"--plot {plot}: the drawing is SVG; name a file that ends in .svg")
    if not plot.parent.is_dir():
        raise InvalidSpec(f"--plot {plot}: there is no folder {plot.parent}; make it first")
    check_can_write(plot.absolute())
    if (plot.exists() or plot.is_symlink()) and not is_drawing(plot):
        raise Conflict(f"--plot {plot} is no drawing of candlecast's; name another file")


def _write(plot: Path, svg: str) -> None:
    # Whole or not at all, and only where still nothing else is.
    _check_plot(plot)
    with tempfile.TemporaryDirectory(prefix=f".{plot.name}-", dir=plot.parent) as room:
        made = Path(room) / plot.name
        made.write_text(svg, encoding="utf-8")
        made.replace(plot)


def _drawn(one: Explanation) -> str:
    from candlecast.reports.drawing import standalone
    from candlecast.reports.plots import attention_plot, contribution_plot

    title = f"{one.symbol} {one.horizon}, {one.as_of:%Y-%m-%d}"
    if one.contributions:
        return standalone(contribution_plot(title, one.contributions))
    return standalone(attention_plot(title, np.array(one.attention or [[]]), one.timeframes))
