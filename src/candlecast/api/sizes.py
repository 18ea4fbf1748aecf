"""How large a request may be: what is larger is refused before it is read."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from candlecast.api.responses import error_response

MAX_BODY_BYTES: Final = 256 * 1024


class SizeMiddleware:
    """Answers 413 to a body of more than 256 KiB, told or sent; a plain ASGI class."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on to the app a body that is small enough."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        parts: list[Message] = []
        told, size, is_last = _told(scope), 0, False
        while max(told, size) <= MAX_BODY_BYTES and not is_last:
            message = await receive()
            parts.append(message)
            is_last = not message.get("more_body", False)
            size += len(message.get("body", b""))
        if max(told, size) > MAX_BODY_BYTES:
            text = f"the request is larger than {MAX_BODY_BYTES // 1024} KiB; ask for less at once"
            await error_response("InvalidSpec", text, 413)(scope, receive, send)
            return

        async def replay() -> Message:
            return parts.pop(0) if parts else await receive()

        await self._app(scope, replay, send)


def _told(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
