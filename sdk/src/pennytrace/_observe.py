"""`@observe`: one span around a call of whatever kind the function is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from pennytrace import _names as names
from pennytrace._call import Call, Request, current_call
from pennytrace._errors import ConfigurationError
from pennytrace._guard import Guard
from pennytrace._runtime import installed
from pennytrace._streams import is_stream, observed_async_generator, observed_generator, observed_stream

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pennytrace._runtime import Runtime

# Decorated functions take and return anything; Any is what the decorated code says.
# ruff: noqa: ANN401

F = TypeVar("F", bound=Callable[..., Any])
Text = str | Callable[..., str | None]
"""A string, or a callable that gets the function's own arguments and returns one (or None)."""

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


@overload
def observe(function: F, /) -> F: ...
@overload
def observe(
    *,
    endpoint: str | None = None,
    model: Text | None = None,
    provider: str | None = None,
    operation: str | None = None,
    tenant: Text | None = None,
    variant: Text | None = None,
    model_version: str | None = None,
    usage: Callable[[Any], object] | None = None,
    name: str | None = None,
    stream: bool | None = None,
) -> Callable[[F], F]: ...
def observe(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Observe a function, method, coroutine, generator or async generator; as `@observe` or `@observe(…)`.

    endpoint: what the bill is grouped by, such as "/chat". model, provider, operation: of the model call,
    where the response does not say (operation is "chat" by default). tenant, variant, model_version: dimensions.
    model, tenant and variant may be callables of the function's arguments. usage: a callable that gets the
    result (or each chunk) and returns a `Usage`, a usage object or mapping, or None. name: the span's name.
    stream: True follows any returned iterator to its end, False none; by default generators and provider streams.

    Raises ConfigurationError for an unknown option or something that is no function, when decorating; the
    decorated function raises what it always raised.
    """
    told = _options(options)
    if function is None:
        return partial(_observed, options=told)
    return _observed(function, told)


def _options(options: dict[str, Any]) -> Options:
    try:
        return Options(**options)
    except TypeError:
        known = ", ".join(Options.__dataclass_fields__)
        raise ConfigurationError(f"expected options of @observe among {known}; got {', '.join(options)}") from None


def _observed(function: Callable[..., Any], options: Options) -> Callable[..., Any]:
    if not callable(function) or inspect.isclass(function):
        raise ConfigurationError(
            f"expected a function to observe, got {function!r}; "
            "put @observe on methods, below @classmethod, @staticmethod or @property, and give options by name"
        )
    observation = Observation(options, options.name or _span_name(function, options))
    if inspect.isasyncgenfunction(function):
        return observed_async_generator(function, observation.open)
    if inspect.isgeneratorfunction(function):
        return observed_generator(function, observation.open)
    if inspect.iscoroutinefunction(function):
        return _observed_coroutine(function, observation)
    return _observed_function(function, observation)


def _span_name(function: Callable[..., Any], options: Options) -> str:
    if options.endpoint:
        return options.endpoint
    if isinstance(options.model, str):
        return f"{options.operation or 'chat'} {options.model}"
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _observed_function(function: Callable[..., Any], observation: Observation) -> Callable[..., Any]:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = observation.open(args, kwargs)
        try:
            with call.active():
                result = function(*args, **kwargs)
        except BaseException as error:
            call.finish(error)
            raise
        return observation.close(call, result)

    return wrapper


def _observed_coroutine(function: Callable[..., Any], observation: Observation) -> Callable[..., Any]:
    @wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = observation.open(args, kwargs)
        try:
            coroutine = function(*args, **kwargs)
        except BaseException as error:
            call.finish(error)
            raise
        return await observation.awaited(call, coroutine)

    return wrapper


@dataclass(frozen=True, slots=True)
class Observation:
    """One decorated function: opens a call, and closes it or hands it on to the stream that was returned."""

    options: Options
    span_name: str

    def open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Start a span; a failure to do so gives a call that records nothing."""
        runtime = installed()
        with _starting:
            return self._open(runtime, args, kwargs)
        return Call(runtime, trace.INVALID_SPAN, Request(), None)

    def close(self, call: Call, result: Any) -> Any:
        """End the call with its result, or return a stream or coroutine that ends it when it ends."""
        if inspect.iscoroutine(result):
            return self.awaited(call, result)
        if call.recording:
            with _wrapping:
                if is_stream(result, self.options.stream):
                    return observed_stream(result, call)
        try:
            call.see(result)
        finally:  # `see` raises in strict mode
            call.finish()
        return result

    async def awaited(self, call: Call, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await the coroutine within the call, and close the call with its result."""
        try:
            with call.active():
                result = await coroutine
        except BaseException as error:
            call.finish(error)
            raise
        return self.close(call, result)

    def _open(self, runtime: Runtime, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        options, parent = self.options, current_call()
        tenant = _resolve(options.tenant, args, kwargs) or (parent.tenant if parent is not None else None)
        attributes = {
            names.SPAN_KIND: names.KIND_REQUEST if parent is None else None,
            names.ENDPOINT: options.endpoint,
            names.TENANT: tenant,
            names.VARIANT: _resolve(options.variant, args, kwargs),
            names.MODEL_VERSION: options.model_version,
        }
        span = runtime.tracer.start_span(
            self.span_name,
            kind=SpanKind.CLIENT if options.is_model_call else SpanKind.INTERNAL,
            attributes={name: value for name, value in attributes.items() if value},
        )
        call = Call(runtime, span, self._request(args, kwargs), parent)
        call.tenant = tenant
        return call

    def _request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
        options = self.options
        model = _resolve(options.model, args, kwargs)
        if model is None and isinstance(named := kwargs.get("model"), str):
            model = named
        return Request(model, options.provider, options.operation, options.is_model_call, options.usage)


def _resolve(option: Text | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if option is None or isinstance(option, str):
        return option
    with _resolving:
        found = cast("object", option(*args, **kwargs))
        return None if found is None else str(found)
    return None
