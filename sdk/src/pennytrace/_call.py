"""One observed call: its span, the answers seen in it, and what becomes of them when it ends.

Usage stands only on leaves of the trace, so that nobody counts it twice: a call with one answer of its own
and no observed call below it carries the usage itself; otherwise each answer gets a child span. An answer
that an inner call already booked is not booked again when an outer function returns it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from pennytrace import _names as names
from pennytrace import _usage
from pennytrace._context import Activation, attach, detach, get_current
from pennytrace._guard import Guard
from pennytrace._shape import Plan, Request, Shape
from pennytrace._source import SPAN_KEY
from pennytrace._span import Failure, LightSpan
from pennytrace._statement import Statement, as_answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Token
    from types import TracebackType

    from opentelemetry.trace import Span

    from pennytrace._gpu import GpuSampler
    from pennytrace._runtime import Runtime
    from pennytrace._usage import Answer

C = TypeVar("C", bound="Observed")

BOOKED_ANSWERS_MAX: Final = 256
"""Answers that a call remembers of the calls below it; a longer agent loop may forget its oldest ones."""
CALL_KEY: Final = otel_context.create_key("pennytrace-call")

_CACHE_SPAN_NAMES = (names.PROVIDER, names.REQUEST_MODEL, names.RESPONSE_MODEL)
"""No operation and no response id: nothing was called, and the id belongs to the call that was paid."""
_NOT_READ = (str, bytes, type(None))
_new: Any = object.__new__
_reading = Guard("reading usage from a result")
_ending = Guard("ending a span")


class Observed:
    """An open span and what was seen since; `Call` is its public side.

    `see`, `chunk` and `end` never raise, and do nothing once it ended. A call whose span is not sampled books its
    answers all the same: caches and budgets go by them.
    """

    recording = True
    is_plain = True  # a light span with at most one statement of counts, which is then all: most calls
    streams = False
    abandoned = False
    delegated = False
    answered_from_cache = False
    first_chunk_ns: int | None = None
    statement: Statement | None = None
    stated: list[Answer] | None = None
    seen: list[Answer] | None = None
    booked: Sequence[Answer | Statement] = ()
    token: Token[Context] | None = None
    left: Context | None = None  # what a producer had current when it gave its last item
    outside: Context | None = None  # what was current before it, where a block was left while another was current
    _gpu_mark: tuple[float, float] | None = None
    noticed_ns = 0  # what stands for the start of a span that is not ours

    runtime: Runtime
    span: Span
    plan: Plan
    parent: Observed | None
    tenant: str | None
    context: Context | None

    @property
    def started_ns(self) -> int:
        """When the span began."""
        return self.span.started_ns if type(self.span) is LightSpan else self.noticed_ns

    @property
    def request(self) -> Request:
        """What is known of the call before its answer."""
        return self.plan.request

    def watch_gpus(self, gpu: GpuSampler) -> None:
        """From now on the GPUs' work is this call's."""
        self.is_plain = False
        self._gpu_mark = gpu.enter()

    def follow(self) -> None:
        """From now on the answer comes in parts."""
        self.streams = True
        self.is_plain = False

    def active(self) -> Activation:
        """`with call.active():` makes the span current; leave it before any `yield`. Nothing once the call ended."""
        return Activation(self.context)

    def step(self) -> Step:
        """`with call.step():` around one step of a producer: what it left current is current again in its next."""
        return Step(self)

    def say(self, statement: Statement) -> None:
        """Book the counts that the user stated."""
        if self.statement is None and self.stated is None:
            self.statement = statement
            if self.delegated:
                self.is_plain = False
        else:
            self.state(as_answer(statement))

    def state(self, answer: Answer) -> None:
        """Book an answer that the user stated."""
        self.is_plain = False
        stated = self.all_stated()
        _add(stated, answer)
        self.stated = stated

    def all_stated(self) -> list[Answer]:
        """What the user said so far."""
        if self.statement is not None:
            self.stated = [as_answer(self.statement)]
            self.statement = None
        return self.stated or []

    def see(self, value: object) -> None:
        """Read usage off a result or a chunk, if its shape is known."""
        if not self.recording or (self.request.usage is None and issubclass(type(value), _NOT_READ)):
            return
        with _reading:
            if not self.answered_from_cache and (answer := self._read(value)) is not None:
                self.is_plain = False
                if self.seen is None:
                    self.seen = []
                _add(self.seen, answer)

    def chunk(self, value: object) -> None:
        """One more part of a streamed answer: the first one is timed, and any usage in it is read."""
        self.follow()
        if self.first_chunk_ns is None:
            self.first_chunk_ns = time_ns()
        self.see(value)

    def belongs_to(self, tenant: str) -> None:
        """Name the tenant of the whole request: of this call and of those around it."""
        call: Observed | None = self
        while call is not None:
            call.tenant = tenant
            call.span.set_attribute(names.TENANT, tenant)
            call = call.parent

    def answer_from_cache(self, answer: Answer | None, request: Request) -> None:
        """Write the cache span: what the model call that did not happen would have been."""
        attributes = request.attributes(answer)
        told = {name: attributes[name] for name in _CACHE_SPAN_NAMES if name in attributes}
        counts = answer.usage.attributes() if answer else {}
        marks = {names.SPAN_KIND: names.KIND_CACHE, names.RESPONSE_CACHE_HIT: True}
        self.child("cache", SpanKind.INTERNAL, {**marks, **told, **counts}, time_ns())
        self.answered_from_cache = True
        self.is_plain = False
        if answer is not None:
            self.booked = [*self.booked, replace(answer, reused=True)]

    def end(self, error: BaseException | None = None) -> None:
        """End the span with everything that was seen. Idempotent."""
        if error is not None or not self.is_plain:
            if self.recording:
                self._end_fully(error)
            return
        self.is_plain = self.recording = False
        statement, parent, span, plan = self.statement, self.parent, self.span, self.plan
        shape = more = None
        try:
            if statement is not None:
                shape, more = plan.answered(statement[0], statement[1]), statement[2]
            elif plan.request.is_model_call and not self.delegated:
                shape = plan.answered(None, None)
            self.context = None  # which refers to this call
            span.complete(shape, more, time_ns())  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
            if parent is not None and (shape is not None or self.delegated):
                parent.inherit(self.booked if statement is None else (self._declared(statement),))
        except Exception as failure:  # noqa: BLE001 # our own; a `with` here would cost every call
            _ending.caught(failure)

    def _end_fully(self, error: BaseException | None) -> None:
        """`end` for what is not plain."""
        self.is_plain = self.recording = False
        ended_ns = time_ns()
        try:
            if error is not None or self.streams:
                with _ending:
                    self._write_outcome(error, ended_ns)
            with _ending:
                self._write_answers(ended_ns)
            if self._gpu_mark is not None:
                with _ending:
                    self._write_gpus(ended_ns)
        finally:
            self.context = self.left = None
            with _ending:
                self.span.end(ended_ns)

    def child(self, name: str, kind: SpanKind, attributes: dict[str, Any], ended_ns: int) -> None:
        """A finished child span over the whole call so far."""
        around = self.context if self.context is not None else get_current()
        self.runtime.source.start(_bare(name, kind), around, attributes, self.started_ns).end(ended_ns)

    def answers(self) -> list[Answer]:
        """Those of calls below it, then its own: stated or, where nothing below it has any, seen. Changes nothing."""
        found = [as_answer(one) if isinstance(one, tuple) else one for one in self.booked]
        stated = self.stated or ([] if self.statement is None else [as_answer(self.statement)])
        own = stated or ([] if found else self.seen or [])
        return found + [answer for answer in own if not _any_same(answer, found)]

    def inherit_request(self) -> None:
        """What the calls around this one were told of the model holds for answers that it reads itself, too."""
        told, above = self.plan.request, self.parent
        while above is not None:
            told, above = told.or_else(above.plan.request), above.parent
        if told != self.plan.request:
            self.plan = self.plan.asking(told)

    def inherit(self, answers: Sequence[Answer | Statement]) -> None:
        """A call below this one booked these answers."""
        self.delegated = True
        if self.statement is not None:
            self.is_plain = False
        if answers:
            self.booked = [*self.booked, *answers][-BOOKED_ANSWERS_MAX:]

    def _declared(self, said: Statement) -> Statement:
        """With what the decorator knows of the model, for a cache above that gives the answer again."""
        request = self.plan.request
        return said[0] or request.model, said[1] or request.provider, said[2]

    def _read(self, value: object) -> Answer | None:
        previous = self.seen[-1].usage if self.seen else None
        if self.request.usage is not None:
            return _usage.read_given(self.request.usage(value), previous)
        return _usage.read(value, previous)

    def _write_outcome(self, error: BaseException | None, ended_ns: int) -> None:
        span = self.span
        if self.streams:
            span.set_attribute(names.REQUEST_STREAM, True)  # noqa: FBT003 # OpenTelemetry's signature
        if self.first_chunk_ns is not None:
            span.set_attribute(names.TIME_TO_FIRST_CHUNK, (self.first_chunk_ns - self.started_ns) / 1e9)
        if self.abandoned:
            span.set_attribute(names.STREAM_ABANDONED, True)  # noqa: FBT003 # OpenTelemetry's signature
        if error is not None:
            _fail(span, error, ended_ns)

    def _write_answers(self, ended_ns: int) -> None:
        leaf = not (self.delegated or self.answered_from_cache)
        booked = self.booked
        if self.statement is not None or self.stated or self.seen:
            own = self._write_own(leaf=leaf, ended_ns=ended_ns)
            booked = [*map(self.request.completed, own), *booked]
        elif leaf and self.plan.request.is_model_call:
            self._answer(self.plan.answered(None, None), {})
        elif leaf:
            return
        if self.parent is not None:
            self.parent.inherit(booked)

    def _write_own(self, *, leaf: bool, ended_ns: int) -> list[Answer]:
        own = self._own_answers()
        if leaf and len(own) == 1:
            answer = own[0]
            shape = self.plan.answered(answer.model, answer.provider, answer.operation, answer.tier)
            told = {names.RESPONSE_ID: answer.response_id} if answer.response_id else {}
            self._answer(shape, {**told, **answer.usage.attributes()})
        else:
            self._write_children(own, ended_ns)
        return own

    def _answer(self, shape: Shape, more: dict[str, Any]) -> None:
        span = self.span
        if type(span) is LightSpan:
            span.answer(shape, more)
        else:
            span.set_attributes({**shape.labels, **more})

    def _own_answers(self) -> list[Answer]:
        """What was said, and what was seen besides, without what calls below booked.

        A total that was stated without an id speaks for the whole call. A result without an id, above calls
        that booked something, is their sum or their copy.
        """
        all_stated = self.all_stated()
        if not self.booked and (not self.seen or not all_stated):
            return all_stated or self.seen or []
        booked = [as_answer(one) if isinstance(one, tuple) else one for one in self.booked]
        stated = [a for a in all_stated if a.key is None or not _any_same(a, booked)]
        if any(answer.key is None for answer in all_stated):
            return stated
        known = all_stated + booked
        seen = [a for a in self.seen or () if not _any_same(a, known) and (a.response_id or not booked)]
        return stated + seen

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
            self.child("gpu", SpanKind.INTERNAL, known, ended_ns)


class Step:
    """See `Observed.step`. Nothing once the call ended."""

    __slots__ = ("_call", "_token")

    def __init__(self, call: Observed) -> None:
        self._call = call
        self._token: Token[Context] | None = None

    def __enter__(self) -> None:
        call = self._call
        if call.context is not None:
            self._token = attach(call.context if call.left is None else call.left)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._token is not None:
            if self._call.context is not None:
                self._call.left = get_current()
            detach(self._token)


def begin(
    kind: type[C],
    runtime: Runtime,
    span: Span,
    plan: Plan,
    parent: Observed | None,
    tenant: str | None,
    around: Context,
) -> C:
    """A call over a span that just started. A function, since a constructor would take twice as long."""
    call: C = _new(kind)
    call.runtime = runtime
    call.span = span
    call.plan = plan
    call.parent = parent
    call.tenant = tenant
    if around:
        values = around.copy()
        values[SPAN_KEY] = span
        values[CALL_KEY] = call
        call.context = Context(values)
    else:
        call.context = Context({SPAN_KEY: span, CALL_KEY: call})
    if type(span) is not LightSpan:
        call.is_plain = False
        call.noticed_ns = time_ns()
    # Only the outermost call asks the GPU: nested ones would share one second among themselves.
    if runtime.gpu is not None and parent is None and span.is_recording():
        call.watch_gpus(runtime.gpu)
    return call


def current_call() -> Observed | None:
    """The innermost observed call that is running here."""
    found = get_current().get(CALL_KEY)
    return found if isinstance(found, Observed) else None


def _fail(span: Span, error: BaseException, at_ns: int) -> None:
    """Only the error's type: a message can quote the prompt."""
    kind = type(error).__qualname__
    failure = Failure(kind, f"{type(error).__module__}.{kind}", at_ns)
    if type(span) is LightSpan:
        span.fail(failure)
        return
    span.set_attribute(names.ERROR_TYPE, kind)
    span.set_status(Status(StatusCode.ERROR, kind))
    span.add_event("exception", {names.EXCEPTION_TYPE: failure.type}, at_ns)


def _add(answers: list[Answer], answer: Answer) -> None:
    """Append an answer, or merge it into the one that it continues."""
    for index in range(len(answers) - 1, -1, -1):
        if answer.continues(answers[index]):
            answers[index] = answers[index].merged(answer)
            return
    answers.append(answer)


def _any_same(answer: Answer, others: Sequence[Answer]) -> bool:
    return any(answer.same_call(other) for other in others)


@lru_cache(maxsize=256)
def _bare(name: str, kind: SpanKind) -> Shape:
    return Shape(name, kind, {})
