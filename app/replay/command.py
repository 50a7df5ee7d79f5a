"""`pennytrace replay`: a trace becomes spans, and the spans go through the real port."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import CommandError
from app.otlp import CLIENT, IdSource, SpanRow, trace_request
from app.replay.formats import FIRST_TOKEN_S, OUTPUT_TOKEN_S, SECOND_NS, Trace, read_trace
from app.replay.recorded import recorded_bodies
from app.replay.sender import Body, Sent, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SPANS_PER_BODY = 2_000


@dataclass(frozen=True)
class ReplayOptions:
    """What the trace does not say: which model answered, and under which name the traffic shows up."""

    provider: str = "openai"
    model: str = "gpt-4o"
    service: str = "replay"
    shift_to_now: bool = False
    spans_per_second_max: float | None = None
    key: str = ""


@dataclass(frozen=True)
class Replay:
    """Bodies to send; `spans` is None when it is not known beforehand."""

    bodies: Iterator[Body]
    spans: int | None
    note: str = ""


def prepare(path: Path, file_format: str, options: ReplayOptions) -> Replay:
    """Read the file. Raises CommandError when it is missing or not of the format."""
    if not path.exists():
        raise CommandError(f"no such file: {path}")
    if file_format == "otlp":
        return Replay(recorded_bodies(path), None)
    trace = read_trace(path, file_format)
    return Replay(_bodies(trace, _seed(path, options), options), trace.requests.height, trace.note)


def replay(
    prepared: Replay, endpoint: str, options: ReplayOptions, progress: Callable[[int, int | None], None]
) -> Sent:
    """Send what was prepared; returns what the collector acknowledged."""
    return send(endpoint, prepared.bodies, progress, prepared.spans, options.spans_per_second_max, options.key)


def _bodies(trace: Trace, seed: str, options: ReplayOptions) -> Iterator[Body]:
    resource = {"service.name": options.service}
    ids = IdSource(seed)
    shift_ns = _shift_ns(trace, options)
    for chunk in trace.requests.iter_slices(SPANS_PER_BODY):
        spans = [_span(row, shift_ns, ids, options) for row in chunk.iter_rows(named=True)]
        yield Body("/v1/traces", trace_request(resource, spans).SerializeToString(), len(spans))


def _seed(path: Path, options: ReplayOptions) -> str:
    """Ids follow from the file's content, so that another file of the same name is other traffic."""
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return f"{digest} {options.service}"


def _shift_ns(trace: Trace, options: ReplayOptions) -> int:
    """A trace without dates always ends now; one with dates only when that is asked for."""
    if trace.requests.is_empty() or (trace.is_dated and not options.shift_to_now):
        return 0
    last_ns = int(trace.requests["start_ns"][-1])
    return time.time_ns() - 60 * SECOND_NS - last_ns


def _span(row: dict[str, int | str], shift_ns: int, ids: IdSource, options: ReplayOptions) -> SpanRow:
    start_ns = int(row["start_ns"]) + shift_ns
    output_tokens = int(row["output_tokens"])
    model = str(row["model"]) or options.model
    return SpanRow(
        trace_id=ids.trace_id(),
        span_id=ids.span_id(),
        parent_span_id=b"",
        name=f"chat {model}",
        kind=CLIENT,
        start_ns=start_ns,
        end_ns=start_ns + int((FIRST_TOKEN_S + OUTPUT_TOKEN_S * output_tokens) * SECOND_NS),
        attributes={
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": options.provider,
            "gen_ai.request.model": model,
            "gen_ai.usage.input_tokens": int(row["input_tokens"]),
            "gen_ai.usage.output_tokens": output_tokens,
            "pennytrace.endpoint": str(row["endpoint"]),
        },
    )
