"""The online model, which learns a settled day, against a linear one that is fitted again on all.

Forecasts of each day are made before its outcomes are known to either. The linear model is fitted
again every month, which is also timed; River's linear regression is timed on the same days.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from candlecast import metrics
from candlecast.domain import distribution as dist
from candlecast.domain.examples import Examples
from candlecast.domain.specs import ExperimentSpec, LabelSpec
from candlecast.models.linear import Linear
from candlecast.models.online import Online
from candlecast.pipelines.dataset import make_training_set, read_training_market
from candlecast.store.symbols import read_symbols
from datasets import SEED, array_sha256
from measure import Row, Section, seconds
from skill_sets import DATA, MARKETS, open_market

STOCKS = "us_daily"
EVERY_NTH_SYMBOL = 5
DAYS_BETWEEN_FITS = 21
SHARE_LEARNT_FIRST = 0.7
MOST_RATIO = 0.1
"""An update that costs more than a tenth of fitting again would not be worth its error."""


@dataclass(frozen=True)
class Stream:
    """What came of one stream of days: seconds, and CRPS skill over climatology by model."""

    n_rows_a_day: int
    update: float
    fit_again: float
    river: float
    first_fit: float
    skills: dict[str, float]


def measure(*, is_quick: bool) -> Section:
    """Time a settled day on seeded examples and, where they are, on stocks."""
    n_days, n_symbols = (300, 10) if is_quick else (1_500, 30)
    sets = {"synthetic": make_stream(n_days, n_symbols, 40)}
    if not is_quick and (DATA / MARKETS[STOCKS].file).exists():
        sets[f"every fifth stock of {STOCKS}"] = _stocks()
    rows, told = [], []
    for name, examples in sets.items():
        found = _streamed(examples)
        shape = f"{name}, {found.n_rows_a_day} rows x {examples.X.shape[1]} features"
        rows += [
            Row(f"a settled day against fitting again: {shape}", found.update, found.fit_again,
                found.n_rows_a_day, most_ratio=MOST_RATIO),
            Row(f"a settled day against River's learn_many: {name}", found.update, found.river,
                found.n_rows_a_day),
            Row(f"all of the past, a first fit of the online model: {name}", found.first_fit,
                n_items=len(examples)),
        ]  # fmt: skip
        skills = ", ".join(f"{model} {skill:.2%}" for model, skill in found.skills.items())
        told.append(f"CRPS skill over climatology on the same days of {name}: {skills}.")
    return Section(
        title="Learning online",
        about=(
            "The online model learns each settled day; the linear model is fitted again on all "
            f"that is known every {DAYS_BETWEEN_FITS} days. River's standard scaler and linear "
            f"regression learn the same day's log distances, without a distribution. "
            f"{' '.join(told)}"
        ),
        data="; ".join(f"{name}: {len(examples):,} rows" for name, examples in sets.items()),
        data_sha256=array_sha256(*(examples.X for examples in sets.values())),
        rows=tuple(rows),
    )


def make_stream(n_days: int, n_symbols: int, n_features: int) -> Examples:
    """Symbols whose volatility follows slow features, whose meaning drifts over the years."""
    generator = np.random.default_rng(SEED)
    n_rows = n_days * n_symbols
    day = np.repeat(np.arange(n_days), n_symbols)
    X = generator.standard_normal((n_rows, n_features))
    as_of = np.datetime64("2015-01-01T21:00", "us") + day * np.timedelta64(1, "D")
    drift = np.cos(day * 2 * np.pi / 1000)
    spread = np.exp(0.3 * X[:, 0] + 0.2 * drift * X[:, 1])
    scale = np.full(n_rows, 0.01)
    return Examples(
        X=X,
        symbol=np.tile(np.arange(n_symbols, dtype=np.int32), n_days),
        as_of=as_of,
        scale=scale,
        climatology=(scale * float(spread.mean()))[:, None, None] * dist.SCORES,
        feature_names=tuple(f"feature_{number}" for number in range(n_features)),
        tickers=tuple(f"S{number:02}" for number in range(n_symbols)),
        horizons=("1D",),
        horizon_bars=np.array([1]),
        y=(scale * spread * generator.standard_normal(n_rows))[:, None],
        end_at=(as_of + np.timedelta64(1, "D"))[:, None],
        weight=np.ones(n_rows),
    )


def _stocks() -> Examples:
    stores = open_market(STOCKS)
    tickers = tuple(symbol.ticker for symbol in read_symbols(stores.database))
    spec = ExperimentSpec(
        symbols=tuple(sorted(tickers))[::EVERY_NTH_SYMBOL], labels=LabelSpec(horizons=("1D",))
    )
    examples = make_training_set(spec, read_training_market(stores, spec, None)).examples
    stores.close()
    end = MARKETS[STOCKS].end
    return examples if end is None else examples.known_by(np.datetime64(end.date(), "us"))


def _streamed(examples: Examples) -> Stream:
    days = np.unique(examples.as_of)
    first = int(len(days) * SHARE_LEARNT_FIRST)
    past = examples.known_by(days[first])
    online, spans = Online(), {"update": [], "again": [], "river": []}
    first_fit = seconds(lambda: online.fit(past))
    linear, river = Linear().fit(past), _River(examples)
    river.learn(past)
    losses: dict[str, list[np.ndarray]] = {"online": [], "linear": [], "past": []}
    for number in range(first + 1, len(days)):
        known = examples.known_by(days[number])
        settled = known.take(known.as_of >= days[max(number - 10, 0)])
        spans["update"].append(seconds(lambda: online.update(settled)))  # noqa: B023
        newest = settled.take(settled.as_of == settled.as_of.max())
        spans["river"].append(seconds(lambda: river.learn(newest)))  # noqa: B023
        if (number - first) % DAYS_BETWEEN_FITS == 0:
            spans["again"].append(seconds(lambda: linear.fit(known)))  # noqa: B023
        rows = examples.take(examples.as_of == days[number])
        for name, quantiles in (
            ("online", online.predict(rows)),
            ("linear", linear.predict(rows)),
            ("past", rows.climatology),
        ):
            losses[name].append(metrics.crps(quantiles[:, 0], rows.y[:, 0]))
    reference = np.concatenate(losses.pop("past"))
    return Stream(
        n_rows_a_day=len(examples) // len(days),
        update=float(np.median(spans["update"])),
        fit_again=float(np.median(spans["again"])),
        river=float(np.median(spans["river"])),
        first_fit=first_fit,
        skills={
            name: metrics.skill(np.concatenate(found), reference) for name, found in losses.items()
        },
    )


class _River:
    """River's regression of the log distance, which learns a frame at a time."""

    def __init__(self, examples: Examples) -> None:
        from river import linear_model, preprocessing

        self._names = list(examples.feature_names)
        self._model = preprocessing.StandardScaler() | linear_model.LinearRegression()

    def learn(self, rows: Examples) -> None:
        import pandas as pd

        distance = np.log(np.maximum(np.abs(rows.targets()[:, 0]), 1e-3))
        self._model.learn_many(
            pd.DataFrame(np.nan_to_num(rows.X), columns=self._names), pd.Series(distance)
        )
