"""Stores: all that a pipeline reads and writes, built once by the entry point."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

from candlecast.domain.catalog import SCORERS, Scorer
from candlecast.domain.market import Clock
from candlecast.errors import InvalidSpec
from candlecast.store.database import Database
from candlecast.store.feature_files import FeatureFiles
from candlecast.store.mirror import Mirror
from candlecast.store.registry import Registry

STANDARD_SCORER: Final = "lexicon"


@dataclass(frozen=True)
class Stores:
    """What pipelines work on: the database, its mirror, the models, kept features, the time.

    `make_scorer` makes what scores texts, once: its files are read when the first text is scored.
    """

    database: Database
    mirror: Mirror
    registry: Registry
    clock: Clock
    feature_files: FeatureFiles
    make_scorer: Callable[[], Scorer]

    def close(self) -> None:
        """Give the database's connections back."""
        self.database.close()


def open_stores(
    *,
    database_url: str,
    home: Path,
    artifacts_url: str | None,
    clock: Clock,
    scorer: str = STANDARD_SCORER,
) -> Stores:
    """The stores at these places, with `home` created and the schema brought up to date.

    `scorer` names what scores texts, with its folder where it has one: ``finbert:/path/to/folder``.
    """
    make_scorer = _scorer_maker(scorer)
    home.mkdir(parents=True, exist_ok=True)
    database = Database.open(database_url)
    database.upgrade()
    artifacts = artifacts_url or str((home / "artifacts").absolute())
    registry = Registry(database, artifacts, home / "artifact_cache")
    mirror, features = Mirror(database, home / "mirror"), FeatureFiles(home / "features")
    return Stores(database, mirror, registry, clock, features, make_scorer)


def _scorer_maker(scorer: str) -> Callable[[], Scorer]:
    name, _, folder = scorer.partition(":")
    make = SCORERS.get(name)
    has_folder = "folder" in inspect.signature(make).parameters
    if has_folder and not folder:
        raise InvalidSpec(f"the scorer {name} needs a folder; write {name}:/path/to/folder")
    if folder and not has_folder:
        raise InvalidSpec(f"the scorer {name} has no folder; write {name} without {folder!r}")
    return cache(partial(make, folder=folder) if folder else make)
