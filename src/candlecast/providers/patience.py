"""Bounded retries around a vendor's own client library: waits that double and jitter."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

import numpy as np

from candlecast.errors import RateLimited, RetryableError
from candlecast.providers.http import Politeness

T = TypeVar("T")
PATIENT: Final = Politeness(timeout_seconds=10.0, max_wait_seconds=30.0)
"""For libraries that pace themselves, and may send several requests for one question."""


def tried(ask: Callable[[], T], politeness: Politeness) -> T:
    """What `ask` returns, asked again where it raised a RetryableError.

    The last error is raised; so is at once one that cannot pass, or that asks for more patience
    than `max_wait_seconds`.
    """
    generator = np.random.default_rng()  # unseeded by intent: who failed together comes apart
    for n_tried in range(1, politeness.max_tries):
        try:
            return ask()
        except RetryableError as error:
            wait = politeness.first_wait_seconds * generator.uniform(0.5, 1.0) * 2 ** (n_tried - 1)
            if isinstance(error, RateLimited):
                wait += error.retry_after_seconds
            if not error.is_retryable or wait > politeness.max_wait_seconds:
                raise
        time.sleep(wait)
    return ask()
