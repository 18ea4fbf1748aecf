"""The command about many symbols at once: rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from candlecast.cli.printing import echo_json, echo_simulated, echo_table, warn
from candlecast.cli.session import (
    AsOf,
    Json,
    Symbols,
    TimeframeName,
    instant,
    opened,
    pairs,
    tickers,
)
from candlecast.errors import InvalidSpec
from candlecast.pipelines.rank import RankQuery
from candlecast.pipelines.rank import rank as run_rank


def register(app: typer.Typer) -> None:
    """Enter this command."""
    app.command()(rank)


def rank(  # noqa: PLR0913 - one argument an option
    symbols: Symbols = "",
    horizon: Annotated[str, typer.Option(help="One that is forecast, e.g. 1D, 1W, 1M.")] = "1M",
    weights: Annotated[
        list[str] | None,
        typer.Option("--weight", help="A portfolio's share, e.g. --weight AAPL=0.6; repeatable."),
    ] = None,
    version: Annotated[
        str, typer.Option("--model", help="A version; by default the champion.")
    ] = "",
    timeframe: TimeframeName = "1d",
    has_drift: Annotated[
        bool, typer.Option("--drift/--no-drift", help="Rank by the expected returns as well.")
    ] = False,
    as_of: AsOf = "",
    is_json: Json = False,
) -> None:
    """Tell who will probably rank where among symbols, and what a portfolio of them may lose.

    From the newest stored forecasts, or those known at --as-of.

    Example: candlecast rank --symbols AAPL,IBM,MSFT --horizon 1M --weight AAPL=0.5 --weight IBM=0.5
    """
    query = RankQuery(
        symbols=tickers(symbols),
        horizon=horizon,
        weights=_shares(weights),
        timeframe=timeframe,
        version=version or None,
        as_of=instant(as_of, is_end=True),
        has_drift=has_drift,
    )
    with opened() as stores:
        told = run_rank(stores, query)
    if is_json:
        echo_json(told)
    else:
        _echo(told)
    raise typer.Exit(1 if told["left_out"] else 0)


def _shares(weights: list[str] | None) -> dict[str, float]:
    try:
        return {name: float(text) for name, text in pairs(weights, "--weight").items()}
    except ValueError as error:
        raise InvalidSpec(f"{error}; --weight takes a share such as AAPL=0.5") from error


def _echo(told: Mapping[str, Any]) -> None:
    by_expectation = sorted(told["ranks"], key=lambda row: -row["expected_rank"])
    rows = [
        [row["symbol"], *(f"{p:.1%}" for p in row["probabilities"]), f"{row['expected_rank']:.2f}"]
        for row in by_expectation
    ]
    title = f"Probable ranks in {told['horizon']} from {told['as_of']}"
    columns = ("symbol", "lowest 20 %", "2nd", "3rd", "4th", "highest 20 %", "expected (1 to 5)")
    echo_table(title, columns, rows)
    portfolio = told["portfolio"]
    if portfolio is not None:
        typer.echo(
            f"portfolio: mean {portfolio['mean']:+.2%}, standard deviation "
            f"{portfolio['std']:.2%}, P(up) {portfolio['prob_up']:.1%}, value at risk 95 % "
            f"{portfolio['value_at_risk_95']:.2%}, expected shortfall "
            f"{portfolio['expected_shortfall_95']:.2%}"
        )
    echo_simulated(told["simulated"])
    typer.echo(f"{told['model_version']}, {told['n_scenarios']} scenarios")
    if told["is_in_sample"]:
        typer.echo("the model has seen later data: this is no out-of-sample forecast", err=True)
    warn(told["left_out"], "left out:")
    typer.echo(told["disclaimer"])
