"""Turn the demo's endpoints into spans and GPU readings, hour by hour, from a fixed seed."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from app.demo.workload import ENDPOINTS, GPU_MEMORY_BYTES, GPU_MODEL, WEEKS, Endpoint, Tokens
from app.otlp import CLIENT, INTERNAL, SERVER, GaugePoint, IdSource, Scalar, SpanRow, gauge_request, trace_request
from app.replay.formats import FIRST_TOKEN_S, OUTPUT_TOKEN_S, SECOND_NS
from app.replay.sender import Body

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUESTS_PER_BODY = 1_000
GPU_READING_EVERY = timedelta(minutes=15)
# Peak and trough of the day, and the weekend against the week, as multiples of the mean.
DAY_SWING = 0.5
PEAK_HOUR_UTC = 15
WEEKEND = 0.6


@dataclass(frozen=True)
class Requests:
    """Requests of one endpoint in time order, one array element each."""

    endpoint: Endpoint
    start_ns: np.ndarray
    is_after_deploy: np.ndarray
    input_tokens: np.ndarray
    cached_tokens: np.ndarray
    output_tokens: np.ndarray
    is_answered_by_cache: np.ndarray
    is_retried: np.ndarray
    tenant: np.ndarray


def bodies(now: datetime, scale: float = 1.0) -> Iterator[Body]:
    """Export requests for the five weeks before `now`; `scale` multiplies the traffic."""
    for endpoint in ENDPOINTS:
        requests = draw(endpoint, now, scale)
        yield from _trace_bodies(requests)
        if endpoint.replica:
            yield _gpu_body(requests, now)


def draw(endpoint: Endpoint, now: datetime, scale: float = 1.0) -> Requests:
    """Draw the endpoint's requests: Poisson arrivals on a daily and weekly rhythm, log-normal tokens."""
    chance = np.random.default_rng(zlib.crc32(f"{endpoint.service}{endpoint.route}".encode()))
    start_ns = _arrivals(endpoint.requests_per_hour * scale, now, chance)
    count = len(start_ns)
    after = np.zeros(count, dtype=bool)
    if endpoint.incident:
        after = start_ns >= _nanoseconds(now - endpoint.incident.before_now)
    input_tokens = _tokens(endpoint.input_tokens, count, chance)
    cached_share = np.full(count, endpoint.cached_share)
    if endpoint.incident:
        input_tokens = np.where(after, (input_tokens * endpoint.incident.prompt_growth).astype(np.int64), input_tokens)
        if endpoint.incident.cached_share is not None:
            cached_share[after] = endpoint.incident.cached_share
    # A prompt's prefix is either still in the provider's cache or not; when it is, most of the prompt is.
    is_warm = chance.random(count) < cached_share / 0.9
    return Requests(
        endpoint=endpoint,
        start_ns=start_ns,
        is_after_deploy=after,
        input_tokens=input_tokens,
        cached_tokens=np.where(is_warm, (input_tokens * 0.9).astype(np.int64), 0),
        output_tokens=_tokens(endpoint.output_tokens, count, chance),
        is_answered_by_cache=chance.random(count) < endpoint.answered_share,
        is_retried=chance.random(count) < endpoint.retried_share,
        tenant=chance.choice(np.array(endpoint.tenants), count, p=[0.6, 0.3, 0.1]),
    )


def _arrivals(per_hour: float, now: datetime, chance: np.random.Generator) -> np.ndarray:
    end = now.replace(minute=0, second=0, microsecond=0)
    hours = [end - timedelta(hours=back) for back in range(WEEKS * 7 * 24, -1, -1)]
    counts = chance.poisson([per_hour * _rhythm(hour) for hour in hours])
    begins = np.repeat([_nanoseconds(hour) for hour in hours], counts)
    times = np.sort(begins + (chance.random(len(begins)) * 3600 * SECOND_NS).astype(np.int64))
    return times[times < _nanoseconds(now) - 60 * SECOND_NS]


def _rhythm(hour: datetime) -> float:
    day = 1 + DAY_SWING * math.cos((hour.hour - PEAK_HOUR_UTC) / 24 * 2 * math.pi)
    return day * (WEEKEND if hour.weekday() >= 5 else 1.0)


def _tokens(tokens: Tokens, count: int, chance: np.random.Generator) -> np.ndarray:
    if tokens.mean == 0:
        return np.zeros(count, dtype=np.int64)
    variance = math.log1p(tokens.variation**2)
    drawn = np.exp(math.log(tokens.mean) - variance / 2 + math.sqrt(variance) * chance.standard_normal(count))
    return np.maximum(drawn.round(), 1).astype(np.int64)


def _nanoseconds(time: datetime) -> int:
    return int(time.timestamp()) * SECOND_NS


def _trace_bodies(requests: Requests) -> Iterator[Body]:
    endpoint = requests.endpoint
    ids = IdSource(endpoint.service + endpoint.route)
    deployed_at = int(np.argmax(requests.is_after_deploy)) if requests.is_after_deploy.any() else len(requests.start_ns)
    for version, first, last in (
        (endpoint.version, 0, deployed_at),
        (endpoint.incident.version if endpoint.incident else "", deployed_at, len(requests.start_ns)),
    ):
        for begin in range(first, last, REQUESTS_PER_BODY):
            rows = range(begin, min(begin + REQUESTS_PER_BODY, last))
            spans = [span for row in rows for span in _spans(requests, row, ids)]
            message = trace_request(_resource(endpoint, version), spans)
            yield Body("/v1/traces", message.SerializeToString(), len(spans))


def _resource(endpoint: Endpoint, version: str) -> dict[str, Scalar]:
    resource: dict[str, Scalar] = {
        "service.name": endpoint.service,
        "service.version": version,
        "deployment.environment.name": "production",
    }
    return resource | ({"service.instance.id": endpoint.replica} if endpoint.replica else {})


def _spans(requests: Requests, row: int, ids: IdSource) -> Iterator[SpanRow]:
    """The request's own span, and below it what it did: a cache answer, or one or two attempts at the model."""
    endpoint = requests.endpoint
    trace_id, request_id = ids.trace_id(), ids.span_id()
    start_ns = int(requests.start_ns[row])
    took_ns = int((FIRST_TOKEN_S + OUTPUT_TOKEN_S * int(requests.output_tokens[row])) * SECOND_NS)
    attributes: dict[str, Scalar] = {
        "pennytrace.span.kind": "request",
        "pennytrace.endpoint": endpoint.route,
        "pennytrace.tenant": str(requests.tenant[row]),
        "http.route": endpoint.route,
    }
    yield SpanRow(trace_id, request_id, b"", f"POST {endpoint.route}", SERVER, start_ns, start_ns + took_ns, attributes)
    usage = _usage(requests, row)
    if requests.is_answered_by_cache[row]:
        hit: dict[str, Scalar] = {"pennytrace.span.kind": "cache", "pennytrace.response_cache.hit": True}
        end_ns = start_ns + 2_000_000
        yield SpanRow(trace_id, ids.span_id(), request_id, "cache", INTERNAL, start_ns, end_ns, hit | usage)
        return
    name, call_id = f"{endpoint.operation} {endpoint.model}", ids.span_id()
    if requests.is_retried[row]:
        failed = _model(endpoint) | {"error.type": "timeout"}
        end_ns = start_ns + took_ns // 4
        yield SpanRow(trace_id, ids.span_id(), request_id, name, CLIENT, start_ns, end_ns, failed, error=True)
    yield SpanRow(trace_id, call_id, request_id, name, CLIENT, start_ns, start_ns + took_ns, usage)
    if endpoint.replica:
        yield _gpu_span(trace_id, ids.span_id(), call_id, start_ns, took_ns)


def _model(endpoint: Endpoint) -> dict[str, Scalar]:
    return {
        "gen_ai.operation.name": endpoint.operation,
        "gen_ai.provider.name": endpoint.provider,
        "gen_ai.request.model": endpoint.model,
    }


def _usage(requests: Requests, row: int) -> dict[str, Scalar]:
    usage = _model(requests.endpoint) | {
        "gen_ai.usage.input_tokens": int(requests.input_tokens[row]),
        "gen_ai.usage.output_tokens": int(requests.output_tokens[row]),
    }
    if requests.endpoint.cached_share:
        usage["gen_ai.usage.cache_read.input_tokens"] = int(requests.cached_tokens[row])
    return usage


def _gpu_span(trace_id: bytes, span_id: bytes, call_id: bytes, start_ns: int, took_ns: int) -> SpanRow:
    seconds = took_ns / SECOND_NS
    attributes: dict[str, Scalar] = {
        "pennytrace.span.kind": "gpu",
        "hw.id": "GPU-0",
        "hw.name": GPU_MODEL,
        "pennytrace.gpu.utilization": 0.72,
        "pennytrace.gpu.memory_bytes": GPU_MEMORY_BYTES * 3 // 4,
        "pennytrace.gpu.seconds": seconds,
        # The A10G's board power is 150 W under load.
        "pennytrace.gpu.energy_joules": 150.0 * seconds,
    }
    return SpanRow(trace_id, span_id, call_id, "gpu", INTERNAL, start_ns, start_ns + took_ns, attributes)


def _gpu_body(requests: Requests, now: datetime) -> Body:
    """Utilisation readings as a GPU exporter would send them: busy seconds of the replica in each interval."""
    every_ns = int(GPU_READING_EVERY.total_seconds()) * SECOND_NS
    begin_ns = _nanoseconds(now - timedelta(weeks=WEEKS))
    took_s = FIRST_TOKEN_S + OUTPUT_TOKEN_S * requests.output_tokens
    intervals = (requests.start_ns - begin_ns) // every_ns
    busy_s = np.bincount(intervals[intervals >= 0], took_s[intervals >= 0])
    labels: dict[str, Scalar] = {"hw.id": "GPU-0", "hw.name": GPU_MODEL, "hw.type": "gpu"}
    points = [
        GaugePoint(
            "hw.gpu.utilization",
            "1",
            begin_ns + (number + 1) * every_ns,
            min(1.0, float(seconds) / GPU_READING_EVERY.total_seconds()),
            labels,
        )
        for number, seconds in enumerate(busy_s)
    ]
    return Body(
        "/v1/metrics",
        gauge_request(_resource(requests.endpoint, requests.endpoint.version), points).SerializeToString(),
        0,
    )
