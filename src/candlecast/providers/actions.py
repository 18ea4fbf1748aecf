"""Corporate actions from CSV and Parquet files, LEAN factor files among them; rows checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.frames import ACTIONS, INSTANT
from candlecast.domain.market import Clock, trading_calendar
from candlecast.domain.sources import FetchedRows, Request
from candlecast.errors import BadFrame
from candlecast.providers.action_tables import KINDS, read_actions
from candlecast.providers.instants import parse_instants
from candlecast.providers.records import within_span
from candlecast.providers.tables import LINE, find_files

SOURCE: Final = "action_files"
_NUMBER: Final = r"(\d+(?:\.\d+)?)"
RATIO: Final = rf"(?i)^{_NUMBER}\s*(?::|/|-?\s*for\s*-?)\s*{_NUMBER}$"
_KEY: Final = ("symbol", "ex_date", "kind")
_REFUSED: Final = pl.col("reason").is_not_null()


@PROVIDERS.register(SOURCE)
class ActionFilesProvider:
    """Corporate actions from CSV and Parquet files, each row checked before it is believed.

    Parameters
    ----------
    paths : one or several files, or folders that are searched with their subfolders
    calendar : where the symbols trade; says which session follows the date of a factor row

    Notes
    -----
    Columns are detected by name. A table has a date (the ex-date) and either a kind (split,
    dividend, delisting) with a value, or columns of ratios and amounts, in which an empty cell or
    0 is no action. Without a symbol column the file's name is the symbol. Ratios are new shares
    for one old: ``7:1``, ``7/1``, ``7 for 1`` and ``7.0`` are the same; amounts are money a share
    before the event. Different dividends of one day in one file are added; what is said twice
    counts once.

    Tables with price_factor and split_factor are LEAN factor files, as are CSV files without a
    header such as ``20140606,0.9011818,0.0357143,645.57``: the factors of a row hold up to and
    including its date, so the action between two rows is that of the session after the first
    one (QuantConnect/Lean, ``CorporateFactorRow``: pf(i) = pf(i+1) * (close - dividend) / close).

    An action is known when its row says so (a column such as ``declaration_date``), otherwise
    at midnight UTC of its ex-date, and never later than now. A symbol with an impossible row fails
    as a whole, with file, line and reason: prices adjusted by half of its actions are wrong.

    Raises
    ------
    NotFound : nothing to read at one of `paths`.
    """

    delay_seconds = 0.0

    def __init__(self, paths: str | Path | Sequence[str | Path], *, calendar: str = "XNYS") -> None:
        named = [paths] if isinstance(paths, str | Path) else paths
        self.paths = tuple(Path(path) for path in named)
        self.calendar = trading_calendar(calendar)

    def fetch_actions(self, request: Request, clock: Clock) -> FetchedRows:
        """ACTIONS with an ex-date within the request's span; a symbol without any is no failure."""
        tables, failures = [], {}
        for file in find_files(self.paths):
            try:
                tables.append(_parsed(read_actions(file, self.calendar), file))
            except BadFrame as error:
                failures[file.as_posix()] = f"{file.as_posix()}: {error}"
        if not tables:
            return FetchedRows(ACTIONS.empty(), failures)
        rows = pl.concat(tables)
        if request.tickers is not None:
            rows = rows.filter(pl.col("symbol").is_in(list(request.tickers)))
        rows = pl.concat([rows.filter(_REFUSED), _united(rows.filter(~_REFUSED))])
        bad = rows.filter(_REFUSED)
        failures |= _failures(bad)
        now = pl.lit(clock.now()).cast(INSTANT)
        good = rows.join(bad, on="symbol", how="anti", nulls_equal=True).with_columns(
            source=pl.lit(SOURCE), known_at=pl.min_horizontal("known_at", now)
        )
        return FetchedRows(ACTIONS.conform(within_span(good, "ex_date", request)), failures)


def _parsed(raw: pl.DataFrame, file: Path) -> pl.DataFrame:
    # Typed rows, with the reason of those that are refused.
    text, is_split = pl.col("value"), pl.col("kind") == "split"
    parts = text.str.extract_groups(RATIO).struct
    quotient = parts[0].cast(pl.Float64) / parts[1].cast(pl.Float64)
    number = pl.coalesce(text.cast(pl.Float64, strict=False), pl.when(is_split).then(quotient))
    typed = raw.with_columns(
        parse_instants(raw["date"], zone="UTC", is_daily=True).cast(INSTANT).alias("ex_date"),
        parse_instants(raw["known"], zone="UTC", is_daily=False).cast(INSTANT).alias("known_at"),
        number=number,
    )
    return typed.select(
        *_KEY,
        pl.col("number").alias("value"),
        pl.coalesce("known_at", "ex_date").alias("known_at"),
        pl.lit(file.as_posix()).alias("file"),
        pl.col(LINE).alias("line"),
        _reason().alias("reason"),
    )


def _reason() -> pl.Expr:
    number, kind, is_split = pl.col("number"), pl.col("kind"), pl.col("kind") == "split"
    date, value, known = (
        pl.format("'{}'", pl.col(n).fill_null("")) for n in ("date", "value", "known")
    )
    is_known_kind = kind.is_in(sorted({*KINDS.values()})).fill_null(value=False)
    broken = [
        (pl.col("symbol").is_null(), pl.lit("the symbol is missing")),
        (pl.col("ex_date").is_null(), pl.format("the date {} cannot be read", date)),
        (
            ~is_known_kind,
            pl.format("'{}' is no split, dividend or delisting", kind.fill_null("")),
        ),
        (
            ~number.is_finite().fill_null(value=False),
            pl.format("the {} {} cannot be read", kind, value),
        ),
        (
            is_split & (number <= 0),
            pl.format("a split of {}: new shares for one old are a positive number", value),
        ),
        (number < 0, pl.format("the {} {} is negative", kind, value)),
        (
            pl.col("known").is_not_null() & pl.col("known_at").is_null(),
            pl.format("when it was known, {}, cannot be read", known),
        ),
    ]
    return pl.coalesce(pl.when(is_broken).then(reason) for is_broken, reason in broken)


def _united(rows: pl.DataFrame) -> pl.DataFrame:
    # One row a symbol, day and kind: what is said again is left out, several dividends are added.
    once = rows.unique([*_KEY, "value"], keep="first", maintain_order=True)
    is_sum = (pl.col("kind") == "dividend") & (pl.col("file").n_unique() == 1)
    said = pl.col("value").cast(pl.String).str.join(" and ")
    clash = pl.format("{} of one day are contradictory", said)
    return once.group_by(_KEY, maintain_order=True).agg(
        pl.col("value").sum(),
        pl.col("known_at").max(),
        pl.col("file").last(),
        pl.col("line").last(),
        pl.when((pl.len() > 1) & ~is_sum.first()).then(clash).first().alias("reason"),
    )


def _failures(bad: pl.DataFrame) -> dict[str, str]:
    failures = {}
    ordered = bad.sort("file", "line").group_by("symbol", maintain_order=True)
    for row in ordered.agg(pl.len().alias("n"), pl.exclude("symbol").first()).to_dicts():
        place = f"{row['file']}:{row['line']}"
        failures[row["symbol"] or place] = (
            f"{row['n']} of its actions are refused, first {place}: {row['reason']}; "
            "correct the file"
        )
    return failures
