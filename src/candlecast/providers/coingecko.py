"""Market capitalisations of coins, and of all of them together, from CoinGecko."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Any, Final

import polars as pl

from candlecast.domain.catalog import PROVIDERS
from candlecast.domain.dominance import TOTAL
from candlecast.domain.frames import CAPITALISATIONS, INSTANT
from candlecast.domain.market import Clock, Symbol
from candlecast.domain.sources import FetchedRows, Request
from candlecast.domain.tickers import vendor_names
from candlecast.errors import NotFound
from candlecast.providers.http import HttpClient, Politeness, nonsense
from candlecast.providers.records import within_span

SOURCE: Final = "coingecko"
BITCOIN: Final = Symbol("BTC-USD", "crypto", "24/7")
FIRST_DAY: Final = datetime(2013, 4, 28, tzinfo=UTC)
LAST_DAY: Final = datetime(2200, 1, 1, tzinfo=UTC)
FREE_SPAN: Final = timedelta(days=364)
"""How far back the vendor goes for who does not pay: 365 days, less one for clocks that differ."""
DAILY_SPAN: Final = timedelta(days=92)
"""A span of more than 90 days is answered with one value a day, stamped 00:00 UTC."""
STAMPED_WITHIN: Final = timedelta(hours=1)
"""A value stamped later in its day is the newest one of the moment, not the day's."""
RAW: Final = {"at_ms": pl.Float64, "value": pl.Float64}


@PROVIDERS.register(SOURCE)
class CoinGeckoProvider:
    """Market capitalisations in US dollars: of each coin by day, of the whole market now.

    Parameters
    ----------
    base_url : the public address, or that of the paid service
    key : demo key, or the paid one where `base_url` names the host of the paid service
    politeness : limits of rate, tries, time and size; public rate limits are about 30 a minute

    Notes
    -----
    CAPITALISATIONS. Without symbols those of BTC-USD. A coin's value has `ts` at midnight UTC;
    the vendor has it 35 minutes later. The history of the whole market (TOTAL) is not free, so
    it grows from call to call: TOTAL, and the asked coins that the vendor gives the share of, as
    they stand at `updated_at`, when they are known. Coins are found by a table of the large ones,
    or by an alias that is the vendor's id. Zero and absent values mean unknown and are left out, as
    are those that cannot be true: infinite ones, and shares of more than all of the market.

    Raises
    ------
    BadCredentials : the key is wrong, or does not buy a history of more than a year.
    RateLimited, ProviderUnavailable : the vendor does not answer, or answers nonsense.

    References
    ----------
    https://docs.coingecko.com/reference/coins-id-market-chart-range and …/reference/crypto-global
    """

    delay_seconds = 35 * 60.0

    def __init__(
        self,
        *,
        base_url: str = "https://api.coingecko.com/api/v3",
        key: str | None = None,
        politeness: Politeness | None = None,
    ) -> None:
        self.base_url = base_url
        self.is_paid = "pro-api." in base_url
        self.politeness = politeness or Politeness(min_interval_seconds=2.1)
        header = "x-cg-pro-api-key" if self.is_paid else "x-cg-demo-api-key"
        self._headers = {header: key} if key else {}

    def fetch_capitalisations(self, request: Request, clock: Clock) -> FetchedRows:
        """CAPITALISATIONS with `ts` within the request's span; unknown coins in `failures`."""
        symbols = request.symbols or (BITCOIN,)
        now = clock.now()
        end = min(request.end or now, now)
        start = request.start or (FIRST_DAY if self.is_paid else now - FREE_SPAN)
        names, failures = vendor_names(SOURCE, [s for s in symbols if s.ticker != TOTAL])
        frames = []
        with HttpClient(
            SOURCE, self.base_url, politeness=self.politeness, headers=self._headers
        ) as client:
            for name, ticker in names.items():
                try:
                    frames.append(self._history(client, name, ticker, (start, end)))
                except NotFound as error:
                    failures[ticker] = str(error)
            if end >= now:
                frames.append(_present(client, symbols))
        rows = pl.concat(frames) if frames else CAPITALISATIONS.empty()
        # What the vendor says of a time to come, by its clock or by mistake, is not known yet.
        rows = within_span(rows.filter(pl.col("known_at") <= now), "ts", request)
        return FetchedRows(CAPITALISATIONS.conform(rows), failures)

    def _history(
        self, client: HttpClient, name: str, ticker: str, span: tuple[datetime, datetime]
    ) -> pl.DataFrame:
        start, end = span
        # An hour more, so that a midnight at the start does not depend on who counts the edge.
        first = min(start, end - DAILY_SPAN) - timedelta(hours=1)
        path = f"/coins/{name}/market_chart/range"
        answer = client.get_json(
            path,
            {
                "vs_currency": "usd",
                "from": int(first.timestamp()),
                "to": int(end.timestamp()),
            },
        )
        at = pl.col("at")
        return (
            _pairs(answer, f"{SOURCE} {path}")
            .filter(pl.col("value").is_finite() & (pl.col("value") > 0))
            .with_columns(ts=at.dt.truncate("1d"))
            .filter(at - pl.col("ts") < STAMPED_WITHIN)
            .sort("at")
            .unique("ts", keep="first", maintain_order=True)
            .select(
                asset=pl.lit(ticker),
                ts="ts",
                value="value",
                source=pl.lit(SOURCE),
                known_at=at + timedelta(seconds=self.delay_seconds),
            )
        )


def _pairs(answer: Any, what: str) -> pl.DataFrame:
    # `at` and `value` of each capitalisation. A stamp beyond the calendar is none.
    try:
        pairs = [(float(at), value) for at, value in answer["market_caps"]]
        rows = pl.DataFrame(pairs, schema=RAW, orient="row", strict=True)
    except (KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise nonsense(what) from error
    if not rows["at_ms"].is_between(0, LAST_DAY.timestamp() * 1000).all():
        raise nonsense(what)
    whole = pl.col("at_ms").cast(pl.Int64)
    return rows.select(pl.from_epoch(whole, "ms").cast(INSTANT).alias("at"), "value")


def _present(client: HttpClient, symbols: Sequence[Symbol]) -> pl.DataFrame:
    # The whole market as it stands, and what the vendor says each asked coin's share of it is.
    path = "/global"
    answer = client.get_json(path)
    try:
        data = answer["data"]
        total = float(data["total_market_cap"]["usd"])
        shares = {coin: float(share) / 100 for coin, share in data["market_cap_percentage"].items()}
        at = datetime.fromtimestamp(int(data["updated_at"]), UTC)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise nonsense(f"{SOURCE} {path}") from error
    values, believed = {TOTAL: total}, {c: share for c, share in shares.items() if share <= 1}
    for symbol in symbols:
        base, _, quote = symbol.ticker.rpartition("-")
        if symbol.asset_class == "crypto" and quote == "USD" and base.lower() in believed:
            values[symbol.ticker] = total * believed[base.lower()]
    rows = [(asset, at, v, SOURCE, at) for asset, v in values.items() if isfinite(v) and v > 0]
    return pl.DataFrame(rows, schema=CAPITALISATIONS.columns, orient="row")
