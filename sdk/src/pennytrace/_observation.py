"""What one `@observe` was told, worked out once, so that a call has little left to do."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from pennytrace import _names as names
from pennytrace import _runtime
from pennytrace._call import CALL_KEY, begin
from pennytrace._context import SUPPRESS_KEY, Activation, get_current
from pennytrace._guard import Guard
from pennytrace._record import Call
from pennytrace._shape import Plan, Request
from pennytrace._streams import is_stream, observed_stream

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from opentelemetry.context import Context

# Decorated functions take and return anything; Any is what the decorated code says.
# ruff: noqa: ANN401

Text = str | Callable[..., str | None]
"""A string, or a callable that gets the function's own arguments and returns one (or None)."""

PLANS_MAX: Final = 256
"""Distinct (model, variant) that one decorated function keeps worked out; more of them start again."""
NOT_READ: Final = frozenset({type(None), str, bytes, bool, int, float})
"""Results that are neither a stream nor an answer."""

_starting = Guard("starting a span")
_resolving = Guard("resolving an option of @observe")
_wrapping = Guard("following a returned stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What one `@observe` was told; `observe` documents each."""

    endpoint: str | None = None
    model: Text | None = None
    provider: str | None = None
    operation: str | None = None
    tenant: Text | None = None
    variant: Text | None = None
    model_version: str | None = None
    usage: Callable[[Any], object] | None = None
    name: str | None = None
    stream: bool | None = None

    @property
    def is_model_call(self) -> bool:
        """Whether the function itself calls a model, by what the user declared."""
        return any(told is not None for told in (self.model, self.provider, self.operation, self.usage))


class Observation:
    """One decorated function: opens a call, and closes it or hands it on to the stream that was returned."""

    def __init__(self, options: Options, span_name: str) -> None:
        self.options = options
        self._span_name = span_name
        self._tenant = options.tenant if callable(options.tenant) else None
        self._asks = any(callable(option) for option in (options.model, options.variant, options.tenant))
        self._plans: dict[tuple[bool, str | None, str | None], Plan] = {}
        model = None if callable(options.model) else options.model
        variant = None if callable(options.variant) else options.variant
        self._outermost = self._plan(is_outermost=True, model=model, variant=variant)
        self._within = self._plan(is_outermost=False, model=model, variant=variant)
        # Only of these results is it known beforehand that there is nothing to do but end the span.
        self.not_read = NOT_READ if options.usage is None else frozenset[type]()

    def open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Start a span; a failure to do so gives a call that records nothing."""
        runtime = _runtime.configured or _runtime.installed()
        context = get_current()
        try:
            if context or kwargs or self._asks:
                return self._open(runtime, context, args, kwargs)
            plan = self._outermost
            return begin(Call, runtime, runtime.source.start(plan.start, context), plan, None, plan.tenant, context)
        except Exception as error:  # noqa: BLE001 # ours; the function runs unobserved
            _starting.caught(error)
            return _unrecorded(runtime, context)

    def _open(self, runtime: _runtime.Runtime, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """In the general case: something is around the call, or an option asks its arguments."""
        if context.get(SUPPRESS_KEY):
            return _unrecorded(runtime, context)
        parent: Any = context.get(CALL_KEY)
        if self._asks or "model" in kwargs:
            plan = self._plan_for(args, kwargs, is_outermost=parent is None)
        else:
            plan = self._outermost if parent is None else self._within
        tenant = plan.tenant if self._tenant is None else _resolve(self._tenant, args, kwargs)
        if tenant is None and parent is not None:
            tenant = parent.tenant
        more = {names.TENANT: tenant} if tenant and tenant is not plan.tenant else None
        span = runtime.source.start(plan.start, context, more)
        return begin(Call, runtime, span, plan, parent, tenant, context)

    def close(self, call: Call, result: Any) -> Any:
        """End the call with its result, or return a stream or coroutine that ends it when it ends."""
        if type(result) is CoroutineType:
            return self.awaited(call, result)
        if call.recording:
            with _wrapping:
                if hasattr(type(result), "_asyncio_future_blocking"):  # how asyncio itself tells a future
                    result.add_done_callback(partial(_close_with, call))
                    return result
                if is_stream(result, self.options.stream):
                    return observed_stream(result, call)
        try:
            call.see(result)
        finally:  # `see` raises in strict mode
            call.end()
        return result

    async def awaited(self, call: Call, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await the coroutine within the call, and close the call with its result."""
        try:
            with Activation(call.context):
                result = await coroutine
        except BaseException as error:
            call.end(error)
            raise
        if type(result) in self.not_read:
            call.end()
            return result
        return self.close(call, result)

    def _plan_for(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, is_outermost: bool) -> Plan:
        options = self.options
        model = _resolve(options.model, args, kwargs)
        if model is None and isinstance(named := kwargs.get("model"), str):
            model = named
        variant = _resolve(options.variant, args, kwargs)
        found = self._plans.get((is_outermost, model, variant))
        return found or self._plan(is_outermost=is_outermost, model=model, variant=variant)

    def _plan(self, *, is_outermost: bool, model: str | None, variant: str | None) -> Plan:
        options = self.options
        tenant = None if callable(options.tenant) else options.tenant
        dimensions = {
            names.SPAN_KIND: names.KIND_REQUEST if is_outermost else None,
            names.ENDPOINT: options.endpoint,
            names.TENANT: tenant,
            names.VARIANT: variant,
            names.MODEL_VERSION: options.model_version,
        }
        kind = SpanKind.CLIENT if options.is_model_call else SpanKind.INTERNAL
        request = Request(model, options.provider, options.operation, options.is_model_call, options.usage)
        if len(self._plans) >= PLANS_MAX:
            self._plans.clear()
        plan = self._plans[is_outermost, model, variant] = Plan(self._span_name, kind, dimensions, request)
        return plan


def _close_with(call: Call, future: Any) -> None:
    """End the call as the task that the function returned ended."""
    if future.cancelled():
        return call.end(CancelledError())
    # Not `exception()`, after which asyncio would no longer tell of an error that nobody looked at.
    error = getattr(future, "_exception", None)
    if error is None:
        call.see(future.result())
    return call.end(error)


_NOTHING = Plan("", SpanKind.INTERNAL, {}, Request())


def _unrecorded(runtime: _runtime.Runtime, context: Context) -> Call:
    """A call that goes unrecorded, in the trace that is current."""
    around = trace.get_current_span(context)
    nothing = trace.NonRecordingSpan(around.get_span_context())
    call = begin(Call, runtime, nothing, _NOTHING, None, None, context)
    call.recording = False
    return call


def _resolve(option: Text | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if option is None or isinstance(option, str):
        return option
    with _resolving:
        found = cast("object", option(*args, **kwargs))
        return None if found is None else str(found)
    return None
