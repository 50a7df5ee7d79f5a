"""OTLP over HTTP: POST /v1/traces, /v1/metrics and /v1/logs, protobuf or JSON."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import FastAPI
from google.rpc.status_pb2 import Status
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from collector import protocol, refusal
from collector.errors import (
    BodyTooLargeError,
    CollectorError,
    InvalidBodyError,
    UnavailableError,
    UnsupportedMediaError,
)
from collector.protocol import LOGS, METRICS, TRACES, Encoding, Signal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Future

    from collector.ingest import Ingest, Receipt
    from collector.settings import CollectorSettings

PATHS = {
    "/v1/traces": TRACES,
    "/v1/metrics": METRICS,
    "/v1/logs": LOGS,
    # Where Langfuse's SDKs send their spans.
    "/api/public/otel/v1/traces": TRACES,
}
MEDIA_TYPES = {
    "application/x-protobuf": Encoding.PROTOBUF,
    "application/protobuf": Encoding.PROTOBUF,
    "application/json": Encoding.JSON,
}
# Parsing this much takes under a millisecond, less than the event loop can well be away; the hop to a thread
# and back costs a tenth of that. Compressed and JSON bodies always hop.
INLINE_BYTES_MAX = 64 * 1024
# google.rpc.Code for the statuses that the router answers by itself.
ROUTER_CODES = {404: 5, 405: 12}


def create_http_app(ingest: Ingest, settings: CollectorSettings) -> FastAPI:
    """The ASGI application; whoever serves it closes `ingest` afterwards."""
    routes = [Route(path, _exporter(ingest, settings, signal), methods=["POST"]) for path, signal in PATHS.items()]
    app = FastAPI(title="Pennytrace OTLP", openapi_url=None, docs_url=None, redoc_url=None, routes=[*routes])
    app.add_exception_handler(HTTPException, _answer_router)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    return app


def _exporter(ingest: Ingest, settings: CollectorSettings, signal: Signal) -> Callable[[Request], Awaitable[Response]]:
    async def export(request: Request) -> Response:
        encoding = Encoding.JSON
        try:
            encoding = _encoding(request)
            body = await _read(request, ingest, signal, settings.body_bytes_max)
            receipt = await asyncio.wrap_future(await _receive(ingest, signal, request, body, encoding))
        except CollectorError as error:
            return _refuse(error, encoding, settings.retry_after_s)
        content = protocol.response(signal, receipt.rejected, encoding)
        return Response(content, media_type=encoding.value)

    return export


def _encoding(request: Request) -> Encoding:
    media_type = request.headers.get("content-type", "")
    encoding = MEDIA_TYPES.get(media_type.partition(";")[0].strip().lower())
    if encoding is None:
        raise UnsupportedMediaError(
            f"expected content-type application/x-protobuf or application/json, got {media_type!r}"
        )
    return encoding


async def _receive(
    ingest: Ingest, signal: Signal, request: Request, body: bytes, encoding: Encoding
) -> Future[Receipt]:
    content_encoding = request.headers.get("content-encoding", "")
    if not content_encoding and encoding is Encoding.PROTOBUF and len(body) <= INLINE_BYTES_MAX:
        return ingest.receive(signal, body, encoding)
    return await asyncio.to_thread(ingest.receive, signal, body, encoding, content_encoding)


async def _read(request: Request, ingest: Ingest, signal: Signal, bytes_max: int) -> bytes:
    """The body as it arrives.

    What is over the limit is thrown away, and read on to twice the limit so that an ordinary sender gets to
    see its answer; one that does not stop there is cut off.
    """
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= bytes_max:
            parts.append(part)
            continue
        parts.clear()
        if size > 2 * bytes_max:
            break
    if size > bytes_max:
        error = BodyTooLargeError(f"expected a body of at most {bytes_max} bytes, got more: send smaller batches")
        ingest.count_refusal(signal, error)
        raise error
    return b"".join(parts)


def _refuse(error: CollectorError, encoding: Encoding, retry_after_s: int) -> Response:
    headers = {"retry-after": str(retry_after_s)} if isinstance(error, UnavailableError) else {}
    if isinstance(error, BodyTooLargeError):
        headers["connection"] = "close"  # the rest of the body may be unread
    content = protocol.encode(refusal.status(error, retry_after_s), encoding)
    return Response(content, error.http_status, headers, encoding.value)


async def _answer_router(request: Request, error: Exception) -> Response:
    """Unknown paths and methods: the router's answer as a google.rpc.Status."""
    if not isinstance(error, HTTPException):
        raise error
    try:
        encoding = _encoding(request)
    except UnsupportedMediaError:
        encoding = Encoding.JSON
    message = f"{error.detail}: expected POST on one of {', '.join(PATHS)}, got {request.method} {request.url.path}"
    content = protocol.encode(Status(code=ROUTER_CODES.get(error.status_code, 2), message=message), encoding)
    return Response(content, error.status_code, error.headers, encoding.value)


async def _answer_nobody(_request: Request, error: Exception) -> Response:
    """The sender went away before its body was whole: nothing was taken in, and nobody reads this."""
    return Response(str(InvalidBodyError(f"the body broke off ({error!r})")), 400)
