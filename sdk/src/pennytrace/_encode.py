"""Ended spans as one OTLP `ExportTraceServiceRequest`.

Field numbers are those of opentelemetry-proto's trace.proto and trace_service.proto. Where OpenTelemetry's own
exporter leaves something out (a link's trace state), so does this: the decoded messages are equal.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING, Any, Final

from pennytrace import _wire
from pennytrace._span import LightSpan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext, Status, TraceState

_log = logging.getLogger("pennytrace")

_IDS = struct.Struct(">H16sHQ")
_PARENT = struct.Struct(">HQ")
_LIGHT = struct.Struct("<2s16s2s8sBQBQ")
_TIME = struct.Struct("<BQ")
_FLAGS = struct.Struct("<HI")
_FLAGS_TAG: Final = 0x0185
"""Field 16, fixed32, its two bytes read little-endian."""
_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200
_UNSET: Final = b"\x7a\x00"
_LOCAL: Final = _FLAGS.pack(_FLAGS_TAG, _HAS_IS_REMOTE)
_REMOTE: Final = _FLAGS.pack(_FLAGS_TAG, _HAS_IS_REMOTE | _IS_REMOTE)
BREATH_SPANS: Final = 128
"""Encoding so many takes a fraction of a millisecond."""
_ERROR_CODE: Final = b"\x18\x02"
KEPT_MAX: Final = 128
"""Resources and scopes that stay encoded from one request to the next: a process has one, and a few."""


class Encoder:
    """Turns spans into requests; keeps what repeats. For one thread. `breathe` is called every now and then."""

    def __init__(self, breathe: Callable[[], None] = lambda: None) -> None:
        self._breathe = breathe
        self._attributes = _wire.SpanAttributes()
        self._sizes = _wire.Sizes()
        self._resources: dict[int, tuple[Resource, bytes]] = {}
        self._scopes: dict[int, tuple[InstrumentationScope | None, bytes]] = {}

    def request(self, spans: Sequence[ReadableSpan]) -> tuple[bytes, int]:
        """The request, and how many spans could not be encoded and are not in it."""
        if len(self._resources) + len(self._scopes) > KEPT_MAX:
            self._resources, self._scopes = {}, {}
        groups: dict[int, dict[int, list[bytes]]] = {}
        broken = 0
        by: tuple[Any, Any] = None, None
        parts: list[bytes] = []
        for index, span in enumerate(spans, 1):
            if index % BREATH_SPANS == 0:
                self._breathe()
            try:
                body = self.light(span) if type(span) is LightSpan else readable(span)
                if type(span) is not LightSpan or span.made_by is not by[0] or span.source is not by[1]:
                    parts = self._group(groups, span)
                    by = (span.made_by, span.source) if type(span) is LightSpan else (None, None)
            except Exception:  # noqa: BLE001 # one span that somebody spoiled does not spoil the batch
                broken += 1
                _log.warning("A span cannot be encoded and is counted as failed", exc_info=broken == 1)
                continue
            parts.append(self._sizes[len(body)])
            parts.append(body)
        return b"".join([self._resource_spans(*group) for group in groups.items()]), broken

    def _resource_spans(self, resource: int, scopes: dict[int, list[bytes]]) -> bytes:
        made_by, encoded = self._resources[resource]
        groups = [self._scope_spans(scope, b"".join(parts)) for scope, parts in scopes.items()]
        return _wire.field(1, b"".join([encoded, *groups, _optional(3, made_by.schema_url)]))

    def _scope_spans(self, scope: int, spans: bytes) -> bytes:
        by, encoded = self._scopes[scope]
        return _wire.field(2, encoded + spans + _optional(3, by.schema_url if by is not None else None))

    def _group(self, groups: dict[int, dict[int, list[bytes]]], span: ReadableSpan) -> list[bytes]:
        """Where spans of this one's resource and scope are collected."""
        if type(span) is LightSpan:
            resource, scope = self._resource(span.made_by), self._scope(span.source.scope)
        else:
            resource, scope = self._resource(span.resource), self._scope(span.instrumentation_scope)
        return groups.setdefault(resource, {}).setdefault(scope, [])

    def light(self, span: LightSpan) -> bytes:
        """A light span as a `Span` message."""
        shape = span.shape
        ids = span.trace_id.to_bytes(16), b"\x12\x08", span.span_id.to_bytes(8)
        out = [_LIGHT.pack(b"\x0a\x10", *ids, 0x39, span.started_ns, 0x41, span.ended_ns), shape.encoded]
        if span.parent_id:
            out.append(_PARENT.pack(0x2208, span.parent_id))
        if span.more is not None:
            self._attributes.add_to(out, span.more)
        if span.failure is not None:
            out.append(_failure(span))
        else:
            out.append(_UNSET)
        out.append(_REMOTE if span.parent_is_remote else _LOCAL)
        if span.trace_state is not None:
            out.append(_state(span.trace_state))
        return b"".join(out)

    def _resource(self, resource: Resource) -> int:
        key = id(resource)  # the object is kept beside its bytes, so its id stays its own
        if key not in self._resources:
            self._resources[key] = resource, _wire.field(1, _wire.attributes(1, resource.attributes))
        return key

    def _scope(self, scope: InstrumentationScope | None) -> int:
        key = id(scope)
        if key not in self._scopes:
            self._scopes[key] = scope, _wire.field(1, _scope_body(scope))
        return key


def readable(span: ReadableSpan) -> bytes:
    """Anybody's span as a `Span` message."""
    context, parent = span.get_span_context(), span.parent
    if context is None:
        raise ValueError("expected a span with a context, got one without; it cannot be told apart from others")
    return b"".join(
        [
            _IDS.pack(0x0A10, context.trace_id.to_bytes(16), 0x1208, context.span_id),
            _state(context.trace_state),
            _PARENT.pack(0x2208, parent.span_id) if parent is not None else b"",
            _optional(5, span.name),
            b"\x30" + _wire.varint(span.kind.value + 1),
            _time(0x39, span.start_time),
            _time(0x41, span.end_time),
            _wire.attributes(9, span.attributes),
            _count(10, span.dropped_attributes),
            _events(span.events),
            _count(12, span.dropped_events),
            _links(span.links),
            _count(14, span.dropped_links),
            _wire.field(15, _status(span.status)),
            _flags(parent),
        ]
    )


def _failure(span: LightSpan) -> bytes:
    failure = span.failure
    assert failure is not None  # noqa: S101 # asked by the caller
    event = _exception(failure.at_ns, failure.type)
    kind = _wire.attributes(9, {"error.type": failure.kind})
    return kind + event + _wire.field(15, _optional(2, failure.kind) + _ERROR_CODE)


def _exception(at_ns: int, kind: str) -> bytes:
    said = _TIME.pack(0x09, at_ns) + b"\x12\x09exception" + _wire.attributes(3, {"exception.type": kind})
    return _wire.field(11, said)


def _events(events: Iterable[Event]) -> bytes:
    return b"".join(
        [
            _wire.field(
                11,
                _time(0x09, event.timestamp)
                + _optional(2, event.name)
                + _wire.attributes(3, event.attributes)
                + _count(4, event.dropped_attributes),
            )
            for event in events
        ]
    )


def _links(links: Iterable[Link]) -> bytes:
    return b"".join(
        [
            _wire.field(
                13,
                _IDS.pack(0x0A10, link.context.trace_id.to_bytes(16), 0x1208, link.context.span_id)
                + _wire.attributes(4, link.attributes)
                + _count(5, link.dropped_attributes)
                + b"\x35"
                + _flags(link.context)[2:],
            )
            for link in links
        ]
    )


def _status(status: Status) -> bytes:
    code = b"\x18" + _wire.varint(status.status_code.value) if status.status_code.value else b""
    return _optional(2, status.description) + code


def _state(state: TraceState) -> bytes:
    return _optional(3, ",".join([f"{key}={value}" for key, value in state.items()])) if state else b""


def _flags(context: SpanContext | None) -> bytes:
    return _REMOTE if context is not None and context.is_remote else _LOCAL


def _optional(number: int, said: str | None) -> bytes:
    return _wire.field(number, _wire.text(said)) if said else b""


def _count(number: int, count: int) -> bytes:
    return _wire.varint(number << 3) + _wire.varint(count) if count else b""


def _time(tag: int, at_ns: int | None) -> bytes:
    return _TIME.pack(tag, at_ns) if at_ns else b""


def _scope_body(scope: InstrumentationScope | None) -> bytes:
    if scope is None:
        return b""
    return _optional(1, scope.name) + _optional(2, scope.version) + _wire.attributes(3, scope.attributes)
