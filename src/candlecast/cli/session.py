"""What commands share: stores from the settings, specs from the options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from candlecast.config import Settings
from candlecast.domain.described import Parameter
from candlecast.domain.market import Clock, SystemClock
from candlecast.domain.specs import ExperimentSpec
from candlecast.errors import InvalidSpec
from candlecast.store.stores import Stores, open_stores

DEFAULT_SPEC: Final = Path("experiments/default.toml")

Symbols = Annotated[
    str, typer.Option("--symbols", help="Tickers with commas, e.g. AAPL,MSFT; all by default.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
TimeframeName = Annotated[str, typer.Option("--timeframe", help="1m 5m 10m 15m 30m 1h 4h 1d.")]
AsOf = Annotated[
    str, typer.Option("--as-of", help="What was known then, e.g. 2015-06-30 or 2015-06-30T21:00.")
]
Start = Annotated[str, typer.Option("--start", help="First day, e.g. 2014-01-01.")]
End = Annotated[str, typer.Option("--end", help="Last day, e.g. 2021-12-31.")]
SpecFile = Annotated[
    Path | None,
    typer.Option("--spec", help="Experiment as TOML; experiments/default.toml if it is there."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="A parameter, e.g. --set n_estimators=200; repeatable."),
]


def _load(paths: list[Path] | None) -> list[Path] | None:
    if paths:
        from candlecast.features.user_files import load_feature_files

        load_feature_files(paths)
    return paths


FeatureFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--feature-file",
        help="A Python file with features of your own; repeatable.",
        callback=_load,
    ),
]
"""Loaded as the option is read; those of the settings are loaded by `opened`."""


@contextmanager
def opened(clock: Clock | None = None) -> Iterator[Stores]:
    """The stores that the settings describe, closed at the end; the user's features are loaded."""
    settings = Settings()
    load_own_features()
    stores = open_stores(
        database_url=settings.resolved_database_url,
        home=settings.home,
        artifacts_url=settings.artifacts_url,
        clock=clock or SystemClock(),
        scorer=settings.scorer,
    )
    try:
        yield stores
    finally:
        stores.close()


def load_own_features() -> None:
    """Load the files of CANDLECAST_FEATURE_FILES."""
    _load(list(Settings().feature_files))


def tickers(text: str) -> tuple[str, ...]:
    """The tickers of an option, or those of CANDLECAST_SYMBOLS, or none: all."""
    named = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    return named or Settings().symbols


def instant(text: str, *, is_end: bool = False) -> datetime | None:
    """An instant in UTC; a bare date is its first moment, or its last for the end of a span."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if len(text) <= len("2015-06-30") and is_end:
            moment = datetime.combine(date.fromisoformat(text), time.max)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidSpec(f"{text!r} is no date; write 2015-06-30 or 2015-06-30T21:00") from error


def assignments(texts: list[str] | None) -> dict[str, Parameter]:
    """The pairs of ``--set``; values that read as numbers or true/false become such."""
    return {name: _value(text) for name, text in pairs(texts, "--set").items()}


def pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    """What was given to a repeatable option as ``name=value``."""
    found: dict[str, str] = {}
    for given in texts or []:
        name, separator, text = given.partition("=")
        if not separator or not name.strip():
            raise InvalidSpec(f"{option} takes name=value, not {given!r}")
        found[name.strip()] = text.strip()
    return found


def experiment(spec_file: Path | None, overrides: Mapping[str, Any]) -> ExperimentSpec:
    """The experiment of a file, or the default one, with the options that were given.

    `overrides` map ``section.field`` (or ``field``) to a value; None leaves the file's.
    """
    settings = Settings()
    if spec_file is None and DEFAULT_SPEC.is_file():
        spec_file = DEFAULT_SPEC
    spec = ExperimentSpec.from_toml(spec_file) if spec_file else ExperimentSpec()
    if "min_bars" in settings.model_fields_set:
        spec = replace(spec, min_bars=settings.min_bars)
    if "horizons" in settings.model_fields_set:
        spec = replace(spec, labels=replace(spec.labels, horizons=settings.horizons))
    for path, value in overrides.items():
        if value is None or value == ():
            continue
        if path == "model.kind":
            spec = spec.with_kind(value)
            continue
        section, _, name = path.rpartition(".")
        change: dict[str, Any] = {name: value}
        if section:
            change = {section: replace(getattr(spec, section), **change)}
        spec = replace(spec, **change)
    return spec


def _value(text: str) -> Parameter:
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
