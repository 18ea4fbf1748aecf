"""Addresses of vendors: checked, compared, and told without what they may hold of a key."""

from __future__ import annotations

import httpx

from candlecast.errors import InvalidSpec


def parsed(url: str, vendor: str) -> httpx.URL:
    """`url` as an address of `vendor`; InvalidSpec where it is none."""
    try:
        found = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        found = httpx.URL()
    if found.scheme not in {"http", "https"} or not found.host:
        # The text itself may hold a key.
        raise InvalidSpec(f"the URL of {vendor} is none; write it as https://host/path")
    return found


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Scheme, host and port: who may see a key may see it at each of its paths."""
    return url.scheme, url.host, url.port


def moved(response: httpx.Response, what: str) -> str:
    """Where a redirecting `response` sends who asks for `what`, and what to do about it."""
    try:
        url = response.url.join(response.headers["location"])
        address = f"{url.scheme}://{url.netloc.decode()}{url.path}"  # the query may hold a key
    except httpx.InvalidURL:
        address = "an address that is none"
    return (
        f"{what} moved to {address} (HTTP {response.status_code}); name that as the base URL if "
        "you trust it"
    )
