"""Which column of a table holds what: mapped by the caller, or detected by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from candlecast.errors import BadFrame, NotFound

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "symbol": ("symbol", "ticker", "sym", "instrument", "asset", "pair"),
    "ts": (
        "ts",
        "timestamp",
        "datetime",
        "date",
        "time",
        "opentime",
        "dt",
        "t",
        "day",
        "index",
        "",
    ),
    "open": ("open", "o", "openprice", "priceopen"),
    "high": ("high", "h", "highprice", "pricehigh"),
    "low": ("low", "l", "lowprice", "pricelow"),
    "close": ("close", "c", "closeprice", "priceclose", "last", "closelast"),
    "volume": ("volume", "v", "vol", "sharevolume", "tickvolume"),
    "adj_close": ("adjclose", "adjustedclose", "closeadj", "adjcloseprice", "adj"),
    "vwap": ("vwap", "vw", "weightedaverage"),
    "trade_count": ("tradecount", "trades", "numberoftrades", "numtrades", "n"),
}
"""The fields of a bar, and the names their columns go by, likeliest first; letters and digits
only, in lower case."""

REQUIRED: Final = ("ts", "open", "high", "low", "close")


@dataclass(frozen=True)
class Fields:
    """The fields of a `kind` of record, the names of their columns, and the `required` ones."""

    kind: str
    names: Mapping[str, tuple[str, ...]]
    required: tuple[str, ...]


BAR: Final = Fields("bar", NAMES, REQUIRED)


def check_mapping(columns: Mapping[str, str], fields: Fields = BAR) -> dict[str, str]:
    """`columns` unchanged, as a dict from field to column; NotFound names an unknown field."""
    for name in columns:
        if name not in fields.names:
            raise NotFound.among(f"field of a {fields.kind}", name, fields.names)
    return dict(columns)


def find_columns(
    found: Sequence[str], mapping: Mapping[str, str], fields: Fields = BAR
) -> dict[str, str]:
    """The column of each field that a table with the columns `found` has.

    What `mapping` names is taken from there, the rest is detected by name, whatever its case,
    spaces and punctuation. BadFrame lists what is missing and what there is.
    """
    chosen = dict(mapping)
    for column in mapping.values():
        if column not in found:
            raise BadFrame(str(NotFound.among("column", column, found)))
    # Of two columns with one name, the first counts.
    free = {_folded(name): name for name in reversed(found) if name not in mapping.values()}
    for name, synonyms in fields.names.items():
        known = [free[synonym] for synonym in synonyms if synonym in free]
        if known:
            chosen.setdefault(name, known[0])
    missing = [name for name in fields.required if name not in chosen]
    if missing and not found:
        raise BadFrame(f"no column for {', '.join(missing)}; it has none; mend or remove it")
    if missing:
        raise BadFrame(
            f"no column for {', '.join(missing)}; it has {', '.join(map(repr, found))}; "
            f"say which one it is, e.g. {missing[0]}='{found[-1]}'"
        )
    return chosen


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
