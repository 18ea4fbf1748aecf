"""How answers and errors are written: JSON once serialised, and the models that document it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import Response
from pydantic import BaseModel, ConfigDict

from candlecast.errors import CandlecastError, RateLimited, RetryableError


class ApiModel(BaseModel):
    """What all documented bodies share: exactly these fields, no others."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(ApiModel):
    """What went wrong, in words that name the remedy."""

    kind: str
    message: str
    is_retryable: bool


class ErrorBody(ApiModel):
    """The body of every answer that is an error."""

    error: ErrorDetail


def as_json(payload: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`payload` as a finished response; numbers that are not finite become null."""
    content = orjson.dumps(payload, option=orjson.OPT_NON_STR_KEYS)
    return Response(content, status, headers, media_type="application/json")


def error_response(
    kind: str, message: str, status: int, headers: Mapping[str, str] | None = None
) -> Response:
    """An error that no CandlecastError stands for."""
    detail = {"kind": kind, "message": message, "is_retryable": False}
    return as_json({"error": detail}, status, headers)


def as_error(error: CandlecastError) -> Response:
    """The response to `error`, with Retry-After where trying again can help."""
    detail = {
        "kind": type(error).__name__,
        "message": str(error),
        "is_retryable": error.is_retryable,
    }
    headers = {}
    if isinstance(error, RetryableError):
        seconds = error.retry_after_seconds if isinstance(error, RateLimited) else 1.0
        headers["Retry-After"] = str(max(1, round(seconds)))
    return as_json({"error": detail}, error.status, headers)


def iso(instant: datetime) -> str:
    """`instant` as ISO 8601 in UTC, ending in Z."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
