"""Catalogues: found by name, filled by import, a name taken once."""

import sys

import polars as pl
import pytest

from candlecast.domain.catalog import FEATURES, MODELS, Catalog, Feature, feature
from candlecast.domain.sources import Refusal
from candlecast.errors import InvalidSpec, NotFound


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package `plugins` whose modules register when they are imported."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from candlecast.domain.catalog import Catalog\nC = Catalog('colour', 'plugins')\n"
    )
    (folder / "warm.py").write_text(
        "from plugins import C\n\n@C.register('red')\ndef red():\n"
        "    '''The colour of blood.\n\n    More.\n    '''\n"
    )
    (folder / "cold.py").write_text("from plugins import C\nC.register('blue')(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "plugins"
    for name in [name for name in sys.modules if name.split(".")[0] == "plugins"]:
        del sys.modules[name]


def colours(package):
    return __import__(package).C


def test_modules_are_imported_when_the_catalogue_is_first_asked(package):
    catalog = colours(package)
    assert "plugins.warm" not in sys.modules
    assert catalog.names() == ("blue", "red")
    assert "plugins.warm" in sys.modules


def test_a_plug_in_is_got_by_name_and_described_by_its_first_line(package):
    catalog = colours(package)
    assert catalog.get("red").__name__ == "red"
    assert catalog.describe("red") == "The colour of blood."


def test_an_unknown_name_names_the_close_ones(package):
    with pytest.raises(NotFound, match="unknown colour 'redd'; did you mean red"):
        colours(package).get("redd")


def test_a_name_is_taken_once():
    catalog: Catalog[int] = Catalog("number", "candlecast.domain")
    catalog.register("one")(1)
    with pytest.raises(InvalidSpec, match="number 'one' is registered twice"):
        catalog.register("one")(2)
    assert catalog.get("one") == 1


def test_registering_returns_the_plug_in_unchanged():
    catalog: Catalog[object] = Catalog("thing", "candlecast.domain")
    thing = object()
    assert catalog.register("it")(thing) is thing


def test_a_feature_is_entered_with_all_that_is_known_of_it():
    @feature("of_this_test", warmup_bars=3, scope="universe", is_input=False)
    def of_this_test() -> pl.Expr:
        """Twice the close."""
        return pl.col("close") * 2

    try:
        entry = FEATURES.get("of_this_test")
        assert entry == Feature("of_this_test", of_this_test, 3, "universe", is_input=False)
        assert FEATURES.describe("of_this_test") == "Twice the close."
    finally:
        FEATURES._entries.pop("of_this_test")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_bars": -3}, "'mine': warmup_bars is -3; use 0 or more bars"),
        ({"settling_bars": -1}, "'mine': settling_bars is -1; use 0 or more bars"),
        ({"scope": "galaxy"}, "unknown scope 'galaxy'; use one of symbol, universe, market"),
        ({"table": "news"}, "unknown table 'news'; use one of ohlcv, sentiment"),
        ({"name": "My own"}, "'My own' cannot name a feature; use a-z, 0-9 and _, at most 63"),
        ({"name": "a" * 64}, "cannot name a feature"),
    ],
)
def test_a_feature_that_makes_no_sense_is_refused_with_what_would(options, message):
    with pytest.raises(InvalidSpec, match=message):
        feature(**{"name": "mine", "warmup_bars": 0, **options})


def test_an_unknown_model_is_not_found():
    with pytest.raises(NotFound, match="unknown model"):
        MODELS.get("crystal ball")


def test_a_refusal_says_where_and_why():
    assert str(Refusal("AAPL", "bars.csv", 7, "high < low")) == "bars.csv:7: AAPL: high < low"
