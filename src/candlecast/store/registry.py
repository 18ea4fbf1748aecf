"""Model versions, champion pointer, artefact folders."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from candlecast.domain.market import Timeframe
from candlecast.errors import BadArtifact, Conflict, InvalidSpec, NotFound
from candlecast.store.database import Database
from candlecast.store.tables import ml_model_versions as table

VERSION_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
RETIRED: Final = "retired"


@dataclass(frozen=True)
class ModelVersion:
    """A trained model: what it is, what it was trained on, and how it did.

    `spec` and `metrics` are JSON; `artifact_sha256` is the hash that whoever loads the artefact
    asks for; `timeframe` is that of its bars.
    """

    version: str
    kind: str
    timeframe: Timeframe
    horizons: tuple[str, ...]
    spec: str
    metrics: str
    artifact_sha256: str
    training_from: datetime
    training_until: datetime
    training_set_id: str | None
    stage: str
    is_active: bool
    created_at: datetime


class Registry:
    """Model versions in the database, their artefact folders below a URL.

    Parameters
    ----------
    artifacts_url : a local path, or any URL that fsspec understands
    cache : where folders of a URL that is not local are kept once fetched

    Raises
    ------
    NotFound : no such version; names the close ones.
    BadArtifact : the files are not those that were added.
    Conflict : the version is taken by other files, or retired.
    """

    def __init__(self, database: Database, artifacts_url: str, cache: Path | None = None) -> None:
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        self._database = database
        self._files, self._root = fsspec.core.url_to_fs(artifacts_url)
        self._is_local = isinstance(self._files, LocalFileSystem)
        self._cache = cache
        if not self._is_local and cache is None:
            raise InvalidSpec("artefacts at a remote URL need a local cache folder")

    def add(self, version: ModelVersion, folder: Path) -> None:
        """Keep a copy of `folder` and register the version; the same twice changes nothing."""
        name = _checked_name(version.version)
        digest = _digest(_local_hashes(folder))
        known = self._row(name)
        if known is not None and known["files_sha256"] != digest:
            raise Conflict(f"model {name} is registered with other files; choose a new version")
        if self._stored_digest(name) != digest:
            self._store(name, folder, digest)
        if known is not None:
            return
        values = asdict(version) | {
            "timeframe": version.timeframe.minutes,
            "horizons": json.dumps(version.horizons),
            "files_sha256": digest,
            "is_active": False,
        }
        with self._database.transaction(lock="registry") as connection:
            if self._row(name, connection) is None:
                connection.execute(sa.insert(table).values(values))
            if version.is_active:
                self._activate(connection, name)

    def get(self, version: str) -> ModelVersion:
        """The version of that name."""
        row = self._row(version)
        if row is None:
            raise NotFound.among("model version", version, self._names())
        return _version(row)

    def list(self) -> tuple[ModelVersion, ...]:
        """All versions, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(table)).mappings().all()
        versions = (_version(row) for row in rows)
        return tuple(sorted(versions, key=lambda known: (known.created_at, known.version)))

    def champion(self, timeframe: Timeframe) -> ModelVersion | None:
        """The active version for bars of `timeframe`, or None before the first activation."""
        is_champion = sa.and_(table.c.timeframe == timeframe.minutes, table.c.is_active)
        with self._database.reading() as connection:
            row = connection.execute(sa.select(table).where(is_champion)).mappings().one_or_none()
        return None if row is None else _version(row)

    def activate(self, version: str) -> None:
        """Make `version` the one active version of its timeframe, in one step."""
        self.get(version)
        with self._database.transaction(lock="registry") as connection:
            self._activate(connection, version)

    def fetch(self, version: str) -> Path:
        """A local folder with the files of `version`, found to be those that were added."""
        row = self._row(version)
        if row is None:
            raise NotFound.among("model version", version, self._names())
        folder = Path(self._place(version)) if self._is_local else self._cached(version, row)
        if _digest(_local_hashes(folder)) != row["files_sha256"]:
            raise BadArtifact(f"the files of model {version} were changed; train or restore it")
        return folder

    def holds(self, version: str) -> bool:
        """Whether `version` is registered, with the files that were added then."""
        try:
            self.fetch(version)
        except (NotFound, BadArtifact, OSError):
            return False
        return True

    def _activate(self, connection: sa.Connection, version: str) -> None:
        row = self._row(version, connection)
        assert row is not None
        if row["stage"] == RETIRED:
            raise Conflict(f"model {version} is retired; activate another version")
        others = sa.and_(table.c.timeframe == row["timeframe"], table.c.version != version)
        connection.execute(
            sa.update(table).where(others, table.c.is_active).values(is_active=False)
        )
        connection.execute(
            sa.update(table).where(table.c.version == version).values(is_active=True)
        )

    def _row(
        self, version: str, connection: sa.Connection | None = None
    ) -> Mapping[str, Any] | None:
        query = sa.select(table).where(table.c.version == version)
        if connection is not None:
            row = connection.execute(query).mappings().one_or_none()
        else:
            with self._database.reading() as own:
                row = own.execute(query).mappings().one_or_none()
        return None if row is None else {str(name): value for name, value in row.items()}

    def _names(self) -> tuple[str, ...]:
        return tuple(known.version for known in self.list())

    def _place(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{_checked_name(name)}"

    def _store(self, name: str, folder: Path, digest: str) -> None:
        # Complete under another name first: a crash leaves no half folder under this one.
        unfinished = f"{self._root.rstrip('/')}/.{name}.{secrets.token_hex(4)}"
        self._files.makedirs(unfinished, exist_ok=True)
        for relative in _local_hashes(folder):
            target = f"{unfinished}/{relative}"
            self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(folder / relative), target)
        if self._files.exists(self._place(name)):
            if self._stored_digest(name) == digest:  # another process was as quick
                self._files.rm(unfinished, recursive=True)
                return
            self._files.rm(self._place(name), recursive=True)
        if self._is_local:
            Path(unfinished).rename(self._place(name))
        else:
            self._files.mv(unfinished, self._place(name), recursive=True)

    def _stored_digest(self, name: str) -> str | None:
        place = self._place(name)
        if not self._files.exists(place):
            return None
        hashes = {}
        for path in self._files.find(place):
            with self._files.open(path, "rb") as file:
                relative = path.removeprefix(place).lstrip("/")
                hashes[relative] = hashlib.file_digest(file, "sha256").hexdigest()
        return _digest(hashes)

    def _cached(self, version: str, row: Mapping[str, Any]) -> Path:
        assert self._cache is not None
        folder = self._cache / f"{_checked_name(version)}-{row['files_sha256'][:16]}"
        if folder.is_dir():
            return folder
        unfinished = self._cache / f".{folder.name}.{secrets.token_hex(4)}"
        place = self._place(version)
        for path in self._files.find(place):
            target = unfinished / path.removeprefix(place).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(path, str(target))
        try:
            unfinished.rename(folder)
        except OSError:  # another process was as quick
            shutil.rmtree(unfinished)
        return folder


def _checked_name(name: str) -> str:
    if not VERSION_NAME.fullmatch(name):
        raise InvalidSpec(
            f"{name!r} cannot name a model version; use letters, digits, '.', '_' and '-', "
            "at most 100, starting with a letter or digit"
        )
    return name


def _local_hashes(folder: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BadArtifact(f"{path.name} in {folder} is no plain file; artefacts hold no links")
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            hashes[path.relative_to(folder).as_posix()] = digest
    if not hashes:
        raise BadArtifact(f"{folder} holds no files; train or restore the model")
    return hashes


def _digest(hashes: Mapping[str, str]) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _version(row: Mapping[Any, Any]) -> ModelVersion:
    values = {str(name): value for name, value in row.items() if name != "files_sha256"}
    values["timeframe"] = Timeframe(values["timeframe"])
    values["horizons"] = tuple(json.loads(values["horizons"]))
    return ModelVersion(**values)
