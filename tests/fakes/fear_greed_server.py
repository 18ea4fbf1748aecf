"""alternative.me's index of fear and greed: its wire format, newest day first, all as text."""

from datetime import UTC, datetime, timedelta

from fakes.http_faults import LocalServer, Reply

LABELS = ["Extreme Fear", "Fear", "Neutral", "Greed", "Extreme Greed"]


def entry(day, value):
    """One entry as the vendor writes it."""
    label = LABELS[min(int(value) // 20, 4)]
    stamp = str(int(day.timestamp()))
    return {"value": str(value), "value_classification": label, "timestamp": stamp}


def history(n_days, *, last=datetime(2024, 1, 10, tzinfo=UTC)):
    """`n_days` entries up to `last`, newest first; the newest tells when the next one is due."""
    days = [last - timedelta(days=n) for n in range(n_days)]
    entries = [entry(day, day.timetuple().tm_yday % 101) for day in days]
    entries[0]["time_until_update"] = "68499"
    return entries


class FearGreedServer(LocalServer):
    """Serves `entries` at /fng/, as many as ``limit`` asks for (0: all)."""

    def __init__(self, entries):
        self.entries = entries
        super().__init__(self._answer)

    def _answer(self, asked):
        if asked.path != "/fng/":
            return Reply(404)
        limit = int(asked.query.get("limit", 1))
        data = self.entries[:limit] if limit else self.entries
        return Reply.json(
            {"name": "Fear and Greed Index", "data": data, "metadata": {"error": None}}
        )
