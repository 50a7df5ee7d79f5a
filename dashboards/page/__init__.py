"""The built-in page: its routes; the HTML, CSS and JavaScript lie beside this file, without a build step.

GET /                    the page
GET /static/{file}       its files, none from elsewhere
GET /api/panels          boards and panels
GET /api/panels/{name}   a panel's answer: since, until, step_seconds, service, endpoint, model, tenant
GET /api/filters         values to filter by in a range
"""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, HTTPException, Query, Response
from fastapi.responses import JSONResponse

from dashboards.answers import Range, answer_json, catalogue_json
from dashboards.catalogue import panel_named
from dashboards.read import Filters, dimension_values
from storage import QueryError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from storage import Store

# Every reading thread holds a connection of its own; more of them than cores make no page faster.
READERS_MAX = 4
RANGE_DEFAULT = "7d"
FILES = {
    "page.js": "text/javascript",
    "state.js": "text/javascript",
    "panels.js": "text/javascript",
    "chart.js": "text/javascript",
    "format.js": "text/javascript",
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
    "vendor/uPlot.iife.min.js": "text/javascript",
    "vendor/uPlot.min.css": "text/css",
}
# Nothing from elsewhere, nothing inline, in nobody's frame: a model's or a tenant's name can never run.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

Values = Annotated[list[str] | None, Query()]
Since = Annotated[str, Query(description="a time, or a span back from now such as 24h, 7d, 4w")]
Until = Annotated[str, Query(description="a time or a span; empty is now")]
Step = Annotated[int | None, Query(ge=1, le=366 * 86_400, description="seconds; at least an hour")]


def create_page_router(store: Store, clock: Callable[[], datetime]) -> APIRouter:
    """Routes of the page and of its data; `clock` says what "now" is for relative ranges."""
    router = APIRouter()
    _add_files(router)
    _add_answers(router, store, clock)
    return router


def _add_files(router: APIRouter) -> None:
    @router.get("/", include_in_schema=False)
    def index() -> Response:
        return _file("index.html", "text/html")

    @router.get("/static/{name:path}", include_in_schema=False)
    def static(name: str) -> Response:
        if name not in FILES:
            raise HTTPException(404, f"the page has no file {name!r}")
        return _file(name, FILES[name])


def _add_answers(router: APIRouter, store: Store, clock: Callable[[], datetime]) -> None:
    limiter = CapacityLimiter(READERS_MAX)

    async def read(question: Callable[[], dict[str, Any]]) -> JSONResponse:
        return await _answer(question, limiter)

    @router.get("/api/panels", summary="Boards and panels")
    def panels() -> JSONResponse:
        return JSONResponse(catalogue_json(), headers=SECURITY_HEADERS)

    @router.get("/api/panels/{name}", summary="A panel's answer")
    async def panel_answer(
        name: str,
        filters: Annotated[Filters, Depends(_filters)],
        since: Since = RANGE_DEFAULT,
        until: Until = "",
        step_seconds: Step = None,
    ) -> JSONResponse:
        panel = panel_named(name)
        if panel is None:
            raise HTTPException(404, f"there is no panel {name!r}: GET /api/panels lists them")
        asked = _range(since, until, clock())
        return await read(partial(answer_json, store, panel, asked, filters, step_seconds))

    @router.get("/api/filters", summary="Values to filter by")
    async def filter_values(since: Since = RANGE_DEFAULT, until: Until = "") -> JSONResponse:
        asked = _range(since, until, clock())
        return await read(lambda: {"values": dimension_values(store, asked.since, asked.until)})


async def _answer(question: Callable[[], dict[str, Any]], limiter: CapacityLimiter) -> JSONResponse:
    try:
        content = await to_thread.run_sync(question, limiter=limiter)
    except StoreUnavailableError as error:
        raise HTTPException(503, str(error), {"Retry-After": "2"}) from error
    except QueryError as error:
        raise HTTPException(500, str(error)) from error
    return JSONResponse(content, headers=SECURITY_HEADERS)


def _filters(service: Values = None, endpoint: Values = None, model: Values = None, tenant: Values = None) -> Filters:
    return Filters(tuple(service or ()), tuple(endpoint or ()), tuple(model or ()), tuple(tenant or ()))


def _range(since: str, until: str, now: datetime) -> Range:
    try:
        return Range.parse(since, until, now)
    except ValueError as error:
        raise HTTPException(422, str(error)) from error


def _file(name: str, media_type: str) -> Response:
    content = files("dashboards").joinpath("page", name).read_bytes()
    return Response(content, media_type=media_type, headers=SECURITY_HEADERS)
