"""What Alpaca answers, as frames: bars, corporate actions, articles, quotes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

import polars as pl

from candlecast.domain.frames import (
    ACTIONS,
    INSTANT,
    NEWS,
    QUOTES,
)
from candlecast.errors import ProviderUnavailable

SOURCE: Final = "alpaca"
NEW_YORK: Final = "America/New_York"
NAMES: Final = {
    "o": "open",
    "h": "high",
    "l": "low",
    "c": "close",
    "v": "volume",
    "n": "trade_count",
    "vw": "vwap",
}
MERGERS: Final = ("cash_mergers", "stock_mergers", "stock_and_cash_mergers")


def wire_bars(
    answer: Mapping[str, Any], tickers: Mapping[str, str], *, is_daily: bool
) -> pl.DataFrame:
    """All bars of an `answer`, UNSTAMPED but for impossible values, null where one is unreadable.

    A bar that came twice counts as it came last. A daily bar is stamped midnight UTC of its date
    in New York.
    """
    schema = {"symbol": pl.String, "t": pl.String, **dict.fromkeys(NAMES.values(), pl.Float64)}
    parts = [pl.DataFrame(schema=schema)]
    try:
        for name in answer.keys() & tickers.keys():
            values = {"t": [bar.get("t") for bar in answer[name]]} | {
                column: pl.Series(
                    [bar.get(key) for bar in answer[name]], dtype=pl.Float64, strict=False
                )
                for key, column in NAMES.items()
            }
            part = pl.DataFrame(values, schema_overrides={"t": pl.String}, strict=False)
            parts.append(part.select(pl.lit(tickers[name]).alias("symbol"), *list(schema)[1:]))
    except (AttributeError, OverflowError, TypeError, pl.exceptions.PolarsError) as error:
        raise ProviderUnavailable(
            f"Alpaca's bars cannot be read ({error}); try again later"
        ) from error
    ts = pl.col("t").str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    at_midnight = ts.dt.convert_time_zone(NEW_YORK).dt.date().cast(pl.Datetime("us"))
    return (
        pl.concat(parts)
        .with_columns(
            pl.col(*NAMES.values()).fill_nan(None),
            ts=at_midnight.dt.replace_time_zone("UTC") if is_daily else ts,
            source=pl.lit(SOURCE),
        )
        # Without trades Alpaca writes zero for the price they had on average.
        .with_columns(vwap=pl.when(pl.col("vwap").is_between(0, float("inf"), "none")).then("vwap"))
        .unique(("symbol", "ts"), keep="last", maintain_order=True)
    )


def as_actions(
    answer: Mapping[str, list[Any]], tickers: Mapping[str, str] | None, now: datetime
) -> tuple[pl.DataFrame, dict[str, str]]:
    """ACTIONS of an `answer`, and which symbols have one that cannot be read.

    Several dividends of one ex-date are added, several splits multiplied. Alpaca does not say
    when an action was declared: it was public when its ex-date began.
    """
    rows, failures = [], {}
    seen: set[Any] = set()
    for group, actions in answer.items():
        for action in actions:
            if action.get("id") in seen:
                continue
            seen.add(action.get("id") or len(seen))
            name = action.get("acquiree_symbol") if group in MERGERS else action.get("symbol")
            ticker = name if tickers is None else tickers.get(name)
            if ticker is None:
                continue
            try:
                rows.append((ticker, *_action(group, action)))
            except (ArithmeticError, KeyError, TypeError, ValueError) as error:
                failures[ticker] = f"one of its {group} cannot be read ({error!r})"
    frame = pl.DataFrame(rows, orient="row", schema=dict(list(ACTIONS.columns.items())[:4]))
    one = (
        pl.when(pl.col("kind") == "split")
        .then(pl.col("value").product())
        .otherwise(pl.col("value").sum())
    )
    merged = frame.group_by("symbol", "ex_date", "kind").agg(one.first().alias("value"))
    known = pl.min_horizontal(pl.col("ex_date"), pl.lit(now).cast(INSTANT))
    return ACTIONS.conform(merged.with_columns(source=pl.lit(SOURCE), known_at=known)), failures


def as_news(
    articles: Iterable[Mapping[str, Any]], tickers: Mapping[str, str]
) -> tuple[pl.DataFrame, dict[str, str]]:
    """NEWS of `articles`, of each the version updated last, and which cannot be read.

    `source` is who wrote it, `known_at` when this version was published.
    """
    rows, failures = [], {}
    for article in articles:
        try:
            name = f"{SOURCE}:{article['id']}"
            created, updated = _instant(article["created_at"]), _instant(article["updated_at"])
            row = (
                name,
                created,
                str(article["source"]),
                str(article["headline"]),
                article.get("summary") or None,
                article.get("url") or None,
                sorted({tickers.get(symbol, symbol) for symbol in article.get("symbols") or ()}),
                max(created, updated),
            )
        except (KeyError, TypeError, ValueError) as error:
            failures[f"{SOURCE}:{article.get('id')}"] = f"cannot be read ({error!r})"
        else:
            rows.append(row)
    frame = pl.DataFrame(rows, schema=NEWS.columns, orient="row")
    newest = frame.sort("known_at", maintain_order=True).unique("id", keep="last")
    return NEWS.conform(newest), failures


def as_quotes(
    quotes: Mapping[str, Any], trades: Mapping[str, Any], tickers: Mapping[str, str], now: datetime
) -> tuple[pl.DataFrame, dict[str, str]]:
    """QUOTES of the newest quotes and trades by symbol, and which cannot be read."""
    rows, failures = [], {}
    for name, ticker in tickers.items():
        quote, trade = quotes.get(name) or {}, trades.get(name) or {}
        if not quote and not trade:
            continue
        try:
            times = [_instant(told["t"]) if told else None for told in (quote, trade)]
            known_at = min(max(at for at in times if at is not None), now)
            bid = _side(quote.get("bp"), quote.get("bs"))
            ask = _side(quote.get("ap"), quote.get("as"))
            last = _side(trade.get("p"), trade.get("s"))
        except (KeyError, TypeError, ValueError) as error:
            failures[ticker] = f"its last quote or trade cannot be read ({error!r})"
            continue
        sides = (bid[0], ask[0], bid[1], ask[1])
        rows.append((ticker, *sides, times[0], *last, times[1], SOURCE, known_at))
    return QUOTES.conform(pl.DataFrame(rows, schema=QUOTES.columns, orient="row")), failures


def _action(group: str, action: Mapping[str, Any]) -> tuple[datetime, str, float]:
    if group in {"forward_splits", "reverse_splits"}:
        return _midnight(action["ex_date"]), "split", action["new_rate"] / action["old_rate"]
    if group == "stock_dividends":
        return _midnight(action["ex_date"]), "split", 1.0 + action["rate"]
    if group == "cash_dividends":
        return _midnight(action["ex_date"]), "dividend", float(action["rate"])
    ended = action["effective_date"] if group in MERGERS else action["process_date"]
    return _midnight(ended), "delisting", 0.0


def _midnight(written: str) -> datetime:
    day = date.fromisoformat(written)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _instant(written: str) -> datetime:
    at = datetime.fromisoformat(written)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _side(price: Any, size: Any) -> tuple[float | None, float | None]:
    # A price of zero stands for a side that nobody quotes.
    return (float(price), float(size)) if price else (None, None)
