"""CoinGecko's charts and global figures: paths, granularity and errors as the vendor has them."""

from datetime import UTC, datetime, timedelta

from fakes.http_faults import LocalServer, Reply

DAY = timedelta(days=1)


class CoinGeckoServer(LocalServer):
    """Serves the capitalisations of `coins` (id -> function of a day), as it stands at `now`.

    Spans above 90 days come as one value a day at 00:00 UTC and the newest one of the moment;
    shorter ones by the hour. Without a paid key nothing older than 365 days is told.
    """

    def __init__(self, coins, *, now, key=None):
        self.coins, self.now, self.key = coins, now, key
        self.total, self.shares = 2_721_226_850_772.63, {"btc": 50.4, "eth": 14.9}
        self.updated_at = now - timedelta(minutes=4)
        super().__init__(self._answer)

    def _answer(self, asked):
        if self.key and asked.headers.get("x-cg-demo-api-key") != self.key:
            return _error(401, 10002, "API Key Missing")
        match asked.path.split("/"):
            case ["", "api", "v3", "global"]:
                return Reply.json({"data": self._global()})
            case ["", "api", "v3", "coins", coin, "market_chart", "range"] if coin in self.coins:
                return self._chart(self.coins[coin], asked.query)
        return Reply.json({"error": "coin not found"}, 404)

    def _global(self):
        return {
            "active_cryptocurrencies": 13690,
            "total_market_cap": {"btc": 39003738.08, "usd": self.total},
            "total_volume": {"usd": 78480204124.3},
            "market_cap_percentage": self.shares,
            "market_cap_change_percentage_24h_usd": 1.72,
            "updated_at": int(self.updated_at.timestamp()),
        }

    def _chart(self, capitalisation, query):
        start, end = (datetime.fromtimestamp(int(query[k]), UTC) for k in ("from", "to"))
        if self.now - start > 365 * DAY:
            return _error(401, 10012, "Your request exceeds the allowed time range")
        if end - start > 90 * DAY:
            first = start.replace(hour=0, minute=0, second=0) + DAY
            times = [first + n * DAY for n in range((end - first).days + 1)]
            times = [t for t in times if t + timedelta(minutes=35) <= self.now] + [end]
        else:
            n_hours = int((end - start) / timedelta(hours=1)) + 1
            times = [start + timedelta(hours=n, seconds=41) for n in range(n_hours)]
        points = [[int(t.timestamp() * 1000), capitalisation(t)] for t in times]
        return Reply.json({"prices": points, "market_caps": points, "total_volumes": points})


def _error(status, code, message):
    body = {"status": {"error_code": code, "error_message": message}}
    return Reply.json(body, status)
