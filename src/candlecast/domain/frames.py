"""BARS, PRICES, ACTIONS, NEWS, FEATURES …: columns, dtypes, units, sort order, check(frame)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from candlecast.domain.distribution import LEVELS
from candlecast.domain.order import ascends
from candlecast.errors import BadFrame

INSTANT: Final = pl.Datetime("us", "UTC")
QUANTILES: Final = tuple(f"q{round(level * 1000):03d}" for level in LEVELS)
"""Column names of the 17 quantiles: q010, q025 … q990."""


@dataclass(frozen=True)
class FrameSpec:
    """One kind of frame: `columns` in order, its `key`, and which columns may hold nulls.

    Frames are long, sorted by `key` and unique in it. `is_open` frames may carry further
    columns behind the named ones.
    """

    name: str
    columns: dict[str, pl.DataType | type[pl.DataType]]
    key: tuple[str, ...]
    nullable: frozenset[str] = frozenset()
    is_open: bool = False

    def empty(self) -> pl.DataFrame:
        """A frame of this kind without rows."""
        return pl.DataFrame(schema=self.columns)

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """`frame` with columns in order, cast, missing nullable ones added, sorted; checked."""
        absent = [n for n in self.columns if n not in frame.columns and n not in self.nullable]
        if absent:
            raise BadFrame(f"{self.name} lacks {', '.join(absent)}; it has {frame.columns}")
        present = frame.with_columns(
            pl.lit(None, dtype=dtype).alias(name)
            for name, dtype in self.columns.items()
            if name not in frame.columns
        )
        extra = [n for n in frame.columns if n not in self.columns] if self.is_open else []
        try:
            cast = present.select(
                *(pl.col(name).cast(dtype) for name, dtype in self.columns.items()), *extra
            )
        except pl.exceptions.PolarsError as error:
            raise BadFrame(f"{self.name}: {error}") from error
        return self.check(cast.sort(self.key))

    def check(self, frame: pl.DataFrame) -> pl.DataFrame:
        """`frame` unchanged; BadFrame says what is wrong and where."""
        named = frame.columns[: len(self.columns)]
        if named != list(self.columns) or (len(frame.columns) > len(named) and not self.is_open):
            raise BadFrame(f"{self.name} has columns {frame.columns}, not {list(self.columns)}")
        for name, dtype in self.columns.items():
            if frame.schema[name] != dtype:
                raise BadFrame(f"{self.name}.{name} is {frame.schema[name]}, not {dtype}")
            if name not in self.nullable and frame[name].null_count():
                raise BadFrame(f"{self.name}.{name} holds nulls; drop or fill these rows")
        self._check_order(frame)
        return frame

    def _check_order(self, frame: pl.DataFrame) -> None:
        # Bars arrive a few rows at a time: one query, and more only where something is wrong.
        if frame.select(ascends(self.key, strictly=True).all()).item():
            return
        if not frame.select(ascends(self.key, strictly=False).all()).item():
            raise BadFrame(f"{self.name} is not sorted by {', '.join(self.key)}")
        twice = frame.select(self.key).filter(~ascends(self.key, strictly=True)).row(0)
        raise BadFrame(f"{self.name} holds {twice} twice; keep one of the rows")


BARS: Final = FrameSpec(
    "BARS",
    {
        "symbol": pl.String,
        "ts": INSTANT,  # bar open; for 1d midnight UTC of the session date
        "open": pl.Float64,  # quote currency, as the source gave it
        "high": pl.Float64,
        "low": pl.Float64,
        "close": pl.Float64,
        "volume": pl.Float64,  # units traded
        "adj_close": pl.Float64,  # close adjusted for splits and dividends, where known
        "vwap": pl.Float64,
        "trade_count": pl.Int64,
        "source": pl.String,
        "known_at": INSTANT,  # first moment this version of the row could be used
    },
    key=("symbol", "ts"),
    nullable=frozenset({"adj_close", "vwap", "trade_count"}),
)

UNSTAMPED: Final = FrameSpec(
    "UNSTAMPED",  # BARS as a provider returns them
    {name: dtype for name, dtype in BARS.columns.items() if name != "known_at"},
    key=BARS.key,
    nullable=BARS.nullable,
)

QUARANTINE: Final = FrameSpec(
    "QUARANTINE",  # bars that cannot be true, kept aside with the reason
    {
        "symbol": pl.String,
        "source": pl.String,
        "place": pl.String,  # where the source has it: file:line, or the bar's time
        "ts": INSTANT,  # null where it could not be read
        **dict.fromkeys(("open", "high", "low", "close", "volume", "adj_close"), pl.Float64),
        "reason": pl.String,
    },
    key=("symbol", "source", "place"),
    nullable=frozenset({"ts", "open", "high", "low", "close", "volume", "adj_close"}),
)

ACTIONS: Final = FrameSpec(
    "ACTIONS",
    {
        "symbol": pl.String,
        "ex_date": INSTANT,  # midnight UTC of the first session without the entitlement
        "kind": pl.String,  # split, dividend or delisting
        "value": pl.Float64,  # new shares for one old; money a share before the event; 0
        "source": pl.String,
        "known_at": INSTANT,
    },
    key=("symbol", "ex_date", "kind"),
)

NEWS: Final = FrameSpec(
    "NEWS",
    {
        "id": pl.String,  # the provider's name and its own id
        "published_at": INSTANT,
        "source": pl.String,
        "headline": pl.String,
        "summary": pl.String,
        "url": pl.String,
        "symbols": pl.List(pl.String),  # tickers it speaks of; empty: of the market
        "known_at": INSTANT,
    },
    key=("id",),
    nullable=frozenset({"summary", "url"}),
)

POSTS: Final = FrameSpec(
    "POSTS",
    {
        "id": pl.String,
        "posted_at": INSTANT,
        "source": pl.String,
        "author": pl.String,
        "text": pl.String,
        "symbols": pl.List(pl.String),
        "weight": pl.Float64,  # how much it counts, as its user says; null: not told
        "known_at": INSTANT,
    },
    key=("id",),
    nullable=frozenset({"author", "weight"}),
)

TEXTS: Final = FrameSpec(
    "TEXTS",  # news and posts as features see them: scored
    {
        "id": pl.String,
        "kind": pl.String,  # news or post
        "symbols": pl.List(pl.String),  # tickers it speaks of; empty: of the market
        "weight": pl.Float64,  # how much it counts, > 0
        "score": pl.Float64,  # from -1, bad for them, to 1
        "known_at": INSTANT,
    },
    key=("id",),
)

INDICES: Final = FrameSpec(
    "INDICES",
    {
        "name": pl.String,  # e.g. fear_greed
        "ts": INSTANT,  # the start of the period that the value is about
        "value": pl.Float64,
        "label": pl.String,
        "source": pl.String,
        "known_at": INSTANT,
    },
    key=("name", "ts"),
    nullable=frozenset({"label"}),
)

CAPITALISATIONS: Final = FrameSpec(
    "CAPITALISATIONS",
    {
        "asset": pl.String,  # a ticker such as BTC-USD, or TOTAL for the whole market
        "ts": INSTANT,
        "value": pl.Float64,  # US dollars
        "source": pl.String,
        "known_at": INSTANT,
    },
    key=("asset", "ts"),
)

QUOTES: Final = FrameSpec(
    "QUOTES",  # the last quote and the last trade of each symbol
    {
        "symbol": pl.String,
        "bid": pl.Float64,
        "ask": pl.Float64,
        "bid_size": pl.Float64,
        "ask_size": pl.Float64,
        "quote_at": INSTANT,
        "price": pl.Float64,
        "size": pl.Float64,
        "trade_at": INSTANT,
        "source": pl.String,
        "known_at": INSTANT,
    },
    key=("symbol",),
    nullable=frozenset(
        {"bid", "ask", "bid_size", "ask_size", "quote_at", "price", "size", "trade_at"}
    ),
)

LARGE_TRADES: Final = FrameSpec(
    "LARGE_TRADES",  # how much of a bar was traded in large pieces
    {
        "symbol": pl.String,
        "ts": INSTANT,  # of the one-minute bar
        "n_trades": pl.Int64,
        "volume": pl.Float64,
        "n_large": pl.Int64,  # trades of at least `threshold`
        "large_volume": pl.Float64,
        "threshold": pl.Float64,  # money
        "source": pl.String,
        "known_at": INSTANT,
    },
    key=("symbol", "ts"),
)

PRICES: Final = FrameSpec(
    "PRICES",
    {
        "symbol": pl.String,
        "ts": INSTANT,
        "open": pl.Float64,  # adjusted: the source's price times `factor`
        "high": pl.Float64,
        "low": pl.Float64,
        "close": pl.Float64,
        "volume": pl.Float64,  # divided by `factor`, so that price times volume is money
        "factor": pl.Float64,  # adjusted over raw price
        "session": pl.Int64,  # ordinal of the session in the symbol's calendar
        "segment": pl.Int64,  # a symbol between two real gaps
        "close_at": INSTANT,  # when the bar ended
        "known_at": INSTANT,
    },
    key=("symbol", "ts"),
)

FEATURES: Final = FrameSpec(
    "FEATURES",
    {"symbol": pl.String, "ts": INSTANT, "as_of": INSTANT},  # then one Float64 column each
    key=("symbol", "ts"),
    is_open=True,
)

LABELS: Final = FrameSpec(
    "LABELS",
    {
        "symbol": pl.String,
        "ts": INSTANT,  # of the bar the outcome is counted from
        "horizon": pl.String,
        "horizon_bars": pl.Int64,
        "value": pl.Float64,  # log return, or the class of a classifying label
        "end_at": INSTANT,  # when the outcome is known; later than every bar for open labels
        "confidence": pl.Float64,  # in [0, 1]: how clearly the outcome is on its side
    },
    key=("symbol", "ts", "horizon"),
    nullable=frozenset({"value", "confidence"}),
)

FORECASTS: Final = FrameSpec(
    "FORECASTS",
    {
        "symbol": pl.String,
        "as_of": INSTANT,  # first moment the forecast could have been made
        "horizon": pl.String,
        "horizon_bars": pl.Int64,
        "ts": INSTANT,  # of the newest bar used
        "end_at": INSTANT,  # when the outcome is known
        "last_close": pl.Float64,  # quote currency, as the source gave it
        "lower": pl.Float64,  # log-return thresholds of the label
        "upper": pl.Float64,
        **dict.fromkeys(QUANTILES, pl.Float64),
    },
    key=("symbol", "as_of", "horizon"),
    is_open=True,
)
