"""The HTTP side: who asks, what is asked, and answers in ClickHouse's shape."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import logging
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response

from storage.location import EmbeddedLocation
from storage.sql_endpoint.guard import Guard
from storage.sql_endpoint.reader import HANDLES_MAX, Limits, Reader
from storage.sql_endpoint.refusal import (
    AUTHENTICATION_FAILED,
    NOT_IMPLEMENTED,
    QUERY_IS_TOO_LARGE,
    READONLY,
    REQUIRED_PASSWORD,
    SOCKET_TIMEOUT,
    UNKNOWN_DATABASE,
    EngineError,
    RefusedError,
    http_status,
)
from storage.store import DATABASE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from storage.store import Store

    RequireKey = Callable[[Sequence[str]], None]

logger = logging.getLogger(__name__)

# A statement is a few hundred kilobytes at most.
STATEMENT_TIMEOUT_S = 30
USER = "reader"
FORMAT_DEFAULT = "TabSeparated"
# Clients send these with every statement. They are about the transport, or limits that ours are below.
IGNORED = frozenset(
    [
        "query_id",
        "session_id",
        "session_timeout",
        "session_check",
        "wait_end_of_query",
        "buffer_size",
        "quota_key",
        "enable_http_compression",
        "client_protocol_version",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
        "cancel_http_readonly_queries_on_client_close",
        "add_http_cors_header",
        "max_execution_time",
        "max_result_rows",
        "readonly",
    ]
)
CONTENT_TYPES = {
    "CSV": "text/csv; charset=UTF-8",
    "JSON": "application/json; charset=UTF-8",
    "Native": "application/octet-stream",
    "Row": "application/octet-stream",
    "Arrow": "application/octet-stream",
    "Parquet": "application/octet-stream",
}


@dataclass(frozen=True)
class _Asked:
    text: str
    output_format: str
    parameters: dict[str, str]


def create_sql_app(
    store: Store, password: str | None, limits: Limits | None = None, require_key: RequireKey | None = None
) -> FastAPI:
    """The endpoint over an embedded store: GET or POST /, GET /ping.

    The user is `reader`. With `require_key`, which raises a RefusedError unless one of the keys that came may read,
    a key goes in the password's place. Without either, only programs on this machine are answered. The application
    closes its handles on the engine when it shuts down; the store has to be open until then.
    Raises ValueError for a store on a ClickHouse server, which has an endpoint of its own.
    """
    if not isinstance(store.location, EmbeddedLocation):
        raise ValueError(  # noqa: TRY004 - the wrong kind of place, not a wrong argument
            "expected a store in a directory, got a ClickHouse server: ask that server itself"
        )
    limits = limits or Limits()
    reader = Reader(store.location.path, limits)
    guard = Guard(reader)
    limiter = CapacityLimiter(2 * HANDLES_MAX)
    if not password and not require_key:
        logger.info("The SQL endpoint has no password: it answers everyone on this machine, and nobody else")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        await to_thread.run_sync(reader.close)

    app = FastAPI(title="Pennytrace SQL", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    def answer(asked: _Asked) -> Response:
        statement = guard.check(asked.text, asked.output_format, asked.parameters)
        return _answered(reader.run(statement.sql, statement.output_format, asked.parameters), statement.output_format)

    @app.get("/ping")
    def ping() -> Response:
        return Response("Ok.\n", media_type="text/plain")

    @app.api_route("/", methods=["GET", "POST"])
    async def root(request: Request) -> Response:
        try:
            _authenticate(request, password, require_key)
            async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                asked = await _asked(request, limits.max_query_size)
            if not asked.text.strip():
                return Response("Ok.\n", media_type="text/plain")
            return await to_thread.run_sync(answer, asked, limiter=limiter)
        except (RefusedError, EngineError) as error:
            return _failed(error)
        except TimeoutError:
            return _failed(RefusedError(SOCKET_TIMEOUT, f"the statement did not come within {STATEMENT_TIMEOUT_S} s"))

    return app


def _authenticate(request: Request, password: str | None, require_key: RequireKey | None) -> None:
    if not password and not require_key:
        _require_this_machine(request)
        return
    user, given = _credentials(request)
    if password and user == USER and hmac.compare_digest(given.encode(), password.encode()):
        return
    if require_key:
        require_key([secret for secret in (given, *_other_keys(request)) if secret])
        return
    raise RefusedError(
        AUTHENTICATION_FAILED,
        f"{user}: Authentication failed: expected the user {USER} and its password, by Basic or X-ClickHouse-Key",
    )


def _credentials(request: Request) -> tuple[str, str]:
    headers = request.headers
    if "x-clickhouse-user" in headers or "x-clickhouse-key" in headers:
        return headers.get("x-clickhouse-user", ""), headers.get("x-clickhouse-key", "")
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, given = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, given


def _other_keys(request: Request) -> list[str]:
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    bearer = rest.strip() if scheme.lower() == "bearer" else ""
    return [bearer, request.headers.get("x-api-key", "").strip()]


def _require_this_machine(request: Request) -> None:
    # The Host header too: a web page that points its own name at 127.0.0.1 must not read what we hold.
    asked_for = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    client = request.client.host if request.client else ""
    if not (_is_loopback(client) and (asked_for == "localhost" or _is_loopback(asked_for))):
        raise RefusedError(AUTHENTICATION_FAILED, "without a password only this machine is answered: set one")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _asked(request: Request, bytes_max: int) -> _Asked:
    query = dict(request.query_params)
    body = await _body(request, bytes_max)
    text = "\n".join(part for part in (query.pop("query", ""), body) if part)
    if len(text.encode()) > bytes_max:
        raise _too_large(bytes_max)
    default = query.pop("default_format", "") or request.headers.get("x-clickhouse-format", FORMAT_DEFAULT)
    database = query.pop("database", "") or request.headers.get("x-clickhouse-database", DATABASE)
    if database not in {DATABASE, "default"}:
        raise RefusedError(UNKNOWN_DATABASE, f"Database {database} does not exist: there is {DATABASE}")
    parameters = {name.removeprefix("param_"): value for name, value in query.items() if name.startswith("param_")}
    _require_no_settings({name: value for name, value in query.items() if not name.startswith("param_")})
    return _Asked(text, default, parameters)


async def _body(request: Request, bytes_max: int) -> str:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(NOT_IMPLEMENTED, "expected a plain body, got a compressed one")
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise RefusedError(NOT_IMPLEMENTED, "expected the statement as body and parameters in the URL, got a form")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
    return body.decode(errors="replace")


def _require_no_settings(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        if name in {"compress", "decompress"} and value not in {"0", "false"}:
            raise RefusedError(NOT_IMPLEMENTED, f"{name}={value} is not supported: send and expect plain bytes")
        if name not in IGNORED and name not in {"compress", "decompress"}:
            raise RefusedError(READONLY, f"Cannot modify '{name}' setting in readonly mode")


def _too_large(bytes_max: int) -> RefusedError:
    return RefusedError(QUERY_IS_TOO_LARGE, f"expected a statement of at most {bytes_max} bytes")


def _answered(content: bytes, output_format: str) -> Response:
    known = (kind for start, kind in CONTENT_TYPES.items() if output_format.startswith(start))
    headers = _headers() | {"X-ClickHouse-Format": output_format}
    return Response(content, media_type=next(known, "text/plain; charset=UTF-8"), headers=headers)


def _failed(error: RefusedError | EngineError) -> Response:
    headers = _headers() | {"X-ClickHouse-Exception-Code": str(error.code)}
    if error.code == REQUIRED_PASSWORD:
        headers["WWW-Authenticate"] = 'Basic realm="Pennytrace"'
    return Response(f"{error}\n", http_status(error.code), headers, "text/plain; charset=UTF-8")


def _headers() -> dict[str, str]:
    return {
        "X-ClickHouse-Server-Display-Name": "pennytrace",
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Query-Id": str(uuid.uuid4()),
        "X-Content-Type-Options": "nosniff",
    }
