"""Yahoo's chart on 127.0.0.1: v8 JSON as Yahoo writes it, with its cookies, limits and habits.

with YahooServer(now) as server:
    server.listings["AAPL"] = Listing(daily=rows, splits=[(at, 4, 1)])
    server.faults += [RESET]  # meets the next question for a chart, not one for a cookie

Rows are as traded; the server restates them in today's shares and 32-bit numbers, as Yahoo does.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import formatdate

import numpy as np

from fakes.http_faults import Asked, LocalServer, Reply

CHART = "/v8/finance/chart/"
CRUMB = "cRuMb.42"
DAY = 86_400
MINUTES = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "60m": 60, "1h": 60, "1d": None}
LIMITS = {"1m": (30, 8), "5m": (60, 60), "15m": (60, 60), "60m": (730, 730), "1h": (730, 730)}
"""Days back, days a request."""
NUMBERS = ("open", "high", "low", "close", "volume")


@dataclass
class Listing:
    """One symbol. Rows are (epoch seconds, open, high, low, close, volume), as traded, ascending;
    None for numbers where nothing was traded. `minutely` rows make all intraday ones."""

    daily: list = field(default_factory=list)
    minutely: list = field(default_factory=list)
    splits: list = field(default_factory=list)  # (epoch seconds, numerator, denominator)
    dividends: list = field(default_factory=list)  # (epoch seconds, money a share of its day)
    zone: str = "America/New_York"
    kind: str = "EQUITY"
    sessions: list = field(default_factory=list)  # (open, close) of the minutes' days


class ChartFaults(deque):
    """Faults that wait for a question for a chart."""

    def __init__(self, server):
        super().__init__()
        self._server = server

    def __bool__(self):
        return len(self) > 0 and self._server.asked[-1].path.startswith(CHART)


class YahooServer(LocalServer):
    """`listings` by Yahoo's names; `edit(rows)` may spoil the rows of each answer.

    Its clock stands at `now`, also in the ``Date`` of its answers.
    """

    def __init__(self, now: datetime):
        super().__init__(self._answer)
        self.now = now.timestamp()
        self.listings: dict[str, Listing] = {}
        self.edit = lambda rows: rows
        self.live_row = None  # (open, high, low, close, volume) of the unfinished bar
        self.faults = ChartFaults(self)
        clock = {"date_time_string": lambda *_: formatdate(self.now, usegmt=True)}
        handler = self._server.RequestHandlerClass
        self._server.RequestHandlerClass = type("Handler", (handler,), clock)

    @property
    def charts(self) -> list[Asked]:
        """What was asked for of charts."""
        return [asked for asked in self.asked if asked.path.startswith(CHART)]

    def _answer(self, asked):
        if asked.path == "/v1/test/getcrumb":
            return Reply(200, CRUMB.encode(), {"Content-Type": "text/plain"})
        if not asked.path.startswith(CHART):  # where the cookie is given, and the consent page
            cookie = {"Set-Cookie": "A3=d=AQ; Max-Age=31557600; Path=/"}
            return Reply(404, b"<html>no form here</html>", cookie)
        listing = self.listings.get(asked.path.removeprefix(CHART))
        if listing is None:
            return _refusal(404, "Not Found", "No data found, symbol may be delisted")
        interval = asked.query["interval"]
        if "range" in asked.query:
            start, end = self.now - DAY, self.now + DAY
        else:
            start, end = int(asked.query["period1"]), int(asked.query["period2"])
        if interval in LIMITS and (why := self._beyond(interval, start, end)):
            return _refusal(422, "Unprocessable Entity", why)
        rows = [row for row in self._rows(listing, interval) if start <= row[0] < end]
        if not rows and interval != "1d":
            why = f"Data doesn't exist for startDate = {start}, endDate = {end}"
            return _refusal(400, "Bad Request", why)
        return self._chart(listing, asked, rows, (start, end))

    def _beyond(self, interval, start, end):
        days_back, days_a_request = LIMITS[interval]
        if start < self.now - days_back * DAY:
            return (
                f"{interval} data not available for startTime={start} and endTime={end}. The "
                f"requested range must be within the last {days_back} days."
            )
        if end - start > days_a_request * DAY:
            return f"Only {days_a_request} days worth of {interval} granularity data are allowed"
        return None

    def _rows(self, listing, interval):
        minutes = MINUTES[interval]
        rows = {None: listing.daily, 1: listing.minutely}.get(minutes)
        rows = _grouped(listing, minutes) if rows is None else rows
        rows = [row for row in rows if row[0] <= self.now]
        if self.live_row is not None:
            rows.append((int(self.now), *self.live_row))
        return [(row[0], *_restated(row, listing.splits)) for row in rows]

    def _chart(self, listing, asked, rows, span):
        rows = self.edit(rows)
        last = rows[-1] if rows else (int(self.now), *[None] * 5)
        result = {
            "meta": {
                "currency": "USD",
                "symbol": asked.path.removeprefix(CHART),
                "exchangeName": "NMS",
                "instrumentType": listing.kind,
                "regularMarketTime": last[0],
                "regularMarketPrice": last[4],
                "exchangeTimezoneName": listing.zone,
                "timezone": "EST",
                "gmtoffset": -18000,
                "priceHint": 2,
                "dataGranularity": asked.query["interval"],
                "range": "",
                "validRanges": ["1d", "5d", "1mo", "max"],
            },
            "indicators": {"quote": [{}]},
        }
        if asked.query["interval"] != "1d":
            result["meta"]["tradingPeriods"] = [
                [{"timezone": "EST", "start": start, "end": end, "gmtoffset": -18000}]
                for start, end in listing.sessions
            ]
        events = _events(listing, span)
        if events:
            result["events"] = events
        if rows:
            result["timestamp"] = [row[0] for row in rows]
            result["indicators"]["quote"] = [
                {name: [row[i] for row in rows] for i, name in enumerate(NUMBERS, start=1)}
            ]
            if asked.query["interval"] == "1d":
                result["indicators"]["adjclose"] = [{"adjclose": [row[4] for row in rows]}]
        return Reply.json({"chart": {"result": [result], "error": None}})


def _refusal(status, code, description):
    return Reply.json(
        {"chart": {"result": None, "error": {"code": code, "description": description}}}, status
    )


def _restated(row, splits):
    at, *prices, volume = row
    factor = math.prod(new / old for when, new, old in splits if when > at)
    if prices[0] is None:
        return (None,) * 5
    return *(float(np.float32(price / factor)) for price in prices), round(volume * factor)


def _events(listing, span):
    def within(at):
        return span[0] <= at < span[1]

    splits = {
        str(at): {"date": at, "numerator": new, "denominator": old, "splitRatio": f"{new}:{old}"}
        for at, new, old in listing.splits
        if within(at)
    }
    dividends = {
        str(at): {
            "amount": money
            / math.prod(new / old for when, new, old in listing.splits if when > at),
            "date": at,
        }
        for at, money in listing.dividends
        if within(at)
    }
    named = {"dividends": dividends, "splits": splits}
    return {name: events for name, events in named.items() if events}


def _grouped(listing, minutes):
    """Bars of so many minutes, counted from the session's open."""
    groups = {}
    for row in listing.minutely:
        opened = max(at for at, _ in listing.sessions if at <= row[0])
        start = opened + (row[0] - opened) // (minutes * 60) * minutes * 60
        groups.setdefault(start, []).append(row)
    return [(start, *_merged(rows)) for start, rows in groups.items()]


def _merged(rows):
    traded = [row for row in rows if row[1] is not None]
    if not traded:
        return (None,) * 5
    return (
        traded[0][1],
        max(row[2] for row in traded),
        min(row[3] for row in traded),
        traded[-1][4],
        sum(row[5] for row in traded),
    )
