"""OTLP over HTTP: POST /v1/traces, /v1/metrics and /v1/logs, protobuf or JSON."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import FastAPI
from google.rpc.status_pb2 import Status
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from collector import protocol, refusal
from collector.admission import (
    BODY_BYTES_PER_S_MIN,
    PAUSE_S_MAX,
    Admission,
    ForeignOriginError,
    Lease,
    SlowBodyError,
)
from collector.errors import (
    BodyTooLargeError,
    CollectorError,
    InvalidBodyError,
    UnavailableError,
    UnsupportedMediaError,
)
from collector.keys import CHALLENGES, Scope, UnauthenticatedError, presented
from collector.protocol import LOGS, METRICS, TRACES, Encoding, Signal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
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


# What exporters in browsers send besides the headers that need no permission.
CORS_HEADERS = ("authorization", "content-encoding", "content-type", "traceparent", "tracestate", "x-api-key")


def create_http_app(
    ingest: Ingest,
    settings: CollectorSettings,
    admission: Admission | None = None,
    cors_origins: Sequence[str] = (),
) -> FastAPI:
    """The ASGI application; whoever serves it closes `ingest` afterwards.

    Pages of `cors_origins` ('*': of any site) may send from browsers; without any, none may.
    """
    exporter = _Exporter(ingest, settings, admission or Admission.of(settings), cors_origins)
    routes = [Route(path, exporter.route(signal), methods=["POST"]) for path, signal in PATHS.items()]
    app = FastAPI(title="Pennytrace OTLP", openapi_url=None, docs_url=None, redoc_url=None, routes=[*routes])
    app.add_exception_handler(HTTPException, _answer_router)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["POST"],
            allow_headers=CORS_HEADERS,
            expose_headers=["retry-after"],
        )
    return app


class _Exporter:
    def __init__(
        self, ingest: Ingest, settings: CollectorSettings, admission: Admission, origins: Sequence[str]
    ) -> None:
        self._ingest = ingest
        self._settings = settings
        self._admission = admission
        self._origins = frozenset(origins)

    def route(self, signal: Signal) -> Callable[[Request], Awaitable[Response]]:
        async def export(request: Request) -> Response:
            try:
                return await self._export(signal, request)
            except CollectorError as error:
                return _refuse(error, _encoding_of_answer(request), self._settings.retry_after_s)

        return export

    async def _export(self, signal: Signal, request: Request) -> Response:
        try:
            self._require_own_origin(request)
            tenant = self._tenant(request)
        except CollectorError as error:
            self._ingest.count_refusal(signal, error)
            raise
        encoding = _encoding(request)
        with self._admission.reading.lease() as lease:
            try:
                body = await self._read(request, lease)
            except CollectorError as error:
                self._ingest.count_refusal(signal, error)
                raise
            pending = await self._receive(signal, request, body, encoding, tenant)
            del body
        receipt = await asyncio.wrap_future(pending)
        return Response(protocol.response(signal, receipt.rejected, encoding), media_type=encoding.value)

    def _require_own_origin(self, request: Request) -> None:
        """Browsers name the page's origin, whatever name the page gave this machine; programs name none."""
        origin = request.headers.get("origin")
        if origin is not None and not self._origins & {origin, "*"}:
            raise ForeignOriginError(f"pages of {origin} may not send: add it to [server] cors_origins if they should")

    def _tenant(self, request: Request) -> str:
        headers = request.headers
        found = presented(headers.get("authorization", ""), headers.get("x-api-key", ""))
        return self._admission.keys.require(Scope.WRITE, found)

    async def _receive(
        self, signal: Signal, request: Request, body: bytes, encoding: Encoding, tenant: str
    ) -> Future[Receipt]:
        content_encoding = request.headers.get("content-encoding", "")
        if not content_encoding and encoding is Encoding.PROTOBUF and len(body) <= INLINE_BYTES_MAX:
            return self._ingest.receive(signal, body, encoding, tenant=tenant)
        return await asyncio.to_thread(self._ingest.receive, signal, body, encoding, content_encoding, tenant)

    async def _read(self, request: Request, lease: Lease) -> bytes:
        """The body as it arrives.

        What is over the limit is thrown away, and read on to twice the limit so that an ordinary sender gets to
        see its answer; one that does not stop there is cut off.
        """
        bytes_max = self._settings.body_bytes_max
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(None) as deadline:
                clock = asyncio.get_running_loop().time
                begun = clock()
                deadline.reschedule(self._deadline(begun, begun, 0))
                async for part in request.stream():
                    if not part:
                        continue
                    size += len(part)
                    deadline.reschedule(self._deadline(begun, clock(), size))
                    if size <= bytes_max:
                        lease.take(len(part))
                        parts.append(part)
                        continue
                    parts.clear()
                    lease.shrink(0)
                    if size > 2 * bytes_max:
                        break
        except TimeoutError as error:
            raise SlowBodyError(f"expected the body sooner, got {size} bytes of it: try again") from error
        if size > bytes_max:
            raise BodyTooLargeError(f"expected a body of at most {bytes_max} bytes, got more: send smaller batches")
        # The beginning of a request may be a request as well, and nothing at all is one.
        if (announced := request.headers.get("content-length")) and int(announced) != size:
            raise InvalidBodyError(f"expected a body of {announced} bytes as announced, got {size}: send all of it")
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def _deadline(self, begun: float, now: float, size: int) -> float:
        """Until when the next part has to come, when `size` bytes have come since `begun`."""
        whole = begun + self._settings.body_timeout_s + size / BODY_BYTES_PER_S_MIN
        return min(whole, now + PAUSE_S_MAX)


def _encoding(request: Request) -> Encoding:
    media_type = request.headers.get("content-type", "")
    encoding = MEDIA_TYPES.get(media_type.partition(";")[0].strip().lower())
    if encoding is None:
        raise UnsupportedMediaError(
            f"expected content-type application/x-protobuf or application/json, got {media_type!r}"
        )
    return encoding


def _encoding_of_answer(request: Request) -> Encoding:
    try:
        return _encoding(request)
    except UnsupportedMediaError:
        return Encoding.JSON


def _refuse(error: CollectorError, encoding: Encoding, retry_after_s: int) -> Response:
    content = protocol.encode(refusal.status(error, retry_after_s), encoding)
    response = Response(content, error.http_status, media_type=encoding.value)
    if isinstance(error, UnavailableError):
        response.headers["retry-after"] = str(retry_after_s)
    if isinstance(error, BodyTooLargeError | SlowBodyError):
        response.headers["connection"] = "close"  # the rest of the body may be unread
    if isinstance(error, UnauthenticatedError):
        for challenge in CHALLENGES:
            response.headers.append("www-authenticate", challenge)
    return response


async def _answer_router(request: Request, error: Exception) -> Response:
    """Unknown paths and methods: the router's answer as a google.rpc.Status."""
    if not isinstance(error, HTTPException):
        raise error
    encoding = _encoding_of_answer(request)
    message = f"{error.detail}: expected POST on one of {', '.join(PATHS)}, got {request.method} {request.url.path}"
    content = protocol.encode(Status(code=ROUTER_CODES.get(error.status_code, 2), message=message), encoding)
    return Response(content, error.status_code, error.headers, encoding.value)


async def _answer_nobody(_request: Request, error: Exception) -> Response:
    """The sender went away before its body was whole: nothing was taken in, and nobody reads this."""
    return Response(str(InvalidBodyError(f"the body broke off ({error!r})")), 400)
