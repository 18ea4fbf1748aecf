"""CSV and Parquet files: files or folders, column names mapped or detected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.frames import QUARANTINE, UNSTAMPED
from candlecast.domain.market import Clock, Timeframe, trading_calendar
from candlecast.domain.sources import Fetched, Request
from candlecast.errors import BadFrame, InvalidSpec
from candlecast.providers.columns import check_mapping
from candlecast.providers.instants import parse_instants
from candlecast.providers.rows import (
    NUMBERS,
    as_refusals,
    closed_bars,
    find_refused,
    is_no_value,
    requested,
    unknown_symbols,
)
from candlecast.providers.tables import DEFECT, LINE, find_files, read_table

SOURCE: Final = "files"


@PROVIDERS.register(SOURCE)
class FilesProvider:
    """Bars from CSV and Parquet files, each row checked before it is believed.

    Parameters
    ----------
    paths : one or several files, or folders that are searched with their subfolders
    columns : field of a bar to column of the file, e.g. ``{"close": "Adj Close"}``; what is not
        named is detected. Without a symbol column the file's name is the symbol.
    zone : IANA name of the time zone of times written without one
    calendar : where the symbols trade; decides when a daily bar has ended
    skip_bad_rows : keep the good rows of a symbol that has bad ones; otherwise such a symbol is
        refused as a whole

    Notes
    -----
    Missing volume is 0, missing adj_close, vwap and trade_count are null. Impossible rows are
    refused with file, line and reason: unreadable or repeated times, rows out of order, prices
    that are missing or not positive, a high below or a low above another price by more than
    rounding, negative volume. A file without a needed column fails as a whole.

    Raises
    ------
    NotFound : nothing to read at one of `paths`, or `columns` names an unknown field.
    InvalidSpec : unknown time zone.
    """

    delay_seconds = 0.0
    is_bulk = True

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        columns: Mapping[str, str] | None = None,
        zone: str = "UTC",
        calendar: str = "XNYS",
        skip_bad_rows: bool = False,
    ) -> None:
        named = [paths] if isinstance(paths, str | Path) else paths
        self.paths = tuple(Path(path) for path in named)
        self.columns = check_mapping(columns or {})
        self.zone = _check_zone(zone)
        self.calendar = trading_calendar(calendar)
        self.skip_bad_rows = skip_bad_rows

    def fetch_bars(self, request: Request, timeframe: Timeframe, clock: Clock) -> Fetched:
        """Closed bars of the symbols (None: all in the files), with the rows that were refused."""
        tables, failures = [], {}
        for file in find_files(self.paths):
            try:
                table = read_table(file, self.columns)
                tables.append(_as_rows(table, file, self.zone, is_daily=timeframe.is_daily))
            except BadFrame as error:
                failures[file.as_posix()] = f"{file.as_posix()}: {error}"
        if not tables:
            return Fetched(UNSTAMPED.empty(), failures=failures)
        rows = pl.concat(tables)
        failures |= unknown_symbols(request.tickers, rows["symbol"].unique().to_list())
        rows = requested(rows, request)
        refused = find_refused(rows)
        good = self._without(rows, refused, failures)
        bars = closed_bars(good.select(*UNSTAMPED.columns), timeframe, self.calendar, clock.now())
        aside = _aside(rows, refused)
        return Fetched(bars, as_refusals(refused), failures, quarantined=aside)

    def _without(
        self, rows: pl.DataFrame, refused: pl.DataFrame, failures: dict[str, str]
    ) -> pl.DataFrame:
        # The rows that remain; what is lost as a whole is entered in `failures`.
        origin = ["file", "line"]
        good = rows.join(refused, on=origin, how="anti")
        if not self.skip_bad_rows:
            good = good.join(refused, on="symbol", how="anti")
        remaining = set(good["symbol"].unique())
        counts = rows.group_by("symbol").len("n_rows")
        bad = refused.group_by("symbol", maintain_order=True).agg(
            pl.len().alias("n_bad"), pl.all().first()
        )
        for row in bad.join(counts, on="symbol").iter_rows(named=True):
            if row["symbol"] not in remaining:
                failures[row["symbol"]] = (
                    f"{row['n_bad']} of {row['n_rows']} rows are refused, first "
                    f"{row['file']}:{row['line']}: {row['reason']}; correct the file"
                    + ("" if self.skip_bad_rows else ", or keep the other rows (skip_bad_rows)")
                )
        return good


def _aside(rows: pl.DataFrame, refused: pl.DataFrame) -> pl.DataFrame:
    # The values of refused rows; of a row refused for two reasons the first counts.
    beside = refused.select("file", "line", "reason").join(rows, on=["file", "line"])
    placed = beside.with_columns(place=pl.format("{}:{}", "file", "line"))
    numbers = pl.selectors.float()
    kept = placed.unique(["symbol", "source", "place"], keep="first").with_columns(
        pl.when(numbers.is_finite()).then(numbers)
    )
    return QUARANTINE.conform(kept.select(*QUARANTINE.columns))


def _check_zone(zone: str) -> str:
    try:
        return ZoneInfo(zone).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidSpec(f"unknown time zone {zone!r}; use e.g. America/New_York") from error


def _as_rows(table: pl.DataFrame, file: Path, zone: str, *, is_daily: bool) -> pl.DataFrame:
    # Raw rows, as rows.find_refused takes them.
    symbol, defect = pl.lit(file.stem), pl.col(DEFECT)
    if "symbol" in table.columns:
        named = pl.col("symbol").cast(pl.String).str.strip_chars()
        is_named = named.str.len_chars().fill_null(0) > 0
        symbol = pl.when(is_named).then(named).otherwise(symbol)
        defect = pl.when(is_named).then(defect).otherwise(pl.lit("the symbol is missing"))
    numbers = [_number(table, name) for name in NUMBERS]
    texts = [_text(table, name) for name in ("ts", *NUMBERS)]
    return table.select(
        symbol.alias("symbol"),
        parse_instants(table["ts"], zone=zone, is_daily=is_daily).alias("ts"),
        *numbers,
        *texts,
        pl.lit(SOURCE).alias("source"),
        pl.lit(file.as_posix()).alias("file"),
        pl.col(LINE).alias("line"),
        defect.alias("defect"),
    )


def _number(table: pl.DataFrame, name: str) -> pl.Expr:
    dtype = pl.Int64 if name == "trade_count" else pl.Float64
    if name not in table.columns:
        return pl.lit(0.0 if name == "volume" else None, dtype=dtype).alias(name)
    cell = pl.col(name)
    is_text = table.schema[name] == pl.String
    number = (cell.str.strip_chars() if is_text else cell).cast(pl.Float64, strict=False)
    if name == "volume":
        is_absent = is_no_value(cell) if is_text else cell.is_null()
        number = pl.when(is_absent).then(0.0).otherwise(number).fill_nan(0.0)
    return number.cast(dtype, strict=False).alias(name)


def _text(table: pl.DataFrame, name: str) -> pl.Expr:
    # A typed cell that is not null has been read, so only text needs to be quoted in a refusal.
    is_text = name in table.columns and table.schema[name] == pl.String
    text = pl.col(name) if is_text else pl.lit(None, pl.String)
    return text.alias(f"raw_{name}")
