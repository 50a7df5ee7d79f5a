"""One observed call: its span, the answers seen in it, and what becomes of them when it ends.

Usage stands only on leaves of the trace, so that nobody counts it twice: a call with one answer of its own
and no observed call below it carries the usage itself; otherwise each answer gets a child span. An answer
that an inner call already booked is not booked again when an outer function returns it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from pennytrace import _names as names
from pennytrace import _usage
from pennytrace._guard import Guard
from pennytrace._runtime import now_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Token
    from types import TracebackType

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from pennytrace._runtime import Runtime
    from pennytrace._usage import Answer

BOOKED_ANSWERS_MAX: Final = 256
"""Answers that a call remembers of the calls below it; a longer agent loop may forget its oldest ones."""

_CACHE_SPAN_NAMES = (names.PROVIDER, names.REQUEST_MODEL, names.RESPONSE_MODEL)
"""No operation and no response id: nothing was called, and the id belongs to the call that was paid."""
_CALL_KEY = otel_context.create_key("pennytrace-call")
_reading = Guard("reading usage from a result")
_ending = Guard("ending a span")


@dataclass(frozen=True, slots=True)
class Request:
    """What is known of a call before its answer. `is_model_call`: unknown usage is a fact worth recording."""

    model: str | None = None
    provider: str | None = None
    operation: str | None = None
    is_model_call: bool = False
    usage: Callable[[object], object] | None = None

    def attributes(self, answer: Answer | None) -> dict[str, str]:
        """What identifies a model call, the answer's word filling in for what was not declared."""
        found = {
            names.OPERATION: self.operation or (answer and answer.operation) or "chat",
            names.PROVIDER: self.provider or (answer and answer.provider),
            names.REQUEST_MODEL: self.model or (answer and answer.model),
            names.RESPONSE_MODEL: answer and answer.model,
            names.RESPONSE_ID: answer and answer.response_id,
            names.SERVICE_TIER: answer and answer.tier,
        }
        return {name: value for name, value in found.items() if value}


class Call:
    """An open span and what was seen since. `see`, `chunk` and `finish` never raise, and do nothing once it ended."""

    def __init__(self, runtime: Runtime, span: Span, request: Request, parent: Call | None) -> None:
        self.runtime = runtime
        self.span = span
        self.request = request
        self.parent = parent
        self.tenant: str | None = parent.tenant if parent is not None else None
        self.recording = span.is_recording()
        self.context = otel_context.set_value(_CALL_KEY, self, trace.set_span_in_context(span))
        self.started_ns = now_ns()
        self.stated: list[Answer] = []
        self.seen: list[Answer] = []
        self.answered_from_cache = False
        self.delegated = False
        self.booked: list[Answer] = []
        self.streams = False
        self.first_chunk_ns: int | None = None
        self.abandoned = False
        # Only the outermost call asks the GPU: nested ones would share one second among themselves.
        self._gpu_mark = runtime.gpu.enter() if self.recording and runtime.gpu and parent is None else None

    def active(self) -> Activation:
        """Make the span current while the observed code runs."""
        return Activation(self.context)

    def state(self, answer: Answer) -> None:
        """Book what the user said."""
        _add(self.stated, answer)

    def see(self, value: object) -> None:
        """Read usage off a result or a chunk, if its shape is known."""
        if not self.recording or (self.request.usage is None and isinstance(value, str | bytes)):
            return
        with _reading:
            if not self.answered_from_cache and (answer := self._read(value)) is not None:
                _add(self.seen, answer)

    def chunk(self, value: object) -> None:
        """One more part of a stream."""
        if self.first_chunk_ns is None:
            self.first_chunk_ns = now_ns()
        self.see(value)

    def belongs_to(self, tenant: str) -> None:
        """Name the tenant of the whole request: of this call and of those around it."""
        call: Call | None = self
        while call is not None:
            call.tenant = tenant
            call.span.set_attribute(names.TENANT, tenant)
            call = call.parent

    def answer_from_cache(self, answer: Answer | None, request: Request) -> None:
        """Write the cache span: what the model call that did not happen would have been."""
        attributes = request.attributes(answer)
        told = {name: attributes[name] for name in _CACHE_SPAN_NAMES if name in attributes}
        counts = answer.usage.attributes() if answer else {}
        self.child(
            "cache",
            SpanKind.INTERNAL,
            {names.SPAN_KIND: names.KIND_CACHE, names.RESPONSE_CACHE_HIT: True, **told, **counts},
            now_ns(),
        )
        self.answered_from_cache = True
        if answer is not None:
            self.booked.append(answer)

    def finish(self, error: BaseException | None = None) -> None:
        """End the span with everything that was seen. Idempotent."""
        if not self.recording:
            return
        self.recording = False
        ended_ns = now_ns()
        try:
            with _ending:
                self._write_outcome(error)
            with _ending:
                self._write_answers(ended_ns)
            with _ending:
                self._write_gpus(ended_ns)
        finally:
            with _ending:
                self.span.end(ended_ns)

    def child(self, name: str, kind: SpanKind, attributes: dict[str, str | int | float | bool], ended_ns: int) -> None:
        """A finished child span over the whole call so far."""
        self.runtime.tracer.start_span(name, self.context, kind, attributes, start_time=self.started_ns).end(ended_ns)

    def _read(self, value: object) -> Answer | None:
        previous = self.seen[-1].usage if self.seen else None
        if self.request.usage is not None:
            return _usage.read_given(self.request.usage(value), previous)
        return _usage.read(value, previous)

    def _write_outcome(self, error: BaseException | None) -> None:
        if self.streams:
            self.span.set_attribute(names.REQUEST_STREAM, True)  # noqa: FBT003 # OpenTelemetry's signature
        if self.first_chunk_ns is not None:
            self.span.set_attribute(names.TIME_TO_FIRST_CHUNK, (self.first_chunk_ns - self.started_ns) / 1e9)
        if self.abandoned:
            self.span.set_attribute(names.STREAM_ABANDONED, True)  # noqa: FBT003 # OpenTelemetry's signature
        if error is not None:
            kind = type(error).__qualname__
            self.span.set_attribute(names.ERROR_TYPE, kind)
            self.span.set_status(Status(StatusCode.ERROR, kind))
            # Only the type: a message can quote the prompt.
            self.span.add_event("exception", {names.EXCEPTION_TYPE: f"{type(error).__module__}.{kind}"})

    def _write_answers(self, ended_ns: int) -> None:
        own = self._own_answers()
        leaf = not (self.delegated or self.answered_from_cache)
        if leaf and len(own) == 1:
            self._write_usage(own[0])
        elif own:
            self._write_children(own, ended_ns)
        elif leaf and self.request.is_model_call:
            self.span.set_attributes(self.request.attributes(None))
        if self.parent is not None and (own or not leaf or self.request.is_model_call):
            self.parent.inherit(own + self.booked)

    def inherit(self, answers: Sequence[Answer]) -> None:
        """A call below this one booked these answers."""
        self.delegated = True
        self.booked = [*self.booked, *answers][-BOOKED_ANSWERS_MAX:]

    def _own_answers(self) -> list[Answer]:
        """What was said, and what was seen besides, without what calls below booked.

        A total that was stated without an id speaks for the whole call. A result without an id, above calls
        that booked something, is their sum or their copy.
        """
        stated = [a for a in self.stated if a.key is None or not _any_same(a, self.booked)]
        if any(answer.key is None for answer in self.stated):
            return stated
        known = self.stated + self.booked
        seen = [a for a in self.seen if not _any_same(a, known) and (a.response_id or not self.booked)]
        return stated + seen

    def _write_usage(self, answer: Answer) -> None:
        self.span.set_attributes({**self.request.attributes(answer), **answer.usage.attributes()})

    def _write_children(self, answers: list[Answer], ended_ns: int) -> None:
        for answer in answers:
            attributes = self.request.attributes(answer)
            name = f"{attributes[names.OPERATION]} {attributes.get(names.REQUEST_MODEL, '')}".rstrip()
            self.child(name, SpanKind.CLIENT, {**attributes, **answer.usage.attributes()}, ended_ns)

    def _write_gpus(self, ended_ns: int) -> None:
        if self._gpu_mark is None or self.runtime.gpu is None:
            return
        gpu_seconds, uses = self.runtime.gpu.leave(self._gpu_mark)
        for use in uses:
            figures: dict[str, str | float | None] = {
                names.SPAN_KIND: names.KIND_GPU,
                names.HARDWARE_ID: use.device_id,
                names.HARDWARE_NAME: use.name,
                names.GPU_UTILIZATION: use.utilization,
                names.GPU_MEMORY_BYTES: use.memory_bytes,
                names.GPU_SECONDS: gpu_seconds,
                names.GPU_ENERGY_JOULES: None if use.watts is None else use.watts * gpu_seconds,
            }
            known = {name: value for name, value in figures.items() if value is not None}
            self.child("gpu", SpanKind.INTERNAL, {**known}, ended_ns)


def _add(answers: list[Answer], answer: Answer) -> None:
    """Append an answer, or merge it into the one that it continues."""
    for index in range(len(answers) - 1, -1, -1):
        if answer.continues(answers[index]):
            answers[index] = answers[index].merged(answer)
            return
    answers.append(answer)


def _any_same(answer: Answer, others: Sequence[Answer]) -> bool:
    return any(answer.same_call(other) for other in others)


class Activation:
    """`with call.active():` around the observed code, and only around it: never across a `yield`."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._token: Token[Context] | None = None

    def __enter__(self) -> None:
        self._token = otel_context.attach(self._context)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._token is not None:
            otel_context.detach(self._token)


def current_call() -> Call | None:
    """The innermost observed call that is running here."""
    found = otel_context.get_value(_CALL_KEY)
    return found if isinstance(found, Call) else None
