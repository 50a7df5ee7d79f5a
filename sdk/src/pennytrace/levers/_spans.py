"""All that levers do to spans and to the observed calls around them, so that a change beneath is one edit here.

A lever's span is an observed call without an endpoint: a model call inside it is booked as anywhere else, and an
answer that the lever itself got is read and booked on its span.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry import trace

from pennytrace import _names as names
from pennytrace import _usage
from pennytrace._call import current_call
from pennytrace._errors import ConfigurationError
from pennytrace._guard import Guard
from pennytrace._observe import observe
from pennytrace._record import record_cached

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextvars import Context

    from opentelemetry.trace import SpanContext

    from pennytrace._usage import Answer

F = TypeVar("F", bound=Callable[..., Any])
Told = str | bool | int | float | list[str] | None

LINKS_MAX: Final = 128
"""OpenTelemetry's default bound on links of a span."""

_telling = Guard("writing a lever's span")
_counting = Guard("reading what a lever's call used")


def spanned(lever: str, what: str, function: F) -> F:
    """The function under a span of the lever, named `LEVER WHAT`; of the same kind and signature."""
    return observe(name=f"{lever} {what}")(function)


def tell(lever: str | None, **told: Told) -> None:
    """Put `pennytrace.lever` and `pennytrace.LEVER.NAME` attributes on the current span; None is left out."""
    with _telling:
        prefix = f"pennytrace.{lever}." if lever else "pennytrace."
        found = {prefix + name: value for name, value in told.items() if value is not None}
        if lever:
            found[names.LEVER] = lever
        trace.get_current_span().set_attributes(found)
        call = current_call()
        if call is not None:
            call.inherit_request()


def tell_call(name: str, value: Told) -> None:
    """Put one attribute on the span of the innermost observed call, else on the current span."""
    with _telling:
        call = current_call()
        span = call.span if call is not None else trace.get_current_span()
        if value is not None:
            span.set_attribute(name, value)


def current_tenant() -> str | None:
    """The tenant of the observed call that runs here."""
    call = current_call()
    return call.tenant if call is not None else None


def answers(result: object = None) -> list[Answer]:
    """The model answers of the current lever's call: booked below it, stated in it, seen, or read off `result`."""
    with _counting:
        call = current_call()
        found = call.answers() if call is not None else []
        read = _usage.read(result)
        if read is not None and not _is_among(read, found) and (read.response_id or not found):
            found.append(read)
        return found
    return []


def record_reused(reused: Iterable[Answer], model: str | None, provider: str | None) -> None:
    """Write a cache span per answer that need not be paid again; one without usage when none is known."""
    found = list(reused)
    for answer in found:
        record_cached(answer, model=model, provider=provider)
    if not found:
        record_cached(model=model, provider=provider)


def call_elsewhere() -> None:
    """Say that no model is called here, or that its call is booked elsewhere: nothing around it is an unknown call."""
    with _telling:
        call = current_call()
        if call is not None:
            call.inherit(())


def link_to(contexts: Sequence[SpanContext]) -> None:
    """Link the current span to others, as many as a span may have."""
    with _telling:
        for context in contexts[:LINKS_MAX]:
            trace.get_current_span().add_link(context)


def span_context(context: Context) -> SpanContext:
    """The span that is current in a captured context."""
    return context.run(trace.get_current_span).get_span_context()


def name_of(function: Callable[..., Any]) -> str:
    """What to call a function in a span's name and in keys: unqualified for people to read."""
    return getattr(function, "__name__", type(function).__name__)


def expect_plain(lever: str, function: object) -> None:
    """Raise ConfigurationError unless the value is a function or coroutine function; a generator is neither."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"expected a function or coroutine function for {lever}, got the generator {function!r}; "
            f"put {lever} on a function that returns the whole answer"
        )
    if not callable(function) or inspect.isclass(function):
        raise ConfigurationError(f"expected a function for {lever}, got {function!r}; decorate a function")


def _is_among(answer: Answer, others: Sequence[Answer]) -> bool:
    return any(answer.same_call(other) for other in others)
