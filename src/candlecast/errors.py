"""Every error candlecast raises, drawn as a tree.

::

    CandlecastError            500   something we did not foresee
    ├── InvalidSpec            422   settings or a spec make no sense
    ├── NotFound               404   unknown symbol, model, feature; names the close matches
    ├── Conflict               409   the state does not allow it
    ├── DataError              422
    │   ├── BadFrame                 columns, dtypes, duplicates, order, naive time
    │   ├── NotEnoughHistory         says how much there is and how much is needed
    │   └── LeakageError       500   a value known after as_of reached a model: stop, never catch
    ├── ModelError             500
    │   ├── NotFitted
    │   ├── FitFailed
    │   └── BadArtifact              hash, size, format or parity is wrong
    ├── BadCredentials         502   a provider does not accept our key
    └── RetryableError         503   may succeed if tried again
        ├── ProviderUnavailable
        ├── RateLimited              carries retry_after_seconds
        └── DatabaseBusy

``status`` is the HTTP status an API answers with, ``is_retryable`` says whether trying again
can help. Every message names the remedy.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar


class CandlecastError(Exception):
    """The root of all errors we raise on purpose."""

    status: ClassVar[int] = 500
    is_retryable: ClassVar[bool] = False


class InvalidSpec(CandlecastError):
    """Settings or a spec make no sense."""

    status = 422


class NotFound(CandlecastError):
    """An unknown name; the message lists what comes close."""

    status = 404

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str]) -> NotFound:
        """The error for an unknown `name` of a `kind`, with the close matches among `known`."""
        return cls(_unknown(kind, name, known))


class Conflict(CandlecastError):
    """The present state does not allow what was asked."""

    status = 409


class DataError(CandlecastError):
    """The data cannot be used as they are."""

    status = 422


class BadFrame(DataError):
    """Columns, dtypes, duplicates, order or time zone of a frame are wrong."""


class NotEnoughHistory(DataError):
    """Too few bars; the message says how many there are and how many are needed."""


class LeakageError(DataError):
    """A value known only after ``as_of`` reached a model: stop, never catch."""

    status = 500


class ModelError(CandlecastError):
    """A model cannot be fitted, loaded or asked."""


class NotFitted(ModelError):
    """The model was asked before it was fitted."""


class FitFailed(ModelError):
    """Fitting did not lead to a usable model."""


class BadArtifact(ModelError):
    """An artefact's hash, size, format or parity is wrong."""


class BadCredentials(CandlecastError):
    """A provider does not accept our key, or the key does not buy what was asked for."""

    status = 502


class RetryableError(CandlecastError):
    """Trying again can help."""

    status = 503
    is_retryable = True


class ProviderUnavailable(RetryableError):
    """A provider does not answer."""


class RateLimited(RetryableError):
    """A provider asks us to wait."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DatabaseBusy(RetryableError):
    """Another process holds the database for longer than we wait."""


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    choices = sorted(known)
    folded = {choice.casefold(): choice for choice in choices}
    if name.casefold() in folded:
        close = [folded[name.casefold()]]
    else:
        close = get_close_matches(name, choices, n=3, cutoff=0.5)
    if not close:
        close = [folded[m] for m in get_close_matches(name.casefold(), folded, n=3, cutoff=0.4)]
    if close:
        return f"unknown {kind} {name!r}; did you mean {', '.join(close)}?"
    if not choices:
        return f"unknown {kind} {name!r}; there is none yet"
    shown = ", ".join(choices[:8]) + (" …" if len(choices) > 8 else "")
    return f"unknown {kind} {name!r}; there are: {shown}"
