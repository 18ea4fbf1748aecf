"""Stores: all that a pipeline reads and writes, built once by the entry point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from candlecast.domain.market import Clock
from candlecast.store.database import Database
from candlecast.store.feature_files import FeatureFiles
from candlecast.store.mirror import Mirror
from candlecast.store.registry import Registry


@dataclass(frozen=True)
class Stores:
    """What pipelines work on: the database, its mirror, the models, kept features, the time."""

    database: Database
    mirror: Mirror
    registry: Registry
    clock: Clock
    feature_files: FeatureFiles

    def close(self) -> None:
        """Give the database's connections back."""
        self.database.close()


def open_stores(
    *, database_url: str, home: Path, artifacts_url: str | None, clock: Clock
) -> Stores:
    """The stores at these places, with `home` created and the schema brought up to date."""
    home.mkdir(parents=True, exist_ok=True)
    database = Database.open(database_url)
    database.upgrade()
    artifacts = artifacts_url or str((home / "artifacts").absolute())
    registry = Registry(database, artifacts, home / "artifact_cache")
    mirror, features = Mirror(database, home / "mirror"), FeatureFiles(home / "features")
    return Stores(database, mirror, registry, clock, features)
