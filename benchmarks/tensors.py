"""Windows of five timeframes for the newest bar of each symbol, against a bare gather of NumPy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from candlecast.domain.catalog import FEATURES
from candlecast.domain.market import Timeframe, trading_calendar
from candlecast.domain.prices import make_prices
from candlecast.domain.specs import TensorSpec
from candlecast.features.compute import compute, standard_set
from candlecast.features.plan import Plan
from candlecast.features.timeframes import Tensors, Windows, keys_of
from candlecast.features.timelines import make_timeline
from datasets import array_sha256, minute_bars
from measure import Row, Section, interleaved, timed

TIMEFRAMES = ("5m", "15m", "1h", "4h", "1d")
N_STEPS = 200
N_FEATURES = 18
N_TRAINING_ROWS = 256
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALENDAR = trading_calendar("24/7")
ROUNDS = 7
AT_MOST_SECONDS = 60.0
MOST_SECONDS = 0.2


def measure(*, is_quick: bool) -> Section:
    """Time windows from features in memory, from prices in memory, and batches in training."""
    n_symbols = 10 if is_quick else 100
    spec = TensorSpec(TIMEFRAMES, _names(), N_STEPS)
    n_bars = N_STEPS - 1 + Plan.of(spec.features).window_bars
    prices = {name: _prices(name, n_symbols, n_bars) for name in spec.timeframes}
    frames = {name: compute(frame, spec.features) for name, frame in prices.items()}
    made = _windows(spec, prices, frames)
    arrays, places = _bare_arrays(spec, frames), np.arange(n_bars - N_STEPS, n_bars)
    _check_same(made.take(np.arange(n_symbols)), _gathered(arrays, places))
    training = made.at(keys_of(made.timelines[0]))
    rows = np.random.default_rng(1).permutation(len(training))[:N_TRAINING_ROWS]
    normalised = training.normalised(training.fit_normaliser(NOW))

    def from_features() -> Tensors:
        return _windows(spec, prices, frames).take(np.arange(n_symbols))

    def from_prices() -> Tensors:
        computed = {name: compute(frame, spec.features) for name, frame in prices.items()}
        return _windows(spec, prices, computed).take(np.arange(n_symbols))

    best = interleaved(
        2 if is_quick else ROUNDS,
        timed("features", from_features),
        timed("take", lambda: made.take(np.arange(n_symbols))),
        timed("bare", lambda: _gathered(arrays, places)),
        timed("prices", from_prices),
        timed("batch", lambda: normalised.take(rows)),
        at_most_seconds=AT_MOST_SECONDS,
    )
    times, n_windows = best.seconds, n_symbols * len(TIMEFRAMES)
    return Section(
        title="Tensors",
        about=(
            f"The last {N_STEPS} bars of {len(TIMEFRAMES)} timeframes with {N_FEATURES} features, "
            f"for the newest instant of {n_symbols} symbols. The first row starts from FEATURES "
            "and PRICES in memory: they are laid out as arrays, the newest bars known are looked "
            "up, windows gathered and masked. The second has the arrays already. The third starts "
            "from PRICES, features included. The fourth is a shuffled batch of "
            f"{N_TRAINING_ROWS} rows in training, normalised. The peer is NumPy alone in the first "
            "three rows: it gathers the same places from arrays that it has, and sets to 0 what is "
            "not known; that both yield the same values is checked first. It looks nothing up, "
            f"masks no gap and checks no age. Rates are windows a second. Best of {best.n_rounds}."
        ),
        data=f"{n_symbols} symbols x {len(TIMEFRAMES)} timeframes x {n_bars:,} bars, random walks",
        data_sha256=array_sha256(*arrays),
        rows=(
            Row(
                "features to tensors",
                times["features"],
                times["bare"],
                n_windows,
                most_seconds=MOST_SECONDS,
            ),
            Row("arrays to tensors", times["take"], times["bare"], n_windows),
            Row("prices to tensors", times["prices"], times["bare"], n_windows),
            Row("a batch in training", times["batch"], None, N_TRAINING_ROWS * len(TIMEFRAMES)),
        ),
    )


def _names() -> tuple[str, ...]:
    names = [name for name in standard_set() if FEATURES.get(name).scope == "symbol"]
    return tuple(names[:: max(1, len(names) // N_FEATURES)][:N_FEATURES])


def _prices(name: str, n_symbols: int, n_bars: int) -> pl.DataFrame:
    # The walks of the minutes, slowed down so that all timeframes end together.
    timeframe = Timeframe.parse(name)
    bars = minute_bars(n_symbols, n_bars)
    length = timedelta(minutes=timeframe.minutes)
    ago = (n_bars - pl.int_range(pl.len()).over("symbol")) * pl.lit(length)
    ts = pl.lit(NOW).cast(pl.Datetime("us", "UTC")) - ago
    slow = bars.with_columns(ts=ts, known_at=ts + length)
    calendars = dict.fromkeys(bars["symbol"].unique(), CALENDAR)
    return make_prices(slow, timeframe, calendars, is_first_version=True)


def _windows(
    spec: TensorSpec, prices: dict[str, pl.DataFrame], frames: dict[str, pl.DataFrame]
) -> Windows:
    calendars = dict.fromkeys(prices[spec.timeframes[0]]["symbol"].unique(), CALENDAR)
    lines = [
        make_timeline(Timeframe.parse(name), prices[name], frames[name], spec.features, calendars)
        for name in spec.timeframes
    ]
    keys = pl.DataFrame({"symbol": sorted(calendars)}).with_columns(as_of=pl.lit(NOW))
    return Windows(spec, lines, keys)


def _bare_arrays(spec: TensorSpec, frames: dict[str, pl.DataFrame]) -> list[np.ndarray]:
    # (n_symbols, n_bars, n_features) each.
    arrays = []
    for frame in frames.values():
        values = frame.select(pl.col(*spec.features).cast(pl.Float32)).to_numpy()
        n_symbols = frame["symbol"].n_unique()
        arrays.append(np.ascontiguousarray(values).reshape(n_symbols, -1, len(spec.features)))
    return arrays


def _gathered(arrays: list[np.ndarray], places: np.ndarray) -> np.ndarray:
    n_symbols, _, n_features = arrays[0].shape
    tensors = np.empty((n_symbols, len(places), len(arrays), n_features), dtype=np.float32)
    for place, values in enumerate(arrays):
        tensors[:, :, place] = values[:, places]
    tensors[np.isnan(tensors)] = 0.0
    return tensors


def _check_same(ours: Tensors, theirs: np.ndarray) -> None:
    if not ours.mask.mean() > 0.99:
        raise ValueError("most of the windows are masked")
    if not np.array_equal(ours.values[ours.mask], theirs[ours.mask]):
        raise ValueError("our values and the peer's differ")
