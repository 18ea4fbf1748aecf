"""Features of the user's own: run once from a file, refused with file and line, kept by hash."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import pytest

from candlecast.domain.catalog import FEATURES, check_feature_name
from candlecast.domain.specs import FeatureSpec
from candlecast.errors import Conflict, InvalidSpec, NotFound
from candlecast.features import user_files
from candlecast.features.chosen import check_code, with_code
from candlecast.features.compute import compute, own_inputs, standard_set
from candlecast.features.user_files import code_of, load_feature_files
from candlecast.store.features import TABLES

GAP = '''"""My own."""

import polars as pl

from candlecast import feature


@feature("gap", warmup_bars=1, settling_bars=0)
def gap() -> pl.Expr:
    """The night's log return.

    Returns
    -------
    Expr : in [-1, 1]
    """
    return (pl.col("open") / pl.col("close").shift()).log().clip(-1, 1)


@feature("spread", warmup_bars=0, is_input=False)
def spread() -> pl.Expr:
    """High less low."""
    return pl.col("high") - pl.col("low")
'''


@pytest.fixture(autouse=True)
def _catalogue_as_it_was(monkeypatch):
    FEATURES.names()
    monkeypatch.setattr(FEATURES, "_entries", dict(FEATURES._entries))
    monkeypatch.setattr(user_files, "_FILES", {})


@pytest.fixture
def written(tmp_path):
    """Write a file of features: written(text, name) -> its path."""

    def write(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_file_enters_features_that_are_computed_like_any_other(written, prices):
    before = standard_set()
    loaded = load_feature_files([written(GAP)])
    assert loaded.names == ("gap", "spread")
    values = compute(prices, ["rsi_14", "gap", "spread"])
    assert (values["spread"] == prices["high"] - prices["low"]).all()
    assert values["gap"].null_count() == prices["segment"].n_unique()
    assert FEATURES.describe("gap") == "The night's log return."
    assert FEATURES.get("gap").origin.endswith("mine.py")
    assert standard_set() == before, "the standard set is what candlecast brings"
    assert own_inputs() == ("gap",), "a level is no input"


def test_a_file_is_run_once_however_often_and_by_whatever_path_it_is_named(written, tmp_path):
    runs = tmp_path / "runs"
    path = written(f"{GAP}\nimport os\nos.mkdir('{runs}')\n")
    (tmp_path / "link.py").symlink_to(path)
    first = load_feature_files([path, tmp_path / "link.py"])
    assert load_feature_files([path]) == first
    assert runs.is_dir()


def test_a_file_that_changed_is_refused_in_the_same_process(written):
    path = written(GAP)
    load_feature_files([path])
    written(GAP.replace("clip(-1, 1)", "clip(-2, 2)"))
    with pytest.raises(Conflict, match=r"mine\.py has changed .* anew"):
        load_feature_files([path])


def test_a_file_that_failed_is_not_run_again_on_half_of_its_features(written):
    path = written(f"{GAP}\nraise RuntimeError('no luck')\n")
    with pytest.raises(InvalidSpec, match=r"mine\.py:\d+: RuntimeError: no luck; mend the file"):
        load_feature_files([path])
    written(GAP)
    with pytest.raises(Conflict, match="failed to load before"):
        load_feature_files([path])


HEAD = "import polars as pl\nfrom candlecast import feature\n"
BROKEN = {
    "a syntax error": ("x = (\n", r"mine\.py:1: SyntaxError"),
    "no such module": (f"{HEAD}import no_such_module\n", r"mine\.py:3: ModuleNotFoundError"),
    "an option that there is not": (
        f"{HEAD}\n@feature('a', warmup=3)\ndef a(): ...\n",
        r"mine\.py:4: TypeError",
    ),
    "nothing entered": (HEAD, "enters no feature; decorate a function"),
    "no expression": (
        f"{HEAD}\n@feature('a', warmup_bars=0)\ndef a():\n    return 3\n",
        r"mine\.py:4: feature 'a' cannot be evaluated: TypeError: .* no Polars expression",
    ),
    "a function that fails": (
        f"{HEAD}\n@feature('a', warmup_bars=0)\ndef a():\n    return 1 / 0\n",
        r"mine\.py:6: feature 'a' cannot be evaluated: ZeroDivisionError",
    ),
    "an unknown column": (
        f"{HEAD}\n@feature('a', warmup_bars=0)\ndef a():\n    return pl.col('closing')\n",
        (
            r"mine\.py:4: feature 'a' cannot be evaluated: unknown column 'closing'; did you mean "
            r"close.*may name: symbol, .*log_return.*volume_profile.*news_score"
        ),
    ),
    "an expression that cannot be evaluated": (
        f"{HEAD}\n@feature('a', warmup_bars=0)\ndef a():\n    return pl.col('symbol') * 2\n",
        r"mine\.py:4: feature 'a' cannot be evaluated",
    ),
    "an unknown part of a comparison": (
        (
            f"{HEAD}\n@feature('a', warmup_bars=0, scope='universe')\n"
            "def a():\n    return pl.col('return_11')\n"
        ),
        r"mine\.py:4: .*unknown column 'return_11'; did you mean return_1.*of one symbol: see",
    ),
    "a part that it cannot see": (
        f"{HEAD}\n@feature('a', warmup_bars=0)\ndef a():\n    return pl.col('rsi_14')\n",
        r"mine\.py:4: .*names \['rsi_14'\], which do not exist or which it cannot see",
    ),
    "the end of the program": ("import sys\nsys.exit(0)\n", r"mine\.py:2: SystemExit: .* with 0;"),
    "the end of the program in a function": (
        f"{HEAD}\n@feature('a', warmup_bars=0)\ndef a():\n    raise SystemExit('enough')\n",
        r"mine\.py:6: feature 'a' .*SystemExit: the file ends the program with 'enough'; mend",
    ),
    "a warm-up that is no number of bars": (
        f"{HEAD}\n@feature('a', warmup_bars=-3)\ndef a(): ...\n",
        r"mine\.py:4: feature 'a': warmup_bars is -3; use 0 or more bars",
    ),
    "the last rows": (
        f"{HEAD}\n@feature('a', warmup_bars=0)\ndef a():\n    return pl.col('close').tail(20)\n",
        r"mine\.py:4: feature 'a' cannot be evaluated",
    ),
    "too few rows": (
        f"{HEAD}\n@feature('a', warmup_bars=0)\ndef a():\n    return pl.col('close').head(2)\n",
        r"mine\.py:4: feature 'a' cannot be evaluated",
    ),
    "a name that is no column": (
        f"{HEAD}\n@feature('My own', warmup_bars=0)\ndef a():\n    return pl.col('close')\n",
        r"mine\.py:4: 'My own' cannot name a feature; use a-z",
    ),
    "the name of a price": (
        f"{HEAD}\n@feature('close', warmup_bars=0)\ndef a():\n    return pl.col('open')\n",
        r"mine\.py:4: 'close' is the name of a column of the prices, .*; rename the feature",
    ),
    "a name that is taken": (
        f"{HEAD}\n@feature('rsi_14', warmup_bars=0)\ndef a():\n    return pl.col('open')\n",
        r"mine\.py:4: feature 'rsi_14' is registered twice.* other stands in .*momentum\.py:\d+",
    ),
}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("scale", "an input"),
        ("volume_profile", "an input"),
        ("news_score", "an input"),
        ("known_at", "a column of the prices"),
        ("as_of", "another column"),
        ("symbol_id", "another column"),
        ("y_1d", "another column"),
    ],
)
def test_a_name_that_stands_for_something_else_is_refused_with_the_reason(name, what, written):
    text = f"{HEAD}\n@feature('{name}', warmup_bars=0)\ndef a():\n    return pl.col('open')\n"
    with pytest.raises(InvalidSpec, match=rf"mine\.py:4: '{name}' .*{what}.*rename the feature"):
        load_feature_files([written(text)])


def test_no_name_that_the_store_keeps_for_itself_can_name_a_feature():
    for column in chain(*(table.c.keys() for table in TABLES.values())):
        with pytest.raises(InvalidSpec, match=rf"'{column}' cannot name a feature: "):
            check_feature_name(column)


def test_a_key_that_interrupts_is_no_fault_of_the_file(written):
    with pytest.raises(KeyboardInterrupt):
        load_feature_files([written("raise KeyboardInterrupt\n")])


def test_what_fails_for_the_newest_bars_only_is_told_as_well(written, monkeypatch):
    def broken(prices, names, facts):
        raise ValueError("no newest bar")

    monkeypatch.setattr(user_files, "newest", broken)
    with pytest.raises(InvalidSpec, match=r"mine\.py:8: feature 'gap' .*no newest bar; mend"):
        load_feature_files([written(GAP)])


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_a_file_is_told_with_file_line_and_remedy(case, written):
    text, message = BROKEN[case]
    with pytest.raises(InvalidSpec, match=message):
        load_feature_files([written(text)])


def test_two_files_that_take_one_name_are_both_named(written):
    load_feature_files([written(GAP)])
    with pytest.raises(InvalidSpec, match=r"second\.py:8: .*'gap'.* stands in .*mine\.py:8"):
        load_feature_files([written(GAP.replace("spread", "other"), "second.py")])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidSpec, match=r"nowhere\.py: No such file"):
        load_feature_files([tmp_path / "nowhere.py"])


def test_a_spec_keeps_the_hash_of_the_code_and_changes_with_it(written, monkeypatch):
    own = FeatureSpec(("rsi_14", "gap"))
    loaded = load_feature_files([written(GAP)])
    kept = with_code(own)
    assert kept.code == code_of(["gap"]) == loaded.code_sha256 != None  # noqa: E711
    assert kept.id != own.id
    assert with_code(FeatureSpec(("rsi_14",))).code is None
    assert with_code(FeatureSpec()).names == (*standard_set(), "gap")
    check_code(kept)
    monkeypatch.setattr(user_files, "_FILES", {})
    for name in loaded.names:
        del FEATURES._entries[name]
    with pytest.raises(NotFound, match=r"gap; name the file .*--feature-file"):
        check_code(kept)
    written(GAP.replace("clip(-1, 1)", "clip(-2, 2)"), "mine.py")
    load_feature_files([written(GAP.replace("clip(-1, 1)", "clip(-2, 2)"))])
    assert with_code(own).id != kept.id
    with pytest.raises(Conflict, match="the code of gap is not what the model was trained on"):
        check_code(kept)


def test_what_is_compared_counts_as_code(written):
    load_feature_files([written(GAP)])
    rank = (
        f"{HEAD}\n@feature('gap_rank', warmup_bars=1, scope='universe')\n"
        "def gap_rank():\n    return pl.col('gap').rank() / pl.len()\n"
    )
    second = load_feature_files([written(rank, "second.py")])
    assert code_of(["gap_rank"]) not in {code_of(["gap"]), second.code_sha256}


def test_where_the_files_lie_and_their_order_are_no_part_of_the_code(written, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    other = GAP.replace("gap", "hole").replace("spread", "width")
    paths = [written(GAP), written(other, "elsewhere/other.py")]
    first = load_feature_files(paths)
    assert load_feature_files(paths[::-1]) == first
    assert code_of(["gap", "hole"]) == code_of(["hole", "gap"]) == first.code_sha256


def test_what_was_entered_without_a_file_cannot_be_kept(monkeypatch):
    source = f"{HEAD}\n@feature('typed_in', warmup_bars=0)\ndef f():\n    return pl.col('close')\n"
    exec(compile(source, "<cell 3>", "exec"), {"__name__": "__main__"})
    with pytest.raises(InvalidSpec, match=r"'typed_in' was entered in <cell 3>.* into a file"):
        with_code(FeatureSpec(("typed_in",)))


def test_a_spec_without_code_reads_back_and_so_does_one_with_it(written):
    load_feature_files([written(GAP)])
    for spec in (FeatureSpec(), with_code(FeatureSpec(("gap",)))):
        plain = json.loads(json.dumps({"names": list(spec.names), "code": spec.code}))
        assert FeatureSpec.from_mapping(plain) == spec
