"""The command line as a shell sees it: called in this process, or in one of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from candlecast.cli import main


class Answer(NamedTuple):
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def call(*arguments: object) -> Answer:
    """Run `candlecast` with `arguments` in this process, in its folder and environment."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    given = ["candlecast", *map(str, arguments)]
    with mock.patch.object(sys, "argv", given), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


def start(*arguments: object, folder: Path, **variables: str) -> subprocess.Popen[str]:
    """Start `candlecast` in a process of its own, in `folder` and with nothing else set."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CANDLECAST_")}
    return subprocess.Popen(
        [sys.executable, "-m", "candlecast", *map(str, arguments)],
        cwd=folder,
        env=kept | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], timeout_seconds: float = 300) -> Answer:
    """Wait for a started command."""
    out, err = process.communicate(timeout=timeout_seconds)
    return Answer(process.returncode, out, err)
