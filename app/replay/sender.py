"""Post OTLP bodies to a collector: several at a time, retried as OTLP says, nothing dropped in silence."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import urllib3
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from app.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Enough to keep a collector busy that acknowledges only what is stored.
CONNECTIONS = 4
TIMEOUT_S = 60
# OTLP's retryable answers; Retry-After is honoured.
RETRIES = urllib3.Retry(
    total=20,
    connect=3,
    backoff_factor=0.2,
    backoff_max=3,
    status_forcelist=(429, 502, 503, 504),
    raise_on_status=False,
    allowed_methods=None,
)
PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True, slots=True)
class Body:
    """One request body ready to post. `spans` is what it holds, None where nobody counted."""

    path: str
    data: bytes
    spans: int | None
    headers: tuple[tuple[str, str], ...] = (("content-type", PROTOBUF),)


@dataclass(slots=True)
class Sent:
    """What was acknowledged; `spans` of the bodies whose spans are known."""

    requests: int = 0
    spans: int = 0
    rejected_spans: int = 0
    rejected_reason: str = ""


def send(
    endpoint: str,
    bodies: Iterable[Body],
    progress: Callable[[int, int | None], None],
    spans: int | None = None,
    spans_per_second_max: float | None = None,
    key: str = "",
) -> Sent:
    """Post every body and wait for every acknowledgement; `progress` gets the spans acknowledged so far and `spans`.

    `key` is the API key of a collector that asks for one.
    Raises CommandError when the collector does not answer or refuses a body.
    """
    pool = urllib3.PoolManager(maxsize=CONNECTIONS, retries=RETRIES, timeout=TIMEOUT_S)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    sent = Sent()
    started = time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS, "replay") as executor:
        waiting: deque[Future[tuple[Body, urllib3.BaseHTTPResponse]]] = deque()
        for body in bodies:
            _keep_pace(started, sent.spans, spans_per_second_max)
            waiting.append(executor.submit(_post, pool, endpoint, body, headers))
            if len(waiting) > CONNECTIONS:
                _account(waiting.popleft(), endpoint, sent)
                progress(sent.spans, spans)
        while waiting:
            _account(waiting.popleft(), endpoint, sent)
            progress(sent.spans, spans)
    pool.clear()
    return sent


def _keep_pace(started: float, spans: int, spans_per_second_max: float | None) -> None:
    if spans_per_second_max:
        ahead_s = spans / spans_per_second_max - (time.monotonic() - started)
        if ahead_s > 0:
            time.sleep(ahead_s)


def _post(
    pool: urllib3.PoolManager, endpoint: str, body: Body, headers: dict[str, str]
) -> tuple[Body, urllib3.BaseHTTPResponse]:
    url = endpoint.rstrip("/") + body.path
    return body, pool.request("POST", url, body=body.data, headers={**dict(body.headers), **headers})


def _account(done: Future[tuple[Body, urllib3.BaseHTTPResponse]], endpoint: str, sent: Sent) -> None:
    try:
        body, response = done.result()
    except urllib3.exceptions.HTTPError as error:
        raise CommandError(
            f"no collector answered at {endpoint} ({type(error).__name__}): start one with 'pennytrace serve', "
            "or give its address with --endpoint"
        ) from error
    if response.status != 200:
        raise CommandError(f"{endpoint} refused a request with HTTP {response.status}: {_reason(response)}")
    rejected, reason = _partial_success(body, response)
    sent.requests += 1
    sent.spans += max((body.spans or 0) - rejected, 0)
    sent.rejected_spans += rejected
    sent.rejected_reason = reason or sent.rejected_reason


def _partial_success(body: Body, response: urllib3.BaseHTTPResponse) -> tuple[int, str]:
    if not body.path.endswith("/traces"):
        return 0, ""
    try:
        if PROTOBUF in response.headers.get("content-type", ""):
            answer = ExportTraceServiceResponse.FromString(response.data)
        else:
            answer = json_format.Parse(response.data, ExportTraceServiceResponse(), ignore_unknown_fields=True)
    except (DecodeError, json_format.ParseError):
        return 0, ""
    return answer.partial_success.rejected_spans, answer.partial_success.error_message


def _reason(response: urllib3.BaseHTTPResponse) -> str:
    return response.data[:300].decode("utf-8", "replace")
