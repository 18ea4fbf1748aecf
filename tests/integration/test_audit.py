"""The gates over stored bars: what is found, what is sampled, and who may not serve for it."""

from __future__ import annotations

import inspect
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES, LABELS, Feature
from candlecast.domain.specs import FeatureSpec, ModelSpec
from candlecast.errors import Conflict, InvalidSpec, NotFound
from candlecast.features import user_files
from candlecast.features.chosen import with_code
from candlecast.features.compute import compute, standard_set
from candlecast.features.user_files import load_feature_files
from candlecast.pipelines import audit as auditing
from candlecast.pipelines import gated
from candlecast.pipelines.audit import (
    ENGINE,
    MOST_BARS,
    MOST_SYMBOLS,
    audit_features,
    sample,
    spread,
)
from candlecast.pipelines.dataset import make_training_set
from candlecast.pipelines.evaluate import evaluate
from candlecast.pipelines.promote import check_gates, promote, refuse_leaks
from candlecast.pipelines.train import train
from candlecast.pipelines.universe import read_market
from candlecast.validation.causality import audit, audit_build
from candlecast.validation.findings import Finding
from candlecast.validation.gates import run_gates
from candlecast.validation.trial import Trial
from fact_frames import seeded_facts
from pipeline_rows import DAILY, HAR, LATER, all_rows, at, changes, opened, put, sample_bars
from price_frames import daily_prices

BARS = sample_bars("AAPL", "IBM", "MSFT", n_sessions=900)
DAYS = BARS["ts"].unique().sort()
EARLIER = DAYS[-60] + timedelta(days=1)
EWMA = replace(HAR, model=ModelSpec("ewma"))
LEAK = """
import polars as pl
from candlecast import feature

@feature("tomorrow", warmup_bars=0)
def tomorrow():
    '''The next bar's return.'''
    return (pl.col("close").shift(-1) / pl.col("close")).log()

@feature("yesterday", warmup_bars=1)
def yesterday():
    '''The last bar's return.'''
    return (pl.col("close") / pl.col("close").shift()).log()
"""


@pytest.fixture
def stores(tmp_path):
    with opened(f"sqlite:///{tmp_path}/candlecast.db", tmp_path) as opened_stores:
        put(opened_stores, BARS)
        yield opened_stores


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The features of a user's file, one of which leaks; forgotten after the test."""
    FEATURES.names()
    monkeypatch.setattr(FEATURES, "_entries", dict(FEATURES._entries))
    monkeypatch.setattr(user_files, "_FILES", {})
    path = tmp_path / "mine.py"
    path.write_text(LEAK, encoding="utf-8")
    load_feature_files([path])
    return path


def test_what_is_shipped_passes_on_real_bars(stores):
    report = audit_features(stores, "1d")
    assert report.findings == ()
    assert (report.names, report.untested) == (FEATURES.names(), ())
    of_facts = {name for name in FEATURES.names() if FEATURES.get(name).table == "sentiment"}
    assert {*report.unseen} <= of_facts, "there are no facts"
    assert report.unseen == report.untried != ()
    assert report.symbols == ("AAPL", "IBM", "MSFT")
    assert report.n_bars == len(BARS)


def test_a_leak_in_a_users_file_is_found_with_its_bar(stores, own):
    report = audit_features(stores, "1d", ("IBM",), ("tomorrow", "yesterday"))
    assert report.failed == ("tomorrow",)
    assert {f.gate for f in report.findings} == {"causality", "parity"}
    first = report.findings[0]
    close = BARS.filter(pl.col("symbol") == "IBM").with_columns(
        after=(pl.col("adj_close").shift(-1) / pl.col("adj_close")).log()
    )
    assert first.symbol == "IBM"
    assert first.before == pytest.approx(close.filter(pl.col("ts") == first.ts)["after"].item())
    assert first.after is None


def test_an_unknown_feature_or_symbol_is_told_before_the_work(stores):
    with pytest.raises(NotFound, match="did you mean rsi_14"):
        audit_features(stores, "1d", (), ("rsi_41",))
    with pytest.raises(NotFound, match="did you mean MSFT"):
        audit_features(stores, "1d", ("MSFX",))


def test_a_sample_has_the_broken_symbols_and_the_longest_and_their_last_bars():
    prices = daily_prices(n_symbols=30, n_sessions=1600)
    kept = sample(prices)
    symbols = kept["symbol"].unique().sort()
    assert len(symbols) == MOST_SYMBOLS
    segments = prices.group_by("symbol").agg(pl.col("segment").n_unique())
    broken = segments.filter(pl.col("segment") > 1)["symbol"]
    assert len({*broken} & {*symbols}) == MOST_SYMBOLS // 2
    assert kept.group_by("symbol").len()["len"].max() == MOST_BARS
    assert kept["ts"].max() == prices["ts"].max()
    assert sample(kept).equals(kept)


def test_of_a_large_universe_some_symbols_are_read():
    tickers = tuple(f"S{number:04}" for number in range(5000))
    chosen = spread(tickers)
    assert len(chosen) == 64
    assert (chosen[0], chosen[-1]) == (tickers[0], tickers[-1])
    assert spread(tickers[:5]) == tickers[:5]


def leaky_version(stores, names):
    """A version with these features that does not serve: the champion has seen more."""
    champion = train(stores, replace(EWMA, features=FeatureSpec(("rsi_14",)))).version
    assert champion.is_active
    spec = replace(EWMA, features=with_code(FeatureSpec(names)))
    version = train(stores, spec, as_of=EARLIER).version
    assert not version.is_active
    return champion, version


def test_nothing_is_trained_evaluated_or_stored_on_a_leaking_feature(stores, own):
    spec = replace(HAR, features=with_code(FeatureSpec(("rsi_14", "tomorrow"))))
    before = all_rows(stores.database.url)
    for run in (train, evaluate):
        for as_of in (None, EARLIER):
            with pytest.raises(Conflict, match=r"nothing was trained or stored: .*of AAPL at 20"):
                run(stores, spec, as_of=as_of)
    kept = changes(before, all_rows(stores.database.url))
    assert {*kept} <= {"bar_reads"}, "reading pins what was read"
    assert stores.registry.list() == ()


def test_a_model_that_has_just_passed_is_not_put_on_trial_twice(stores):
    told = []
    spec = replace(EWMA, features=FeatureSpec(("rsi_14",)))
    run = train(stores, spec, progress=lambda *at: told.append(at))
    assert run.version.is_active
    ends = [at for at in told if at[0] == "gates" and at[1] == at[2]]
    assert len(ends) == 1


def test_what_has_passed_is_tried_again_only_on_other_bars_or_definitions(stores, monkeypatch):
    market, names, tried = read_market(stores, DAILY, (), None), ("rsi_14", "har_1"), []
    monkeypatch.setattr(auditing, "_PASSED", {})
    monkeypatch.setattr(
        auditing, "run_gates", lambda trial, _: tried.append(len(trial.prices)) or []
    )
    first = auditing.check_market(stores, market, names)
    told = []
    again = auditing.check_market(stores, market, names, progress=lambda *at: told.append(at))
    assert again == first
    assert told == [("gates", 4, 4)]
    assert len(tried) == 1
    auditing.check_market(stores, market, names[:1])
    shorter = replace(market, prices=market.prices.head(-1))
    auditing.check_market(stores, shorter, names)
    changed = replace(FEATURES.get("rsi_14"), warmup_bars=99)
    monkeypatch.setitem(FEATURES._entries, "rsi_14", changed)
    auditing.check_market(stores, market, names)
    assert len(tried) == 4


def test_what_has_failed_is_tried_again(stores, monkeypatch):
    market, tried = read_market(stores, DAILY, (), None), []
    finding = Finding("causality", "rsi_14", "here", "AAPL", EARLIER, 1.0, 2.0, 1)
    monkeypatch.setattr(auditing, "_PASSED", {})
    monkeypatch.setattr(auditing, "run_gates", lambda *_: tried.append(1) or [finding])
    for _ in range(2):
        assert auditing.check_market(stores, market, ("rsi_14",)).failed == ("rsi_14",)
    assert len(tried) == 2


def test_a_leaking_model_that_was_registered_may_not_serve(stores, own, monkeypatch):
    with monkeypatch.context() as patched:  # as if it had been registered before there were gates
        patched.setattr(gated, "refuse_leaks", lambda *_: None)
        champion, leaky = leaky_version(stores, ("rsi_14", "tomorrow"))
    with pytest.raises(Conflict) as refused:
        promote(stores, leaky.version)
    said = str(refused.value)
    assert f"model {leaky.version} is registered but may not serve" in said
    assert "first causality: tomorrow of AAPL at 20" in said
    assert f"candlecast audit --features tomorrow --feature-file {own}" in said
    assert stores.registry.champion(DAILY).version == champion.version


def test_a_model_on_honest_features_is_promoted_and_stays(stores, own):
    _, honest = leaky_version(stores, ("rsi_14", "yesterday"))
    assert promote(stores, honest.version).is_active
    assert stores.registry.champion(DAILY).version == honest.version
    told = []
    assert promote(stores, honest.version, progress=lambda *at: told.append(at)).is_active
    assert told == [], "what serves is not put on trial again"


def test_a_model_whose_feature_file_is_not_loaded_is_refused_with_the_remedy(stores, own):
    _, honest = leaky_version(stores, ("rsi_14", "yesterday"))
    for name in ("tomorrow", "yesterday"):
        del FEATURES._entries[name]
    with pytest.raises(NotFound, match=r"yesterday; name the file .*CANDLECAST_FEATURE_FILES"):
        promote(stores, honest.version)


UNTRIED = """
import polars as pl
from candlecast import feature

@feature("long_memory", warmup_bars=400)
def long_memory():
    '''The close over its mean of 400 bars.'''
    return pl.col("close") / pl.col("close").rolling_mean(400)

@feature("of_news", warmup_bars=0, table="sentiment")
def of_news():
    '''What the news say.'''
    return pl.col("news_score")
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("long_memory", "long_memory took 900 bars without a gap: add more history, or state"),
        ("of_news", "of_news had no value in any bar: add more history, or facts"),
    ],
)
def test_a_users_feature_that_no_gate_could_try_may_not_serve(name, message, stores, own, tmp_path):
    path = tmp_path / "untried.py"
    path.write_text(UNTRIED, encoding="utf-8")
    load_feature_files([path])
    spec = replace(EWMA, features=with_code(FeatureSpec(("rsi_14", name))))
    market = read_market(stores, DAILY, (), None)
    short = replace(market, prices=market.prices.filter(pl.col("ts") > DAYS[100]))
    with pytest.raises(Conflict, match=message) as refused:
        refuse_leaks(stores, spec, short)
    assert f"`candlecast audit --features {name} --feature-file {path}`" in str(refused.value)


def test_of_a_shipped_feature_that_no_gate_could_try_is_told(stores):
    market = read_market(stores, DAILY, (), None)
    short = replace(market, prices=market.prices.filter(pl.col("ts") > DAYS[500]))
    told = []
    spec = replace(EWMA, features=FeatureSpec(("rsi_14", "return_1", "news_sentiment_score")))
    report = refuse_leaks(stores, spec, short, lambda *at: told.append(at))
    assert report.unseen == ("news_sentiment_score",)
    assert "rsi_14" in report.untested
    step, n_untried, n_names = told[-1]
    assert step.startswith("too little history, or no facts, to try rsi_14")
    assert "news_sentiment_score" in step
    assert (n_untried, n_names) == (len(report.untried), 3)


def test_a_feature_that_is_named_twice_is_tried_once(stores):
    assert audit_features(stores, "1d", ("IBM",), ("rsi_14", "rsi_14")).names == ("rsi_14",)


def test_a_level_is_no_input_whoever_asks(stores, monkeypatch):
    level = Feature("level", lambda: pl.col("close"), 0, is_input=False)
    monkeypatch.setitem(FEATURES._entries, "level", level)
    with pytest.raises(InvalidSpec, match="level"):
        check_gates(stores, replace(EWMA, features=FeatureSpec(("level",))))


# --- whole pipelines, built as of two instants --------------------------------------------------


def read_features(stores, *, is_newest):
    """A pipeline: features of the bars as known at an instant."""

    def build(as_of):
        market = read_market(stores, DAILY, (), as_of, is_newest=is_newest)
        return compute(market.prices, ["return_1", "rsi_14"])

    return build


def test_a_revised_bar_is_found_where_a_pipeline_reads_the_newest_versions(stores):
    day = DAYS[-200]
    is_it = (pl.col("symbol") == "IBM") & (pl.col("ts") == day)
    wrong = pl.when(is_it).then(0.98).otherwise(1.0)
    monday = LATER + timedelta(days=3)
    later = at(stores, monday)
    corrected = BARS.with_columns(
        pl.col(name) * wrong for name in ("open", "low", "close", "adj_close")
    )
    assert put(later, corrected).written.revised == 1
    instants = [DAYS[-100] + timedelta(days=1), LATER, monday]
    findings = audit_build(read_features(later, is_newest=True), instants)
    assert {f.column for f in findings} == {"return_1", "rsi_14"}
    assert {(f.symbol, f.ts) for f in findings} == {("IBM", day)}
    assert audit_build(read_features(later, is_newest=False), instants) == []


def training_rows(stores, spec):
    """The training set as of an instant: what a model sees, and its outcomes."""

    def build(as_of):
        training = make_training_set(spec, read_market(stores, DAILY, (), as_of))
        rows = training.rows
        seen = pl.DataFrame(rows.X, schema=[f"x{i}" for i in range(rows.X.shape[1])])
        past = pl.DataFrame(rows.climatology.reshape(len(rows), -1)).rename(lambda n: f"past_{n}")
        outcomes = training.examples.y[:, 0]
        ends = pl.Series(training.examples.end_at[:, 0]).dt.replace_time_zone("UTC")
        return pl.concat(
            [training.keys.select("symbol", "ts", "as_of", "last_close"), seen, past],
            how="horizontal",
        ).with_columns(scale=rows.scale, y=outcomes, end_at=ends)

    return build


def test_a_training_set_is_the_same_whenever_it_is_built(stores):
    spec = replace(EWMA, features=FeatureSpec(standard_set()))
    build = training_rows(stores, spec)
    instants = [DAYS[place] + timedelta(hours=23) for place in (-250, -100, -30)] + [LATER]
    assert audit_build(lambda as_of: build(as_of).drop("y", "end_at"), instants) == []
    labelled = [*("symbol", "ts", "y", "end_at")]
    assert audit_build(lambda as_of: build(as_of).select(labelled), instants, stamp="end_at") == []


def test_outcomes_that_are_stamped_with_their_bar_are_found(stores):
    build = training_rows(stores, EWMA)
    instants = [DAYS[-100] + timedelta(hours=23), LATER]
    findings = audit_build(lambda as_of: build(as_of).drop("end_at"), instants)
    assert [f.column for f in findings] == ["y"]


@pytest.mark.parametrize("kind", LABELS.names())
def test_every_shipped_label_is_known_at_its_end(stores, kind):
    market = read_market(stores, DAILY, (), None)
    label = LABELS.get(kind)
    given = {
        "timeframe": DAILY,
        "horizons": label.default_horizons(DAILY),
        "calendars": market.calendars,
    }
    if "leader" in inspect.signature(label.compute).parameters:
        given["leader"] = "IBM"

    def labelled(prices):
        return label.compute(prices, **given)

    assert audit(labelled, market.prices, key=("symbol", "ts", "horizon"), stamp="end_at") == []


def test_features_of_facts_pass_on_real_bars(stores):
    market = read_market(stores, DAILY, (), None)
    names = tuple(n for n in FEATURES.names() if FEATURES.get(n).table == "sentiment")
    trial = Trial(ENGINE, market.prices, names, seeded_facts(market.prices, 5))
    assert len(names) > 12
    assert run_gates(trial) == []
