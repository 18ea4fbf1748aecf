"""Is the service alive?"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Response

from candlecast import __version__
from candlecast.api.dependencies import StoresDep
from candlecast.api.responses import ApiModel, as_json, iso
from candlecast.store.symbols import read_symbols

router = APIRouter(tags=["operations"])


class Health(ApiModel):
    """The service answers, and what time it takes it to be."""

    status: Literal["ok"]
    version: str
    now: datetime


@router.get("/healthz", response_model=Health)
def health(stores: StoresDep) -> Response:
    """Whether the service and its database answer."""
    read_symbols(stores.database)
    now = iso(stores.clock.now())
    return as_json({"status": "ok", "version": __version__, "now": now})
