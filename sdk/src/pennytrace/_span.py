"""A span that becomes OpenTelemetry's own when somebody looks inside, and until then costs next to nothing.

It is a `Span` and `ReadableSpan` of the SDK. While it is light it has ids, times, a `Shape` and a plain dict of
further attributes. Reading or changing anything else (its events, links, status, attributes …) makes it a
stock span for the rest of its life, by OpenTelemetry's own constructor and methods.
"""
# ruff: noqa: SLF001 # it is a subclass of what it looks into, made by another module's function

from __future__ import annotations

import os
import threading
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.sdk.trace import Span
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, TraceState

from pennytrace import _names as names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.util.types import AnyValue

    from pennytrace._shape import Shape
    from pennytrace._source import SpanSource

LIGHT_ATTRIBUTES_MAX: Final = 64
"""Far from OpenTelemetry's limit of 128, which is the stock span's business; see `SpanSource`."""
SAMPLED: Final = TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID
_PLAIN: Final = frozenset({str, bool, float, int})
_becoming_stock = threading.RLock()


def _renew_lock() -> None:
    """A thread that held it at a fork does not run in the child."""
    global _becoming_stock  # noqa: PLW0603 # one lock for all spans, so that a span needs none of its own
    _becoming_stock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class Failure(NamedTuple):
    """Why an observed call failed: `kind` for people, `type` with its module, and when."""

    kind: str
    type: str
    at_ns: int


class LightSpan(Span):
    """See the module. Made by `SpanSource.start` alone, which sets what has no default here."""

    shape: Shape
    source: SpanSource
    made_by: Resource
    trace_id: int
    span_id: int
    started_ns: int
    parent_id: int = 0
    parent_is_remote: bool = False
    trace_state: TraceState | None = None
    flags: int = SAMPLED
    ended_ns: int = 0
    more: dict[str, Any] | None = None
    failure: Failure | None = None
    is_stock: bool = False
    own_context: SpanContext | None = None

    def get_span_context(self) -> SpanContext:
        """The span's identity, as OpenTelemetry's type."""
        found = self.own_context
        if found is None:
            found = SpanContext(self.trace_id, self.span_id, False, TraceFlags(self.flags), self._state())  # noqa: FBT003
            self.own_context = found
        return found

    @property
    def context(self) -> SpanContext:
        """The same."""
        return self.get_span_context()

    def is_recording(self) -> bool:
        """Whether it has not ended."""
        return not self.ended_ns if not self.is_stock else super().is_recording()

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """As OpenTelemetry's. A value that wants cleaning, or one of the shape's keys, takes the long way."""
        if type(value) in _PLAIN and self._takes(key):
            if self.more is None:
                self.more = {}
            self.more[key] = value
            if not self.is_stock:  # else another thread looked inside meanwhile, and may have missed it
                return
        super().set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """As OpenTelemetry's."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def answer(self, shape: Shape, more: dict[str, Any]) -> None:
        """Write what was called and what it used, as the last thing before the end."""
        if self.is_stock:
            super().set_attributes({**shape.labels, **more})
            return
        self.shape = shape
        if self.more is None:
            self.more = more
            return
        for key in shape.labels.keys() & self.more.keys():
            del self.more[key]
        self.more.update(more)

    def complete(self, shape: Shape | None, more: dict[str, Any] | None, ended_ns: int) -> None:
        """`answer` where there is one, and `end`, at once."""
        source = self.source
        if (
            self.is_stock
            or self.ended_ns
            or self.more is not None
            or source.listeners._span_processors is not source.only_us
        ):
            if shape is not None:
                self.answer(shape, more or {})
            self.end(ended_ns)
            return
        if shape is not None:
            self.shape = shape
            self.more = more
        self.ended_ns = ended_ns
        source.queue.add(self)

    def fail(self, failure: Failure) -> None:
        """Write that the call failed: attribute, status and event."""
        if self.is_stock:
            self._write_failure(failure)
        else:
            if self.more is not None:
                self.more.pop(names.ERROR_TYPE, None)
            self.failure = failure

    def end(self, end_time: int | None = None) -> None:
        """As OpenTelemetry's: queue it, once."""
        if self.is_stock or self.ended_ns or not self.source.is_light():
            super().end(end_time)
            return
        self.ended_ns = end_time or time_ns()
        self.source.queue.add(self)

    def attributes_now(self) -> dict[str, Any]:
        """All attributes, in the order in which they are sent."""
        failed = {names.ERROR_TYPE: self.failure.kind} if self.failure else {}
        return {**self.shape.attributes, **(self.more or {}), **failed}

    def _takes(self, key: str) -> bool:
        if self.is_stock or self.ended_ns or type(key) is not str or not key or key in self.shape.attributes:
            return False
        return self.more is None or len(self.more) < LIGHT_ATTRIBUTES_MAX

    def _state(self) -> TraceState:
        return self.trace_state if self.trace_state is not None else TraceState()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 # whatever OpenTelemetry keeps under this name
        """A stock span's own state, which is there once somebody asks for it."""
        if not name.startswith("_") or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        self._become_stock()
        return object.__getattribute__(self, name)

    def _become_stock(self) -> None:
        with _becoming_stock:
            if self.is_stock:
                return
            self.is_stock = True
            tracer = self.source.tracer
            parent = None
            if self.parent_id:
                flags = TraceFlags(self.flags)
                parent = SpanContext(self.trace_id, self.parent_id, self.parent_is_remote, flags, self._state())
            Span.__init__(
                self,
                name=self.shape.name,
                context=self.get_span_context(),
                parent=parent,
                sampler=tracer.sampler,
                resource=self.made_by,
                attributes={**self.shape.attributes, **(self.more or {})},
                kind=self.shape.kind,
                span_processor=tracer.span_processor,
                instrumentation_info=tracer.instrumentation_info,
                limits=tracer._span_limits,  # pyright: ignore[reportPrivateUsage]
                instrumentation_scope=tracer._instrumentation_scope,  # pyright: ignore[reportPrivateUsage]
            )
            self._start_time = self.started_ns
            if self.failure is not None:
                self._write_failure(self.failure)
            if self.ended_ns:
                self._end_time = self.ended_ns
                self._attributes._immutable = True  # type: ignore[union-attr]  # pyright: ignore[reportPrivateUsage]

    def _write_failure(self, failure: Failure) -> None:
        super().set_attribute(names.ERROR_TYPE, failure.kind)
        super().set_status(Status(StatusCode.ERROR, failure.kind))
        super().add_event("exception", {names.EXCEPTION_TYPE: failure.type}, failure.at_ns)
