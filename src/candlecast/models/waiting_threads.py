"""How the threads of the libraries that learn wait for each other: told while they are loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

WAIT_POLICY: Final = "OMP_WAIT_POLICY"


@contextmanager
def passive_threads() -> Iterator[None]:
    """A library loaded within has threads that sleep while they wait; what the user set stands.

    Threads that wait by spinning fight over shared cores: eight times slower when measured beside
    other work, no faster alone. The policy is read when a library is loaded, so it is taken back
    afterwards: programs started later are the user's own, and our own say it again.
    """
    if WAIT_POLICY in os.environ:
        yield
        return
    os.environ[WAIT_POLICY] = "PASSIVE"
    try:
        yield
    finally:
        os.environ.pop(WAIT_POLICY, None)
