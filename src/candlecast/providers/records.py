"""CSV, Parquet and JSON lines as tables of records of any kind that still know their lines.

Unlike `tables`, which cuts a CSV into lines first, a quoted cell may span several lines here: texts
do. The line of a record is the one it begins on.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import polars as pl

from candlecast.domain.sources import Request
from candlecast.errors import BadFrame
from candlecast.providers.columns import Fields, find_columns
from candlecast.providers.tables import DEFECT, LINE, PARQUET_SUFFIXES, SEPARATORS

JSON_SUFFIXES: Final = frozenset({".jsonl", ".ndjson", ".json"})
SUFFIXES: Final = PARQUET_SUFFIXES | JSON_SUFFIXES | {".csv", ".tsv", ".txt"}
MOST_NAMED: Final = 20
"""How many refused records of one file are named one by one."""


def read_records(file: Path, mapping: Mapping[str, str], fields: Fields) -> pl.DataFrame:
    """The cells of `file` in columns named after `fields`, with LINE and DEFECT.

    BadFrame says why the file as a whole cannot be used.
    """
    suffix = file.suffix.lower()
    try:
        if suffix in PARQUET_SUFFIXES:
            found = pl.read_parquet(file)
            table = found.with_columns(
                pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE),
                pl.lit(None, pl.String).alias(DEFECT),
            )
        elif suffix in JSON_SUFFIXES:
            table = from_documents(parse_documents(file.read_bytes()))
        else:
            table = _from_csv(file.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, csv.Error, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise BadFrame(f"cannot be read: {reason}; mend or remove it") from error
    return named_columns(table, mapping, fields)


def parse_documents(body: bytes) -> list[tuple[int, Any]]:
    """The documents of a JSON array or of JSON lines, with their places from 1 on.

    A line that is no JSON is its own document: the bytes. ValueError where an array is none.
    """
    if body.lstrip()[:1] == b"[":
        return list(enumerate(orjson.loads(body), start=1))
    lines = enumerate(body.splitlines(), start=1)
    return [(number, _parsed(line)) for number, line in lines if line.strip()]


def from_documents(documents: Sequence[tuple[int, Any]]) -> pl.DataFrame:
    """One record for each (line, document), with a column for each key, LINE and DEFECT."""
    records = [document if isinstance(document, dict) else {} for _, document in documents]
    keys = dict.fromkeys(key for record in records for key in record)
    defects = [
        None if isinstance(document, dict) else "the line is no JSON object"
        for _, document in documents
    ]
    return pl.DataFrame(
        [
            *(_series(key, [record.get(key) for record in records]) for key in keys),
            pl.Series(LINE, [line for line, _ in documents], pl.Int64),
            pl.Series(DEFECT, defects, pl.String),
        ]
    )


def named_columns(table: pl.DataFrame, mapping: Mapping[str, str], fields: Fields) -> pl.DataFrame:
    """`table` with its columns named after `fields`; BadFrame says what is missing."""
    if table.is_empty():
        raise BadFrame("is empty; fill or remove it")
    found = [name for name in table.columns if name not in {LINE, DEFECT}]
    columns = find_columns(found, mapping, fields)
    return table.select(
        *(pl.col(column).alias(name) for name, column in columns.items()), LINE, DEFECT
    )


def selected(table: pl.DataFrame, **columns: str | pl.Expr | pl.Series) -> pl.DataFrame:
    """`table.select` with these columns; BadFrame where the type of one allows no such reading."""
    try:
        return table.select(**columns)
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise BadFrame(f"holds what cannot be read: {reason}; name other columns") from error


def as_failures(refused: pl.DataFrame, n_rows: Mapping[str, int]) -> dict[str, str]:
    """Why records were refused: by file and line for the first ones of a file, then summed up.

    `refused` has file, line and reason; `n_rows` counts the records of each file.
    """
    failures: dict[str, str] = {}
    for (file,), group in refused.sort("file", "line").group_by("file", maintain_order=True):
        named = group.head(MOST_NAMED).select("line", "reason").iter_rows()
        failures |= {f"{file}:{line}": f"{file}:{line}: {why}" for line, why in named}
        if len(group) > MOST_NAMED:
            failures[str(file)] = (
                f"{file}: {len(group)} of {n_rows[str(file)]} records are refused; the first "
                f"{MOST_NAMED} are named"
            )
    return failures


def within_span(rows: pl.DataFrame, column: str, request: Request) -> pl.DataFrame:
    """Those of `rows` whose instant in `column` lies within the request's span."""
    if request.start is not None:
        rows = rows.filter(pl.col(column) >= request.start)
    return rows if request.end is None else rows.filter(pl.col(column) < request.end)


def _from_csv(text: str) -> pl.DataFrame:
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines, rows, begins = [], [], 1
    for row in reader:
        if row:
            lines.append(begins)
            rows.append(row)
        begins = reader.line_num + 1
    if not rows:
        raise BadFrame("is empty; fill or remove it")
    header = [name.strip() for name in rows[0]]
    width = len(header)
    defects = [
        None if len(row) == width else f"{len(row)} cells where the header has {width}"
        for row in rows[1:]
    ]
    padded = [(row + [""] * width)[:width] for row in rows[1:]]
    schema = dict.fromkeys(header, pl.String)
    if len(schema) < width:
        raise BadFrame("has two columns of one name; rename one")
    cells = pl.DataFrame(padded, schema=schema, orient="row")
    return cells.with_columns(
        pl.Series(LINE, lines[1:], pl.Int64), pl.Series(DEFECT, defects, pl.String)
    )


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return line


def _series(name: str, values: Sequence[Any]) -> pl.Series:
    present = [value for value in values if value is not None]
    if present and all(isinstance(v, int | float) and not isinstance(v, bool) for v in present):
        return pl.Series(name, values, strict=False)
    if present and all(isinstance(value, list) for value in present):
        texts = [None if value is None else [str(item) for item in value] for value in values]
        return pl.Series(name, texts, pl.List(pl.String))
    return pl.Series(name, [_text(value) for value in values], pl.String)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
