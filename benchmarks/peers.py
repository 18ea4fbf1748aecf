"""Peers in Python environments of their own: installed once, exact versions, run in a process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from candlecast.store.migrate import file_lock

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements"
ENVIRONMENTS = HERE.parent / "var" / "peers"
INSTALLED = ".installed"
ONE_CORE = dict.fromkeys(
    (
        *("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
        *("NUMEXPR_MAX_THREADS", "BLOSC_NTHREADS"),
    ),
    "1",
)


class PeerMissing(Exception):
    """A peer cannot be installed here; the message says why."""


def interpreter(peer: str) -> Path:
    """The Python that has `peer`: made at the first call, with the versions of its list.

    It never touches the environment that runs this. PeerMissing where it cannot be made.
    """
    wanted = (REQUIREMENTS / f"{peer}.txt").read_bytes() + sys.version.encode()
    folder = ENVIRONMENTS / f"{peer}-{hashlib.sha256(wanted).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    with file_lock(ENVIRONMENTS / f"{peer}.lock"):
        if not (folder / INSTALLED).exists():
            for old in ENVIRONMENTS.glob(f"{peer}-*"):
                shutil.rmtree(old)
            _install(peer, folder)
    return python


def run(python: Path | str, script: str, *arguments: str) -> dict[str, Any]:
    """What `script`, beside this file, prints last (JSON), run by `python` on one core."""
    command = [str(python), str(HERE / script), *arguments]
    with _on_one_core():
        done = subprocess.run(
            command, env=_environment(), capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise RuntimeError(f"{script} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def say_missing(peer: str, reason: object) -> None:
    """Tell loudly that a peer is left out."""
    print(f"!!! {peer} IS LEFT OUT: {reason}", file=sys.stderr, flush=True)


def _install(peer: str, folder: Path) -> None:
    print(f"installing {peer} into {folder} (some minutes at most) ...", flush=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    packages = ["--quiet", "--no-deps", "--only-binary", ":all:"]
    packages += ["--requirement", str(REQUIREMENTS / f"{peer}.txt")]
    try:
        for command in ([sys.executable, "-m", "venv", str(folder)], [*pip, *packages]):
            subprocess.run(command, env=_environment(), check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        output = (getattr(error, "stderr", None) or str(error)).strip()
        raise PeerMissing(f"it cannot be installed: {output[-500:]}") from error
    (folder / INSTALLED).touch()


@contextmanager
def _on_one_core() -> Iterator[None]:
    # A process inherits the cores of the thread that starts it (where the system lets us choose).
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _environment() -> dict[str, str]:
    # Nothing of ours: neither the pins of this project nor its settings or places of modules.
    ours = ("CANDLECAST_", "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "PYTHONPATH", "VIRTUAL_ENV")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    return kept | ONE_CORE
