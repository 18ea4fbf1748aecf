"""Binance and Coinbase on 127.0.0.1: markets, candles and tickers as both write them.

with ExchangeServer(now) as server:
    server.markets["BTC-USDT"] = Market(minutes)
    server.faults += [RESET]  # meets the next question for candles

A minute is (epoch seconds, open, high, low, close, volume, money, n_trades); all other candles are
made of them, also the unfinished ones of `now`. A quiet minute has no candle.
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime

from fakes.http_faults import Asked, LocalServer, Reply

BINANCE, COINBASE = "/api/v3/", "/api/v3/brokerage/market/products"
SECONDS = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "4h": 14_400, "1d": 86_400}
GRANULARITIES = {
    "ONE_MINUTE": 60,
    "FIVE_MINUTE": 300,
    "FIFTEEN_MINUTE": 900,
    "THIRTY_MINUTE": 1800,
    "ONE_HOUR": 3600,
    "ONE_DAY": 86_400,
}
BINANCE_PAGE, COINBASE_PAGE = 1000, 350


@dataclass
class Market:
    """One pair: its minutes, and whether it is traded still."""

    minutes: list
    is_traded: bool = True


class CandleFaults(deque):
    """Faults that wait for a question for candles."""

    def __init__(self, server):
        super().__init__()
        self._server = server

    def __bool__(self):
        return len(self) > 0 and _is_candles(self._server.asked[-1])


class ExchangeServer(LocalServer):
    """`markets` by base-quote; `edit(rows, asked)` may spoil the rows before they make a page."""

    def __init__(self, now: datetime):
        super().__init__(self._answer)
        self.now = int(now.timestamp())
        self.markets: dict[str, Market] = {}
        self.edit = lambda rows, asked: rows
        self.page_edit = lambda rows, asked: rows
        self.faults = CandleFaults(self)

    @property
    def pages(self) -> list[Asked]:
        """What was asked for of candles."""
        return [asked for asked in self.asked if _is_candles(asked)]

    def candles(self, market, seconds):
        """The candles of so many seconds that have begun by now, ascending."""
        groups = {}
        for row in market.minutes:
            if row[0] <= self.now:
                groups.setdefault(row[0] // seconds * seconds, []).append(row)
        return [(start, *_merged(rows)) for start, rows in groups.items()]

    def _answer(self, asked):
        if asked.path.startswith(COINBASE):
            return self._coinbase(asked)
        name = asked.query.get("symbol")
        if asked.path == f"{BINANCE}exchangeInfo":
            return Reply.json({"timezone": "UTC", "symbols": [*map(self._symbol, self.markets)]})
        market = next((m for key, m in self.markets.items() if key.replace("-", "") == name), None)
        if market is None:
            return Reply.json({"code": -1121, "msg": "Invalid symbol."}, 400)
        if asked.path == f"{BINANCE}ticker/24hr":
            return Reply.json(self._binance_ticker(name, market))
        rows = self.edit(self.candles(market, SECONDS[asked.query["interval"]]), asked)
        since = int(asked.query["startTime"]) // 1000
        limit = min(int(asked.query["limit"]), BINANCE_PAGE)
        page = self.page_edit([row for row in rows if row[0] >= since][:limit], asked)
        return Reply.json([_kline(row, SECONDS[asked.query["interval"]]) for row in page])

    def _symbol(self, key):
        base, quote = key.split("-")
        return {
            "symbol": base + quote,
            "status": "TRADING" if self.markets[key].is_traded else "BREAK",
            "baseAsset": base,
            "baseAssetPrecision": 8,
            "quoteAsset": quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [],
            "permissions": ["SPOT"],
        }

    def _binance_ticker(self, name, market):
        last = market.minutes[-1]
        return {
            "symbol": name,
            "lastPrice": str(last[4]),
            "lastQty": "0.5",
            "bidPrice": str(last[4] - 1),
            "bidQty": "2.0",
            "askPrice": str(last[4] + 1),
            "askQty": "3.0",
            "openTime": (self.now - 86_400) * 1000,
            "closeTime": self.now * 1000,
            "count": 7,
        }

    def _coinbase(self, asked):
        if asked.path == COINBASE:
            keys = self.markets if "product_type" not in asked.query else ()
            products = [self._product(key) for key in keys]
            return Reply.json({"products": products, "num_products": len(products)})
        name, what = asked.path.removeprefix(f"{COINBASE}/").split("/")
        if name not in self.markets:
            said = "valid product_id is required"
            return Reply.json({"error": "NOT_FOUND", "error_details": said, "message": said}, 404)
        market = self.markets[name]
        if what == "ticker":
            return Reply.json(self._coinbase_ticker(name, market))
        start, end = int(asked.query["start"]), int(asked.query["end"])
        seconds = GRANULARITIES[asked.query["granularity"]]
        if (end - start) // seconds > COINBASE_PAGE:
            said = "number of candles requested should be less than 350"
            return Reply.json({"error": "INVALID_ARGUMENT", "message": said}, 400)
        rows = self.edit(self.candles(market, seconds), asked)
        page = self.page_edit([row for row in rows if start <= row[0] <= end], asked)
        return Reply.json({"candles": [_candle(row) for row in reversed(page)]})

    def _product(self, key):
        base, quote = key.split("-")
        return {
            "product_id": key,
            "price": "1",
            "base_increment": "0.00000001",
            "quote_increment": "0.01",
            "quote_min_size": "1",
            "quote_max_size": "150000000",
            "base_min_size": "0.00000001",
            "base_max_size": "3400",
            "base_name": base,
            "quote_name": quote,
            "is_disabled": False,
            "status": "online",
            "trading_disabled": not self.markets[key].is_traded,
            "product_type": "SPOT",
            "quote_currency_id": quote,
            "base_currency_id": base,
            "alias": "",
            "alias_to": [],
            "price_increment": "0.01",
        }

    def _coinbase_ticker(self, name, market):
        last = market.minutes[-1]
        trade = {
            "trade_id": "518078013",
            "product_id": name,
            "price": str(last[4]),
            "size": "0.5",
            "time": f"{datetime.fromtimestamp(self.now).astimezone():%Y-%m-%dT%H:%M:%S%z}",
            "side": "BUY",
            "bid": "",
            "ask": "",
        }
        return {"trades": [trade], "best_bid": str(last[4] - 1), "best_ask": str(last[4] + 1)}


def _is_candles(asked):
    return asked.path.endswith(("/klines", "/candles"))


def _merged(rows):
    return (
        rows[0][1],
        max(row[2] for row in rows),
        min(row[3] for row in rows),
        rows[-1][4],
        *(sum(row[i] for row in rows) for i in (5, 6, 7)),
    )


def _kline(row, seconds):
    at, *numbers, money, n_trades = row
    written = [f"{number:.8f}" for number in numbers]
    end = (at + seconds) * 1000 - 1
    return [at * 1000, *written, end, f"{money:.8f}", n_trades, "0", "0", "0"]


def _candle(row):
    names = ("start", "open", "high", "low", "close", "volume")
    return {
        name: f"{value:.8f}".rstrip("0").rstrip(".")
        for name, value in zip(names, row, strict=False)
    }
