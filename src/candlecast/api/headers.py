"""Headers that every response carries: what the page may load, and what may be cached."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECURITY: Final = {
    # Everything comes from here. The chart library writes one style element for its attribution.
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
_FOREVER: Final = "public, max-age=31536000, immutable"


class HeadersMiddleware:
    """Adds the security headers and a caching rule; a plain ASGI class, for it runs every time.

    Files under ``/assets/`` have their content's hash in their names and never change; all else
    is asked for anew each time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on to the app, and complete the headers of its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_SECURITY)
                is_asset = scope["path"].startswith("/assets/") and message["status"] < 400
                headers.setdefault("Cache-Control", _FOREVER if is_asset else "no-cache")
            await send(message)

        await self._app(scope, receive, send_with_headers)
