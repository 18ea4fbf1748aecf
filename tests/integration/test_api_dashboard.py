"""The dashboard's own checks, run with whatever Node built it; its lock and its sizes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DASHBOARD = Path(__file__).resolve().parents[2] / "dashboard"
OWN_BIN = Path(sys.executable).parent
NODE = shutil.which("node") or shutil.which("node", path=str(OWN_BIN))
CHECKS = {
    "types": ["node_modules/typescript-native/bin/tsc", "--noEmit"],
    "tests": ["node_modules/vitest/vitest.mjs", "run"],
}


@pytest.mark.skipif(
    NODE is None or not (DASHBOARD / "node_modules" / "vitest").is_dir(),
    reason="THE DASHBOARD'S CHECKS DO NOT RUN: no Node or no node_modules; run make setup",
)
@pytest.mark.parametrize("check", CHECKS)
def test_the_dashboard_passes_its_own(check):
    command = [str(NODE), *CHECKS[check]]
    environment = {**os.environ, "NO_COLOR": "1", "CI": "1"}
    done = subprocess.run(
        command, cwd=DASHBOARD, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lock_names_packages_and_hashes_but_no_place_they_came_from():
    text = (DASHBOARD / "package-lock.json").read_text(encoding="utf-8")
    packages = json.loads(text)["packages"]
    assert not [name for name, entry in packages.items() if "resolved" in entry]
    assert all(entry.get("integrity") for name, entry in packages.items() if name)
    assert not re.search(r"registry|localhost|127\.0\.0\.1", text)


def test_versions_are_exact():
    manifest = json.loads((DASHBOARD / "package.json").read_text(encoding="utf-8"))
    wanted = {**manifest["dependencies"], **manifest["devDependencies"]}
    assert all(re.fullmatch(r"(npm:[\w-]+@)?\d+\.\d+\.\d+", v) for v in wanted.values())


def test_no_file_is_too_long_to_be_read():
    for path in (DASHBOARD / "src").rglob("*"):
        if path.suffix in {".ts", ".tsx", ".css"} and path.parent.name != "api":
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path.name
