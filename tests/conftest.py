"""What many tests share: a clock that stands still, and markets made once a session."""

from __future__ import annotations

import gc
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import settings

from candlecast.domain.market import FixedClock
from price_frames import daily_prices, nasty_prices

settings.register_profile("shared_machine", deadline=None)
settings.load_profile("shared_machine")


def pytest_collection_finish() -> None:
    """What was imported and collected stays: no search for garbage has to look through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands after every bar of the fixtures."""
    return FixedClock(datetime(2020, 1, 2, 22, 0, tzinfo=UTC))


@pytest.fixture(scope="session")
def prices() -> pl.DataFrame:
    """PRICES of four symbols over 520 sessions; one starts late, one has gaps, one ends early."""
    return daily_prices()


@pytest.fixture(scope="session")
def nasty() -> pl.DataFrame:
    """PRICES of symbols that break careless arithmetic."""
    return nasty_prices()
