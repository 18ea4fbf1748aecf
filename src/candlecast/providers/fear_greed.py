"""The Crypto Fear & Greed Index of alternative.me, one value a day since February 2018."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import polars as pl

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.frames import INDICES, INSTANT
from candlecast.domain.market import Clock
from candlecast.domain.sources import FetchedRows, Request
from candlecast.errors import ProviderUnavailable
from candlecast.providers.http import HttpClient, Politeness, nonsense
from candlecast.providers.records import within_span

NAME: Final = "fear_greed"
VENDOR: Final = "alternative.me"
PATH: Final = "/fng/"
ENTRY: Final = {"value": pl.String, "value_classification": pl.String, "timestamp": pl.String}


@PROVIDERS.register(NAME)
class FearGreedProvider:
    """Crypto Fear & Greed: 0 is extreme fear, 100 extreme greed; no key is needed.

    Parameters
    ----------
    base_url : where the vendor answers
    politeness : limits of rate, tries, time and size; the vendor allows 60 requests a minute

    Notes
    -----
    INDICES named ``fear_greed``; `ts` is midnight UTC of the day, days that the vendor lacks stay
    missing. A day's value comes out on that day: at 05:00 UTC by the stamps of 2019, at midnight
    by today's. `known_at` is the stamp plus six hours, later than either, so that no value is
    used before its time. Entries that cannot be true are refused, with the reason in `failures`;
    a day that has not begun is left out.

    Raises
    ------
    RateLimited, ProviderUnavailable : the vendor does not answer, or answers nonsense.

    References
    ----------
    https://alternative.me/crypto/fear-and-greed-index/#api
    """

    delay_seconds = 6 * 3600.0

    def __init__(
        self,
        *,
        base_url: str = "https://api.alternative.me",
        politeness: Politeness | None = None,
    ) -> None:
        self.base_url = base_url
        self.politeness = politeness or Politeness(min_interval_seconds=1.0)

    def fetch_index(self, request: Request, clock: Clock) -> FetchedRows:
        """INDICES with `ts` within the request's span; its symbols do not matter."""
        now = clock.now()
        # 0 asks for all there is.
        n_days = 0 if request.start is None else max((now - request.start).days + 2, 1)
        with HttpClient(VENDOR, self.base_url, politeness=self.politeness) as client:
            answer = client.get_json(PATH, {"limit": n_days, "format": "json"})
        entries = _as_entries(answer)
        reason = _reason()
        refused = entries.with_columns(reason=reason).filter(pl.col("reason").is_not_null())
        rows = _as_indices(entries.filter(reason.is_null()), self.delay_seconds)
        rows = within_span(rows.filter(pl.col("ts") <= now), "ts", request)
        return FetchedRows(rows, _failures(refused, len(entries)))


def _as_entries(answer: Any) -> pl.DataFrame:
    # Raw entries with `n`, their place in the answer; `at` is null where a stamp is none.
    what = f"{VENDOR} {PATH}"
    if not isinstance(answer, dict):
        raise nonsense(what)
    metadata = answer.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise nonsense(what)
    error = metadata.get("error")
    if error:
        raise ProviderUnavailable(f"{what} answered with an error: {error}; try again later")
    data = answer.get("data")
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise nonsense(what)
    texts = {
        name: [None if entry.get(name) is None else str(entry[name]) for entry in data]
        for name in ENTRY
    }
    seconds = pl.col("timestamp").str.strip_chars().cast(pl.Int64, strict=False)
    is_sane = seconds.is_between(0, int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()))
    return (
        pl.DataFrame(texts, schema=ENTRY)
        .with_row_index("n", offset=1)
        .with_columns(
            number=pl.col("value").str.strip_chars().cast(pl.Float64, strict=False),
            at=pl.when(is_sane).then(pl.from_epoch(seconds, "s")).cast(INSTANT),
        )
    )


def _reason() -> pl.Expr:
    number = pl.col("number")
    return (
        pl.when(pl.col("at").is_null())
        .then(pl.format("timestamp '{}' is no instant", pl.col("timestamp").fill_null("")))
        .when(number.is_null() | ~number.is_between(0, 100))
        .then(pl.format("value '{}' is not within 0 and 100", pl.col("value").fill_null("")))
    )


def _as_indices(entries: pl.DataFrame, delay_seconds: float) -> pl.DataFrame:
    # Of two entries of one day the later stamp counts, and of equal stamps the one listed first.
    rows = entries.sort("at", "n", descending=[True, False]).select(
        name=pl.lit(NAME),
        ts=pl.col("at").dt.truncate("1d"),
        value="number",
        label="value_classification",
        source=pl.lit(NAME),
        known_at=pl.col("at") + timedelta(seconds=delay_seconds),
    )
    return INDICES.conform(rows.unique(["name", "ts"], keep="first", maintain_order=True))


def _failures(refused: pl.DataFrame, n_entries: int) -> dict[str, str]:
    if refused.is_empty():
        return {}
    first = refused.row(0, named=True)
    return {
        NAME: f"{len(refused)} of {n_entries} entries are refused, first entry {first['n']}: "
        f"{first['reason']}"
    }
