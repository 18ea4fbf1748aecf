"""Errors: one tree, a status each, and messages that name what comes close."""

import inspect

import pytest

from candlecast import errors
from candlecast.errors import CandlecastError, LeakageError, NotFound, RateLimited, RetryableError

ALL = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_hangs_in_the_tree_that_the_module_draws(kind):
    assert issubclass(kind, CandlecastError)
    assert kind.__name__ in errors.__doc__
    assert kind.__doc__


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_only_what_may_succeed_later_is_retryable(kind):
    assert kind.is_retryable == issubclass(kind, RetryableError)
    assert (kind.status == 503) == kind.is_retryable


def test_a_leak_is_our_fault_though_it_is_found_in_data():
    assert LeakageError.status == 500


def test_an_unknown_name_is_answered_with_the_close_ones():
    message = str(NotFound.among("symbol", "AAPLE", ["AAPL", "MSFT", "IBM"]))
    assert message == "unknown symbol 'AAPLE'; did you mean AAPL?"


def test_close_names_are_found_whatever_their_case():
    assert "did you mean AAPL?" in str(NotFound.among("symbol", "aapl", ["AAPL", "MSFT"]))
    assert "did you mean 1d?" in str(NotFound.among("timeframe", "1D", ["1m", "1h", "1d"]))


def test_without_a_close_name_the_first_few_are_listed():
    message = str(NotFound.among("model", "zzz", [f"name{i}" for i in range(20)]))
    assert "there are: name0, name1, name10" in message
    assert message.endswith("…")


def test_where_there_is_nothing_yet_the_message_says_so():
    assert str(NotFound.among("model", "har", [])).endswith("there is none yet")


def test_a_rate_limit_carries_how_long_to_wait():
    assert RateLimited("slow down", retry_after_seconds=2.5).retry_after_seconds == 2.5
