"""Starts our spans: light ones where only our queue listens, OpenTelemetry's own otherwise."""
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false
# What a tracer was made with has no public names; each of them is checked by `_can_be_light`, once.

from __future__ import annotations

import os
from random import Random
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.sdk.trace import ReadableSpan, SynchronousMultiSpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace._tracer_metrics import NoOpTracerMetrics
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON
from opentelemetry.trace import Span
from opentelemetry.trace.propagation import _SPAN_KEY

from pennytrace._span import LIGHT_ATTRIBUTES_MAX, SAMPLED, LightSpan

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from pennytrace._shape import Shape

SPAN_KEY: Final = _SPAN_KEY
"""Where OpenTelemetry keeps the current span in a context."""

_ids = Random()  # noqa: S311 # ids. Our own generator: `random.seed(42)` in every worker would give them all the same
_bits = _ids.getrandbits
_new: Any = object.__new__
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.seed)


class Queue(Protocol):
    """Where light spans go when they end; it is a span processor of the provider, too."""

    def add(self, span: ReadableSpan) -> None:
        """Take one; must not block."""
        ...


class SpanSource:
    """One tracer of one provider, and our queue where it is attached to that provider."""

    def __init__(self, provider: trace.TracerProvider, tracer: trace.Tracer, queue: Queue | None) -> None:
        self.tracer: Any = tracer  # an SDK tracer wherever a span is light
        self.listeners: Any = None
        self.only_us: tuple[object, ...] = ()
        self.scope: InstrumentationScope | None = None
        if queue is not None and _can_be_light(provider, tracer):
            self.queue = queue
            self.scope = tracer._instrumentation_scope  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
            self.listeners = provider._active_span_processor  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
            listening = self.listeners._span_processors
            if listening == (queue,):
                self.only_us = listening

    def is_light(self) -> bool:
        """Whether nobody but our queue listens to spans; adding a processor replaces the tuple of them."""
        return self.listeners is not None and self.listeners._span_processors is self.only_us

    def start(
        self, shape: Shape, context: Context, more: dict[str, Any] | None = None, started_ns: int | None = None
    ) -> trace.Span:
        """Start a span below the one of `context`, with the shape's attributes and `more`, which is kept."""
        if self.listeners is None or self.listeners._span_processors is not self.only_us:
            return self._stock(shape, context, more, started_ns)
        span: LightSpan = _new(LightSpan)
        parent = context.get(SPAN_KEY) if context else None
        if parent is None:
            span.trace_id = _bits(128) or 1
        elif not (_below_light(span, parent) if type(parent) is LightSpan else _below(span, parent)):
            return self._stock(shape, context, more, started_ns)
        span.shape = shape
        span.source = self
        span.made_by = self.tracer.resource
        span.span_id = _bits(64) or 1
        span.started_ns = started_ns or time_ns()
        if more:
            span.more = more
        return span

    def _stock(self, shape: Shape, context: Context, more: dict[str, Any] | None, started_ns: int | None) -> trace.Span:
        attributes = {**shape.attributes, **(more or {})}
        started: trace.Span = self.tracer.start_span(shape.name, context, shape.kind, attributes, start_time=started_ns)
        return started


def _below_light(span: LightSpan, parent: LightSpan) -> bool:
    span.trace_id = parent.trace_id
    span.parent_id = parent.span_id
    if parent.trace_state is not None:
        span.trace_state = parent.trace_state
    if parent.flags != SAMPLED:
        span.flags = parent.flags
    return True


def _below(span: LightSpan, parent: object) -> bool:
    """Join another's trace; False where it is for the sampler to say whether to record."""
    found = parent.get_span_context() if isinstance(parent, Span) else None
    if found is None or not found.is_valid:
        span.trace_id = _bits(128) or 1
        return True
    if not found.trace_flags.sampled:
        return False
    span.trace_id = found.trace_id
    span.parent_id = found.span_id
    span.parent_is_remote = found.is_remote
    span.flags = found.trace_flags
    span.trace_state = found.trace_state or None
    return True


def _can_be_light(provider: trace.TracerProvider, tracer: trace.Tracer) -> bool:
    """Whether the provider has the settings that light spans know: OpenTelemetry's defaults.

    Any other sampler, limit, id generator or subclass is obeyed by making stock spans.
    """
    if type(provider) is not TracerProvider or type(tracer) is not Tracer:
        return False
    limits = tracer._span_limits
    default = DEFAULT_ON.get_description()  # type: ignore[no-untyped-call] # OpenTelemetry's
    samples_all = tracer.sampler is ALWAYS_ON or tracer.sampler.get_description() == default
    roomy = limits.max_span_attributes is None or limits.max_span_attributes >= 2 * LIGHT_ATTRIBUTES_MAX
    return (
        samples_all
        and roomy
        and limits.max_span_attribute_length is None
        and type(tracer.id_generator) is RandomIdGenerator
        and type(tracer.span_processor) is SynchronousMultiSpanProcessor
        and type(tracer._tracer_metrics) is NoOpTracerMetrics
        and tracer._is_enabled()
    )
