"""Minutes resampled to every higher timeframe, against one bare pass of Polars to 5m."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from candlecast.domain.market import Timeframe, trading_calendar
from candlecast.domain.resample import resample_all
from datasets import frame_sha256, minute_bars
from measure import Row, Section, interleaved, timed

MINUTE, FIVE = Timeframe.parse("1m"), Timeframe.parse("5m")
LATER = datetime(2038, 1, 1, tzinfo=UTC)
ROUNDS = 5
AT_MOST_SECONDS = 60.0
MOST_SECONDS = 1.0


def measure(*, is_quick: bool) -> Section:
    """Time all timeframes from 5m to 1d, and 5m alone."""
    n_symbols, n_bars = (5, 20_000) if is_quick else (50, 100_000)
    bars = minute_bars(n_symbols, n_bars)
    calendars = dict.fromkeys(bars["symbol"].unique(), trading_calendar("24/7"))

    def ours(*targets: Timeframe) -> dict[Timeframe, pl.DataFrame]:
        wanted = targets or None
        return resample_all(bars, MINUTE, calendars, as_of=LATER, targets=wanted)

    _check_same(ours(FIVE)[FIVE], _dynamic(bars))
    best = interleaved(
        2 if is_quick else ROUNDS,
        timed("all", ours),
        timed("five", lambda: ours(FIVE)),
        timed("dynamic", lambda: _dynamic(bars)),
        timed("truncated", lambda: _truncated(bars)),
        at_most_seconds=AT_MOST_SECONDS,
    )
    times, n = best.seconds, len(bars)
    peer = min(times["dynamic"], times["truncated"])
    n_targets = len(ours())
    return Section(
        title="Resampling",
        about=(
            f"Ours makes the {n_targets} timeframes from 5m to 1d of bars of one minute, each of "
            "the next finer one, by the calendar, with vwap, trade_count, known_at and the moment "
            "at which each bar had ended. The peer makes 5m alone, in one pass of Polars by the "
            "clock, with the same columns: the quicker of group_by_dynamic and group_by on the "
            "truncated time; that both yield the same bars is checked first. Its time is that of "
            f"this one pass in both rows. Best of {best.n_rounds}."
        ),
        data=f"{n_symbols} symbols x {n_bars:,} bars of one minute, random walks",
        data_sha256=frame_sha256(bars),
        rows=(
            Row(
                f"1m to all {n_targets} higher timeframes",
                times["all"],
                peer,
                n,
                most_seconds=MOST_SECONDS,
            ),
            Row("1m to 5m", times["five"], peer, n),
        ),
    )


def _columns() -> list[pl.Expr]:
    traded = pl.col("volume").sum()
    return [
        pl.col("open").first(),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("close").last(),
        traded,
        ((pl.col("vwap") * pl.col("volume")).sum() / traded).alias("vwap"),
        pl.col("trade_count").sum(),
        pl.col("source").first(),
        pl.col("known_at").max(),
    ]


def _dynamic(bars: pl.DataFrame) -> pl.DataFrame:
    grouped = bars.lazy().group_by_dynamic("ts", every="5m", group_by="symbol")
    return grouped.agg(_columns()).collect()


def _truncated(bars: pl.DataFrame) -> pl.DataFrame:
    key = pl.col("ts").dt.truncate("5m")
    return bars.lazy().group_by("symbol", key, maintain_order=True).agg(_columns()).collect()


def _check_same(ours: pl.DataFrame, theirs: pl.DataFrame) -> None:
    exact = [name for name in theirs.columns if name != "vwap"]
    if not ours.select(exact).equals(theirs.select(exact)):
        raise ValueError("ours and the peer's bars differ")
    if not (ours["vwap"] / theirs["vwap"] - 1).abs().max() < 1e-12:
        raise ValueError("ours and the peer's vwap differ")
