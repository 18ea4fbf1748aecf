"""CSV and Parquet files as tables of cells that still know their lines.

A CSV is cut into lines first, so that each cell keeps its line number whatever is wrong with the
others; cells stay text. Blank lines are passed over. A line with too few or too many cells, or
with an open quote, is kept and carries its defect.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

import polars as pl

from candlecast.errors import BadFrame, NotFound
from candlecast.providers.columns import find_columns

LINE: Final = "#line"
"""Column with the line of a row: in a CSV the header is line 1, in Parquet the first row is 1."""
DEFECT: Final = "#defect"
"""Column that says what is wrong with a row as a whole; null where nothing is."""
PARQUET_SUFFIXES: Final = frozenset({".parquet", ".pq"})
SUFFIXES: Final = PARQUET_SUFFIXES | {".csv", ".tsv", ".txt"}
SEPARATORS: Final = ",;\t|"


def find_files(paths: Iterable[Path], suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """The files among `paths`, and in the folders among them those with one of `suffixes`."""
    return list(dict.fromkeys(file for path in paths for file in _files_at(path, suffixes)))


def read_table(file: Path, mapping: Mapping[str, str]) -> pl.DataFrame:
    """The cells of `file` in columns named after the fields of a bar, with LINE and DEFECT.

    BadFrame says why the file as a whole cannot be used.
    """
    try:
        is_parquet = file.suffix.lower() in PARQUET_SUFFIXES
        table = _read_parquet(file, mapping) if is_parquet else _read_csv(file, mapping)
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        reason = str(error).partition("\n")[0]
        raise BadFrame(f"cannot be read as CSV or Parquet: {reason}; mend or remove it") from error
    if table.is_empty():
        raise BadFrame("is empty: no row follows the header; fill or remove it")
    return table


def _files_at(path: Path, suffixes: Collection[str]) -> list[Path]:
    if path.is_file():
        return [path]
    kinds = "CSV or Parquet" if suffixes == SUFFIXES else "CSV, Parquet or JSON"
    if not path.is_dir():
        raise NotFound(f"no file or folder {path}; name {kinds} files, or a folder of them")
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()
    ]
    if not files:
        raise NotFound(f"no {kinds} file in {path}; name the folder that holds them")
    return files


def _read_parquet(file: Path, mapping: Mapping[str, str]) -> pl.DataFrame:
    columns = find_columns(list(pl.read_parquet_schema(file)), mapping)
    table = pl.read_parquet(file, columns=list(dict.fromkeys(columns.values())))
    return table.select(
        *(pl.col(column).alias(name) for name, column in columns.items()),
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE),
        pl.lit(None, pl.String).alias(DEFECT),
    )


def _read_csv(file: Path, mapping: Mapping[str, str]) -> pl.DataFrame:
    text = file.read_bytes().decode("utf-8-sig")
    lines = pl.Series("text", text.splitlines(), dtype=pl.String)
    numbered = pl.DataFrame({"text": lines}).with_row_index(LINE, offset=1)
    numbered = numbered.filter(pl.col("text").str.strip_chars() != "")
    if numbered.is_empty():
        raise BadFrame("is empty; fill or remove it")
    first = numbered["text"][0]
    separator = max(SEPARATORS, key=first.count)
    header = [name.strip() for name in next(csv.reader([first], delimiter=separator))]
    columns = find_columns(header, mapping)
    body = _with_defects(numbered.slice(1), separator, len(header))
    cells = _split(body["text"], separator, len(header))
    return cells.select(
        *(cells[str(header.index(column))].alias(name) for name, column in columns.items()),
        body[LINE].cast(pl.Int64),
        body[DEFECT],
    )


def _with_defects(body: pl.DataFrame, separator: str, n_columns: int) -> pl.DataFrame:
    quotes = pl.col("text").str.count_matches('"', literal=True)
    unquoted = pl.col("text").str.replace_all(r'"[^"]*"', "")
    n_cells = unquoted.str.count_matches(separator, literal=True) + 1
    is_open = quotes % 2 == 1
    padded = pl.col("text").str.replace_all('"', "") + separator * n_columns
    of_right_length = padded.str.split(separator).list.head(n_columns).list.join(separator)
    return body.with_columns(
        pl.when(is_open | (n_cells != n_columns)).then(of_right_length).otherwise("text"),
        pl.when(is_open)
        .then(pl.lit("a quote is not closed"))
        .when(n_cells != n_columns)
        .then(pl.format("{} cells where the header has {}", n_cells, pl.lit(n_columns)))
        .alias(DEFECT),
    )


def _split(lines: pl.Series, separator: str, n_columns: int) -> pl.DataFrame:
    if lines.is_empty():
        return pl.DataFrame(schema=[(str(i), pl.String) for i in range(n_columns)])
    cells = pl.read_csv(
        io.BytesIO("\n".join(lines).encode()),
        separator=separator,
        has_header=False,
        schema={str(i): pl.String for i in range(n_columns)},
    )
    if len(cells) != len(lines):
        raise BadFrame("its lines cannot be told apart; write it as plain CSV")
    return cells
