"""Market capitalisations from CSV, Parquet and JSON-lines files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import polars as pl

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.dominance import TOTAL
from candlecast.domain.frames import CAPITALISATIONS, INSTANT
from candlecast.domain.market import Clock
from candlecast.domain.sources import FetchedRows, Request
from candlecast.errors import BadFrame
from candlecast.providers.columns import Fields, check_mapping
from candlecast.providers.instants import parse_instants
from candlecast.providers.records import SUFFIXES, as_failures, read_records, selected, within_span
from candlecast.providers.tables import DEFECT, LINE, find_files

SOURCE: Final = "capitalisation_files"
FIELDS: Final = Fields(
    "capitalisation",
    {
        "asset": ("asset", "symbol", "ticker", "coin"),
        "ts": ("ts", "timestamp", "datetime", "date", "time", "day"),
        "value": (
            *("marketcap", "mcap", "marketcapitalization", "marketcapitalisation"),
            *("capitalisation", "capitalization", "marketcapusd", "totalmarketcap", "value"),
        ),
    },
    required=("ts", "value"),
)


@PROVIDERS.register(SOURCE)
class CapitalisationFilesProvider:
    """Market capitalisations in US dollars, from files.

    Parameters
    ----------
    paths : one or several files, or folders that are searched with their subfolders
    columns : field (asset, ts, value) to column; others are detected by name. Without an asset
        column the file's name is the asset; TOTAL is the whole market.
    zone : IANA name of the time zone of times written without one
    delay_seconds : how long after its `ts` a value is known; a day, since tables of daily values
        rarely say at what hour they were taken

    Notes
    -----
    Refused with file and line in `failures`: unreadable times, values that are no positive
    numbers, and a second value for the same asset and time. A row is left out until it is known.

    Raises
    ------
    NotFound : nothing to read at one of `paths`, or `columns` names an unknown field.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        columns: Mapping[str, str] | None = None,
        zone: str = "UTC",
        delay_seconds: float = 86_400.0,
    ) -> None:
        named = [paths] if isinstance(paths, str | Path) else paths
        self.paths = tuple(Path(path) for path in named)
        self.columns = check_mapping(columns or {}, FIELDS)
        self.zone = zone
        self.delay_seconds = delay_seconds

    def fetch_capitalisations(self, request: Request, clock: Clock) -> FetchedRows:
        """CAPITALISATIONS within the request's span: of its symbols (None: all), and TOTAL."""
        tables, failures = [], {}
        for file in find_files(self.paths, SUFFIXES):
            try:
                table = read_records(file, self.columns, FIELDS)
                tables.append(_as_rows(table, file, self.zone))
            except BadFrame as error:
                failures[file.as_posix()] = f"{file.as_posix()}: {error}"
        if not tables:
            return FetchedRows(CAPITALISATIONS.empty(), failures)
        rows = pl.concat(tables).with_columns(reason=_reason())
        n_rows = dict(rows.group_by("file").len().iter_rows())
        failures |= as_failures(rows.filter(pl.col("reason").is_not_null()), n_rows)
        known_at = pl.col("ts") + timedelta(seconds=self.delay_seconds)
        good = rows.filter(pl.col("reason").is_null()).with_columns(
            source=pl.lit(SOURCE), known_at=known_at
        )
        good = _asked_for(good.filter(pl.col("known_at") <= clock.now()), request)
        return FetchedRows(CAPITALISATIONS.conform(good), failures)


def _as_rows(table: pl.DataFrame, file: Path, zone: str) -> pl.DataFrame:
    asset = pl.lit(file.stem)
    if "asset" in table.columns:
        asset = pl.col("asset").cast(pl.String).str.strip_chars()
    return selected(
        table,
        asset=asset,
        ts=parse_instants(table["ts"], zone=zone, is_daily=False).cast(INSTANT),
        value=pl.col("value").cast(pl.Float64, strict=False),
        raw_ts=pl.col("ts").cast(pl.String),
        raw_value=pl.col("value").cast(pl.String),
        file=pl.lit(file.as_posix()),
        line=LINE,
        defect=DEFECT,
    )


def _reason() -> pl.Expr:
    value = pl.col("value")
    shown = [pl.col(name).fill_null("") for name in ("raw_ts", "raw_value")]
    return (
        pl.when(pl.col("defect").is_not_null())
        .then(pl.col("defect"))
        .when(pl.col("asset").is_null() | (pl.col("asset") == ""))
        .then(pl.lit("the asset is missing"))
        .when(pl.col("ts").is_null())
        .then(pl.format("time '{}' cannot be read", shown[0]))
        .when(value.is_null() | ~value.is_finite() | (value <= 0))
        .then(pl.format("value '{}' is no positive number", shown[1]))
        .when(~pl.struct("asset", "ts").is_first_distinct())
        .then(pl.lit("its asset and time stand there before; keep one of the rows"))
    )


def _asked_for(rows: pl.DataFrame, request: Request) -> pl.DataFrame:
    if request.tickers is not None:
        rows = rows.filter(pl.col("asset").is_in([*request.tickers, TOTAL]))
    return within_span(rows, "ts", request)
