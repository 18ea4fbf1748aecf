"""CSV and Parquet files as raw corporate actions: whatever their columns, one row an action."""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from candlecast.domain.market import TradingCalendar
from candlecast.errors import BadFrame
from candlecast.providers.instants import parse_instants
from candlecast.providers.rows import is_no_value
from candlecast.providers.tables import LINE, PARQUET_SUFFIXES, SEPARATORS

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "symbol": ("symbol", "ticker", "sym", "instrument"),
    "date": ("exdate", "exdividenddate", "executiondate", "effectivedate", "date", "ts", "day"),
    "kind": ("kind", "type", "action", "actiontype", "event"),
    "value": ("value",),
    "ratio": ("ratio", "splitratio", "stocksplits", "stocksplit", "splits", "split"),
    "amount": ("amount", "cashamount", "dividends", "dividend", "cash", "rate"),
    "known": ("knownat", "announcedat", "declaredat", "declarationdate", "announcementdate"),
    "price_factor": ("pricefactor",),
    "split_factor": ("splitfactor",),
    "reference": ("refprice", "referenceprice"),
}
"""The fields of an action, and the names their columns go by, likeliest first; letters only, in
lower case."""
KINDS: Final = {
    **dict.fromkeys(("split", "splits", "stock split", "forward split", "reverse split"), "split"),
    **dict.fromkeys(("dividend", "dividends", "div", "cash dividend"), "dividend"),
    **dict.fromkeys(("special dividend", "distribution"), "dividend"),
    **dict.fromkeys(("delisting", "delisted", "delist"), "delisting"),
}
"""What a kind may be called; lower case, with spaces for other signs."""
RAW: Final = (LINE, "symbol", "date", "kind", "value", "known")
_FACTORS: Final = ("price_factor", "split_factor")
_LEAN: Final = ("date", *_FACTORS, "ref_price")
"""The columns of a LEAN factor file, which names none."""


def read_actions(file: Path, calendar: TradingCalendar) -> pl.DataFrame:
    """The columns `RAW` of each action in `file`: its line, the rest as it is written (text).

    BadFrame says why the file as a whole cannot be used.
    """
    try:
        is_parquet = file.suffix.lower() in PARQUET_SUFFIXES
        cells = _read_parquet(file) if is_parquet else _read_csv(file)
    except (OSError, UnicodeDecodeError, csv.Error, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise BadFrame(f"cannot be read as CSV or Parquet: {reason}; mend or remove it") from error
    found = {_folded(name): name for name in reversed(cells.columns) if name != LINE}
    known = {field: [found[n] for n in names if n in found] for field, names in NAMES.items()}
    chosen = {field: names[0] for field, names in known.items() if names}
    if "date" not in chosen:
        raise BadFrame(f"no column for the ex-date; it has {', '.join(map(repr, found.values()))}")
    table = cells.select(LINE, *(_text(chosen, field) for field in NAMES))
    if set(_FACTORS) <= chosen.keys():
        return _from_factors(_named(table, chosen, file.stem.upper()), calendar)
    table = _named(table, chosen, file.stem)
    return _from_kinds(table) if "kind" in chosen else _from_columns(table, chosen)


def _read_csv(file: Path) -> pl.DataFrame:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        first = stream.readline()
        stream.seek(0)
        lines = csv.reader(stream, delimiter=max(SEPARATORS, key=first.count))
        rows = [(lines.line_num, row) for row in lines if any(cell.strip() for cell in row)]
    is_lean = bool(rows) and rows[0][1][0].strip().isdigit()
    header = list(_LEAN) if is_lean else [cell.strip() for _, row in rows[:1] for cell in row]
    body = rows if is_lean else rows[1:]
    if not body:
        raise BadFrame("is empty: no row follows the header; fill or remove it")
    for line, row in body:
        if len(row) > len(header):
            raise BadFrame(f"line {line} has {len(row)} cells, not {len(header)}; mend it")
    table = {
        name: [row[place] if place < len(row) else None for _, row in body]
        for place, name in enumerate(header)
    }
    schema = {LINE: pl.Int64, **dict.fromkeys(table, pl.String)}
    return pl.DataFrame({LINE: [line for line, _ in body], **table}, schema=schema)


def _read_parquet(file: Path) -> pl.DataFrame:
    table = pl.read_parquet(file)
    if table.is_empty():
        raise BadFrame("is empty; fill or remove it")
    return table.select(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE), pl.all())


def _folded(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalpha())


def _text(chosen: dict[str, str], field: str) -> pl.Expr:
    cell = pl.col(chosen[field]) if field in chosen else pl.lit(None)
    text = cell.cast(pl.String).str.strip_chars()
    return pl.when(~is_no_value(text)).then(text).alias(field)


def _named(table: pl.DataFrame, chosen: Collection[str], stem: str) -> pl.DataFrame:
    return table if "symbol" in chosen else table.with_columns(symbol=pl.lit(stem))


def _from_kinds(table: pl.DataFrame) -> pl.DataFrame:
    plain = pl.col("kind").str.to_lowercase().str.replace_all(r"[^a-z]+", " ").str.strip_chars()
    kind = plain.replace_strict(KINDS, default=pl.col("kind"), return_dtype=pl.String)
    value = (
        pl.when(pl.col("kind") == "split")
        .then(pl.coalesce("ratio", "value", "amount"))
        .when(pl.col("kind") == "delisting")
        .then(pl.lit("0"))
        .otherwise(pl.coalesce("amount", "value", "ratio"))
    )
    return table.with_columns(kind=kind).with_columns(value=value).select(RAW)


def _from_columns(table: pl.DataFrame, chosen: Collection[str]) -> pl.DataFrame:
    # Ratios and amounts beside each other; empty cells and zeros are days without an action.
    kinds = {"ratio": "split", "amount": "dividend"}
    if not set(kinds) & set(chosen):
        raise BadFrame("no column says what happened; bring kind and value, or ratio and amount")
    is_nothing = (pl.col("value").cast(pl.Float64, strict=False) == 0).fill_null(value=False)
    parts = [
        table.with_columns(kind=pl.lit(kind), value=pl.col(column))
        for column, kind in kinds.items()
    ]
    return pl.concat(parts).drop_nulls("value").filter(~is_nothing).select(RAW)


def _from_factors(table: pl.DataFrame, calendar: TradingCalendar) -> pl.DataFrame:
    # What happened after each row is the step from its factors to those of the next one. A
    # factor that is none stays as text, to be refused.
    rows = table.with_columns(
        parse_instants(table["date"], zone="UTC", is_daily=True).alias("day"),
        *(
            pl.col(name).cast(pl.Float64, strict=False).alias(f"_{name}")
            for name in (*_FACTORS, "reference")
        ),
    ).sort("symbol", "day")
    price, split = (pl.col(f"_{name}") for name in _FACTORS)
    is_number = price.is_finite() & split.is_finite() & (price > 0) & (split > 0)
    is_usable = is_number.fill_null(value=False) & pl.col("day").is_not_null()
    rows = rows.with_columns(
        is_usable.alias("is_usable"),
        date=pl.coalesce(_sessions_after(rows["day"], calendar), "date"),
        split=(split.shift(-1) / split).over("symbol"),
        money=(pl.col("_reference") * (1 - price / price.shift(-1))).over("symbol"),
        is_paid=(price != price.shift(-1)).over("symbol"),
    )
    is_last_or_good = pl.col("is_usable").shift(-1).over("symbol").fill_null(value=True)
    good = rows.filter(pl.col("is_usable") & is_last_or_good)
    no_price = pl.lit("without a reference price")
    parts = [
        rows.filter(~pl.col("is_usable")).with_columns(
            kind=pl.lit("split"), value=pl.format("of factors {} and {}", *_FACTORS)
        ),
        good.filter(pl.col("split") != 1).with_columns(
            kind=pl.lit("split"), value=pl.col("split").cast(pl.String)
        ),
        good.filter("is_paid").with_columns(
            kind=pl.lit("dividend"), value=pl.coalesce(pl.col("money").cast(pl.String), no_price)
        ),
    ]
    return pl.concat(parts).select(RAW)


def _sessions_after(days: pl.Series, calendar: TradingCalendar) -> pl.Series:
    dates = days.dt.replace_time_zone(None).to_numpy().astype("datetime64[D]")
    following = np.searchsorted(calendar.sessions, dates, side="right")
    last = len(calendar.sessions) - 1
    found = pl.Series(calendar.sessions[np.minimum(following, last)]).dt.strftime("%Y-%m-%d")
    return found.set(days.is_null(), None)
