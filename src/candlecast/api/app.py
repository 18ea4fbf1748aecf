"""create_app(): error handlers, routers, static dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from candlecast.api import (
    chart,
    explanations,
    market,
    operations,
    predict,
    quality,
    ranks,
    report,
)
from candlecast.api.headers import HeadersMiddleware
from candlecast.api.responses import ErrorBody, as_error, error_response
from candlecast.api.sizes import SizeMiddleware
from candlecast.errors import CandlecastError
from candlecast.store.stores import Stores

STATIC: Final = Path(__file__).parent / "static"
NOT_BUILT: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>candlecast</title>
<h1>The dashboard is not built yet</h1>
<p>Build it with <code>make setup</code>, or with <code>npm ci &amp;&amp; npm run build</code> in
the folder <code>dashboard</code> (Node 20 or newer), and reload this page.</p>
<p>The API works without it: <a href="/api/v1/openapi.json">its description</a>,
<a href="/api/v1/symbols">the symbols</a>, <a href="/api/v1/forecasts">the forecasts</a>.</p>
</html>
"""

_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": ErrorBody, "description": "Unknown name; the message lists the close ones."},
    422: {"model": ErrorBody, "description": "A parameter makes no sense."},
    503: {"model": ErrorBody, "description": "Busy; try again after Retry-After seconds."},
}


def create_app(
    stores: Stores, *, cors_origins: Sequence[str] = (), static_folder: Path = STATIC
) -> FastAPI:
    """The application over `stores`; whoever opened them closes them.

    `cors_origins` may call the API from other pages; `static_folder` holds the built dashboard.
    """
    app = FastAPI(
        title="candlecast",
        version="1",  # of the API; /healthz tells the version of the program
        summary="Bars in, calibrated distributions out.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
        responses=_ERRORS,
        generate_unique_id_function=_operation_id,
    )
    app.state.stores = stores
    app.state.quality_answers = quality.Answers()
    for module in (operations, market, chart, quality, predict, explanations, ranks, report):
        app.include_router(module.router)
    app.add_exception_handler(CandlecastError, _on_known_error)
    app.add_exception_handler(RequestValidationError, _on_bad_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_unforeseen_error)
    app.add_middleware(SizeMiddleware)
    methods = ["GET", "POST"]
    app.add_middleware(CORSMiddleware, allow_origins=list(cors_origins), allow_methods=methods)
    app.add_middleware(HeadersMiddleware)
    _serve_dashboard(app, static_folder)
    return app


def _serve_dashboard(app: FastAPI, folder: Path) -> None:
    if (folder / "index.html").is_file():
        app.mount("/", StaticFiles(directory=folder, html=True), name="dashboard")
        return

    @app.get("/", include_in_schema=False)
    def not_built() -> HTMLResponse:
        return HTMLResponse(NOT_BUILT)


def _operation_id(route: APIRoute) -> str:
    return route.name


def _on_known_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, CandlecastError)
    return as_error(error)


def _on_bad_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()]
    return error_response("InvalidSpec", "; ".join(found), 422)


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        message = f"there is nothing at {request.url.path}; see /api/v1/openapi.json"
        return error_response("NotFound", message, 404)
    message = f"{error.detail} at {request.url.path}"
    return error_response("HTTPError", message, error.status_code, error.headers)


def _on_unforeseen_error(_: Request, __: Exception) -> Response:
    # What went wrong is for the log, where the server writes the traceback, not for the reader.
    return error_response("CandlecastError", "something went wrong here; see the log", 500)
