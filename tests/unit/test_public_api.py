"""What a notebook user imports."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import candlecast

ROOT = Path(__file__).parents[2]


def test_every_public_name_loads_and_is_listed():
    for name in candlecast.__all__:
        assert getattr(candlecast, name) is not None
        assert name in dir(candlecast)
    assert candlecast.Horizon.parse("1D").name == "1D"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Candle'"):
        _ = candlecast.Candle


def test_importing_the_package_loads_no_library():
    code = (
        "import sys, candlecast; "
        "print(*{'polars', 'numpy', 'pydantic', 'sqlalchemy', 'fastapi'} & set(sys.modules))"
    )
    source = str(Path(candlecast.__file__).parents[1])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {source!r}); {code}"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""


def test_the_command_and_the_version_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["candlecast"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert candlecast.__version__.count(".") == 2
