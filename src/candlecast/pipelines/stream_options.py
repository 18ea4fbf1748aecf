"""How a stream behaves, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from candlecast.domain.bar_builder import MINUTE, Delays
from candlecast.pipelines.watchdog import Backoff


def ignore(_: object) -> None:
    """Listen to nothing."""


@dataclass(frozen=True)
class StreamOptions:
    """How a stream behaves.

    `source` names the bars that are built here. The feed is given up after `silence` within a
    session; by default two bars are overdue then. Every `reconcile` the archive is asked for
    symbols without a tick for a third of that time, and for every symbol once its session has
    ended. A feed whose absent bars prove nothing (a replay of the store) is not `is_covering`.
    One that is `is_deriving` keeps coarser bars up to date as well.
    `tell` hears of reconnections, healed gaps and refusals.
    """

    source: str = "stream"
    until: datetime | None = None
    silence: timedelta = 2 * MINUTE + timedelta(seconds=10)
    reconcile: timedelta = 15 * MINUTE
    delays: Delays = field(default_factory=Delays)
    is_covering: bool = True
    is_deriving: bool = True
    backoff: Backoff = field(default_factory=lambda: Backoff(np.random.default_rng()))
    tell: Callable[[str], None] = ignore


@dataclass
class StreamRun:
    """What happened: bars stored, bars healed (new ones only), connections, ticks refused."""

    n_bars: int = 0
    n_revised: int = 0
    n_healed: int = 0
    n_connections: int = 0
    n_refused: int = 0
    failures: dict[str, str] = field(default_factory=dict)
