"""A ClickHouse server for tests: python -m tests.clickhouse_http DATA PORT.

The engine is the real one (chDB in this process, data in the directory DATA); only the HTTP skin is ours, and it
speaks as much of ClickHouse's HTTP interface as clickhouse-connect does: statement in the URL or the body, parameters
and settings in the URL, INSERT data in any format, compression both ways, X-ClickHouse-* headers, exceptions
with their code. Each request has an engine handle of its own, as each HTTP request of a server without session has.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
import tempfile
import threading
import uuid
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import lz4.frame
import uvicorn
from anyio import CapacityLimiter, to_thread
from backports import zstd
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

STATEMENTS_AT_ONCE = 32
# What a server reads from the URL for itself.
TRANSPORT = frozenset(
    {
        "query",
        "database",
        "default_format",
        "query_id",
        "session_id",
        "session_timeout",
        "session_check",
        "quota_key",
        "role",
        "compress",
        "decompress",
        "buffer_size",
        "wait_end_of_query",
        "client_protocol_version",
        "enable_http_compression",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
    }
)
COMPRESS = {"lz4": lz4.frame.compress, "zstd": zstd.compress, "gzip": gzip.compress, "deflate": zlib.compress}
DECOMPRESS = {"lz4": lz4.frame.decompress, "zstd": zstd.decompress, "gzip": gzip.decompress, "deflate": zlib.decompress}
# INSERT INTO target (columns) SETTINGS ... FORMAT name, and what comes behind one white space is data.
INSERT = re.compile(
    rb"\s*INSERT\s+INTO\s+(?P<target>[^;]*?)(?:\s+SETTINGS\s+(?P<settings>[^;]*?))?\s+FORMAT\s+(?P<format>\w+)(?:\s|$)",
    re.IGNORECASE | re.DOTALL,
)
VALUES = {b"VALUES"}
# UNKNOWN_TABLE, UNKNOWN_DATABASE: 404. A wrong statement or wrong data: 400. What ClickHouse itself answers.
NOT_FOUND = frozenset({60, 81})
BAD_REQUEST = frozenset({6, 27, 32, 36, 43, 44, 46, 47, 53, 62, 72, 115, 117, 130, 131, 208, 386, 444, 456, 457})


class Engine:
    """Statements over HTTP's parts, each on a fresh handle."""

    def __init__(self, data: Path) -> None:
        self._connect: Any = import_module("chdb").connect
        self._data = str(data)
        self._first = self._connect(self._data)  # holds the engine open between requests
        self._inserted = tempfile.mkdtemp(dir=data.parent)

    def run(self, url: dict[str, str], body: bytes) -> Response:
        """The answer to one request."""
        handle = self._connect(self._data)
        try:
            handle.query(f"USE `{url.get('database', 'default')}`", "TSV")
            return self._run(handle, url, body)
        except RuntimeError as error:
            return _failed(str(error))
        finally:
            handle.close()

    def _run(self, handle: Any, url: dict[str, str], body: bytes) -> Response:
        settings = {name: value for name, value in url.items() if name not in TRANSPORT and name[:6] != "param_"}
        query = url.get("query", "").encode()
        insert = INSERT.match(query or body)
        if insert and insert["format"].upper() not in VALUES:
            data = body if query else body[insert.end() :]
            return self._insert(handle, insert, settings, data)
        for name, value in settings.items():
            handle.query(f"SET {name} = {_quoted(value)}", "TSV")
        parameters = {name[6:]: value for name, value in url.items() if name.startswith("param_")}
        text = b"\n".join(part for part in (query, body) if part).decode()
        output_format = url.get("default_format", "TabSeparated")
        found = handle.query(text, output_format, params=parameters)
        return _answered(bytes(found.bytes()), {"read_rows": str(found.rows_read())}, output_format)

    def _insert(self, handle: Any, insert: re.Match[bytes], settings: dict[str, str], data: bytes) -> Response:
        """The data goes through a file, as chDB's own driver sends it."""
        given = ", ".join(f"{name} = {_quoted(value)}" for name, value in settings.items())
        clause = ", ".join(part for part in ((insert["settings"] or b"").decode(), given) if part)
        with tempfile.NamedTemporaryFile(dir=self._inserted) as file:
            file.write(data)
            file.flush()
            done = handle.query(
                f"INSERT INTO {insert['target'].decode()} FROM INFILE '{file.name}' "
                f"{'SETTINGS ' + clause if clause else ''} FORMAT {insert['format'].decode()}",
                "TSV",
            )
        return _answered(b"", {"written_rows": str(done.rows_written())}, "TabSeparated")


def create_app(engine: Engine) -> Starlette:
    """GET or POST /, GET /ping."""
    limiter = CapacityLimiter(STATEMENTS_AT_ONCE)

    async def root(request: Request) -> Response:
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response("the client went away", 400)
        if encoding := request.headers.get("content-encoding"):
            body = DECOMPRESS[encoding](body)
        url = dict(request.query_params)
        if not url.get("query") and not body:
            return Response("Ok.\n")
        answer = await to_thread.run_sync(engine.run, url, body, limiter=limiter)
        return _compressed(answer, request) if url.get("enable_http_compression") == "1" else answer

    async def ping(_: Request) -> Response:
        return Response("Ok.\n")

    return Starlette(routes=[Route("/", root, methods=["GET", "POST"]), Route("/ping", ping)])


def _answered(content: bytes, summary: dict[str, str], output_format: str) -> Response:
    headers = {
        "X-ClickHouse-Summary": json.dumps(summary),
        "X-ClickHouse-Format": output_format,
        "X-ClickHouse-Query-Id": str(uuid.uuid4()),
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Server-Display-Name": "tests",
    }
    return Response(content, headers=headers, media_type="application/octet-stream")


def _failed(message: str) -> Response:
    found = re.search(r"Code: (\d+)", message)
    code = int(found[1]) if found else 1002
    status = 404 if code in NOT_FOUND else 400 if code in BAD_REQUEST else 500
    return Response(message, status, {"X-ClickHouse-Exception-Code": str(code)}, "text/plain; charset=UTF-8")


def _compressed(answer: Response, request: Request) -> Response:
    accepted = [name.strip() for name in request.headers.get("accept-encoding", "").split(",")]
    chosen = next((name for name in accepted if name in COMPRESS), None)
    if chosen is None or not answer.body:
        return answer
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    content = COMPRESS[chosen](bytes(answer.body))
    return Response(content, answer.status_code, headers | {"content-encoding": chosen})


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _serve(data: Path, port: int) -> None:
    data.mkdir(parents=True, exist_ok=True)
    os.chdir(data.parent)  # where the engine keeps schemas that come as text
    config = uvicorn.Config(create_app(Engine(data)), "127.0.0.1", port, log_level="warning", access_log=False)
    server = uvicorn.Server(config)

    def say_when_started() -> None:
        while not server.started:
            threading.Event().wait(0.01)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)  # noqa: T201 (the test reads it)

    threading.Thread(target=say_when_started, daemon=True).start()
    server.run()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
