"""The public Python API: what a notebook user imports.

Names load on first use, so importing candlecast costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

__version__ = "0.1.0"

_MODULES: Final = {
    "Clock": "domain.market",
    "ExperimentSpec": "domain.specs",
    "Facts": "domain.facts",
    "FixedClock": "domain.market",
    "Horizon": "domain.market",
    "Settings": "config",
    "Stores": "store.stores",
    "Symbol": "domain.market",
    "SystemClock": "domain.market",
    "TensorSpec": "domain.specs",
    "Timeframe": "domain.market",
    "feature": "domain.catalog",
    "load_feature_files": "features.user_files",
    "make_windows": "pipelines.tensors",
    "materialized_features": "pipelines.materialized",
    "newest_windows": "pipelines.tensors",
    "open_stores": "store.stores",
}

__all__ = ["__version__", *sorted(_MODULES)]  # noqa: PLE0604 - names that load on first use


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'candlecast' has no attribute {name!r}")
    value = getattr(import_module(f"candlecast.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
