"""`observe` in its three forms: on a function of any kind, around a block, and by hand."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pennytrace._call import CALL_KEY
from pennytrace._context import attach, before, detach, get_current, reset
from pennytrace._errors import ConfigurationError
from pennytrace._observation import Observation, Options, Text
from pennytrace._streams import observed_async_generator, observed_generator

if TYPE_CHECKING:
    from types import TracebackType

    from pennytrace._record import Call

# Decorated functions take and return anything; Any is what the decorated code says.
# ruff: noqa: ANN401

F = TypeVar("F", bound=Callable[..., Any])

_TEXTS = frozenset(Options.__dataclass_fields__) - {"usage", "stream"}
_KEPT_MAX = 512
"""Options of `with observe(…)` and `start(…)` that stay worked out; more of them start again."""
_kept: dict[tuple[tuple[str, Any], ...], Observation] = {}


class Observe:
    """What `observe(…)` returns: call it with a function, or enter it. Safe to keep and to share."""

    __slots__ = ("_entered", "_options")

    def __init__(self, **options: Any) -> None:
        _observation(options)  # so that a wrong option is an error here and now
        self._options = options
        self._entered: list[Call] = []

    def __call__(self, function: F) -> F:
        """The function, observed."""
        observed: F = _observed(function, _options(self._options))
        return observed

    def __enter__(self) -> Call:
        call = start(**self._options)
        if call.context is not None:
            call.token = attach(call.context)
        self._entered.append(call)
        return call

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        call = self._leave()
        if call is None:
            return
        if isinstance(error, GeneratorExit):
            call.follow()
            call.abandoned = True
            error = None
        call.end(error)

    async def __aenter__(self) -> Call:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, at)

    def _leave(self) -> Call | None:
        """The call that was entered here last, no longer current.

        A block around a `yield` may be left in another context than it was entered in, where another call or none is
        current; that one then stays. Where this object is shared, a call of this context goes before others.
        """
        around = get_current()
        current = around.get(CALL_KEY)
        for call in reversed(self._entered):
            if call is current:
                self._entered.remove(call)
                _go_out_of(call)
                return call
        for call in reversed(self._entered):
            if call.token is not None and (outside := before(call.token, around)) is not None:
                self._entered.remove(call)
                call.outside = outside
                return call
        return self._entered.pop() if self._entered else None


def _go_out_of(call: Call) -> None:
    """Back to what was current before the call, past calls that were left meanwhile."""
    if call.token is not None:
        detach(call.token)
    while (outside := getattr(get_current().get(CALL_KEY), "outside", None)) is not None:
        attach(outside)


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
) -> Observe: ...
def observe(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Observe a function, method, coroutine, generator or async generator; as `@observe` or `@observe(…)`.

    Or a block: `with observe(…) as call:`, or `async with`; `call` is a `Call`.

    endpoint: what the bill is grouped by, such as "/chat". model, provider, operation: of the model call,
    where the response does not say (operation is "chat" by default). tenant, variant, model_version: dimensions.
    model, tenant and variant may be callables of the function's arguments. usage: a callable that gets the
    result (or each chunk) and returns a `Usage`, a usage object or mapping, or None. name: the span's name.
    stream: True follows any returned iterator to its end, False none; by default generators and provider streams.

    Raises ConfigurationError for an unknown option or something that is no function, when decorating; the
    decorated function raises what it always raised.
    """
    if function is None:
        return Observe(**options)
    return _observed(function, _options(options))


def start(**options: Any) -> Call:
    """Begin a call by hand, for code that ends elsewhere than it begins; end it with `call.end()`.

    Options are those of `observe`, without callables of arguments. The call is not current: what should see it
    (`pennytrace.record_usage`, spans below it) runs within `with call.active():`.
    """
    return _observation(options).open((), {})


def _observation(options: dict[str, Any]) -> Observation:
    key = tuple(options.items())
    try:
        found = _kept.get(key)
    except TypeError:  # an option that has no hash
        return _made(options)
    if found is None:
        if len(_kept) >= _KEPT_MAX:
            _kept.clear()
        found = _kept[key] = _made(options)
    return found


def _made(options: dict[str, Any]) -> Observation:
    told = _options(options)
    return Observation(told, _span_name(told, told.operation or "call"))


def _options(options: dict[str, Any]) -> Options:
    try:
        return Options(**{name: _said(name, value) for name, value in options.items()})
    except TypeError:
        known = ", ".join(Options.__dataclass_fields__)
        raise ConfigurationError(f"expected options of @observe among {known}; got {', '.join(options)}") from None


def _said(option: str, value: Any) -> Any:
    """Texts as texts: a tenant is often a number or a UUID."""
    if value is None or isinstance(value, str) or callable(value) or option not in _TEXTS:
        return value
    return str(value)


def _span_name(options: Options, otherwise: str) -> str:
    if options.name or options.endpoint:
        return options.name or options.endpoint or otherwise
    if isinstance(options.model, str):
        return f"{options.operation or 'chat'} {options.model}"
    return otherwise


def _observed(function: Callable[..., Any], options: Options) -> Any:
    if not callable(function) or isinstance(function, (type, staticmethod, classmethod)):
        raise ConfigurationError(
            f"expected a function to observe, got {function!r}; "
            "put @observe on methods, below @classmethod, @staticmethod or @property, and give options by name"
        )
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    observation = Observation(options, _span_name(options, name))
    if inspect.isasyncgenfunction(function):
        return observed_async_generator(function, observation.open)
    if inspect.isgeneratorfunction(function) and not _is_awaited(function):
        return observed_generator(function, observation.open)
    if inspect.iscoroutinefunction(function) or _is_awaited(function):
        return _observed_coroutine(function, observation)
    return _observed_function(function, observation)


def _is_awaited(function: Callable[..., Any]) -> bool:
    """Whether `types.coroutine` made the generator function into one whose results are awaited."""
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)


def _observed_function(function: Callable[..., Any], observation: Observation) -> Callable[..., Any]:
    open_call, close, not_read = observation.open, observation.close, observation.not_read

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = open_call(args, kwargs)
        token = attach(call.context)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] # open: it has one
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            detach(token)
            call.end(error)
            raise
        try:  # noqa: SIM105 # as `detach` does; a call of anything here would cost every call
            reset(token)
        except ValueError:
            pass
        if type(result) in not_read:
            call.end()
            return result
        return close(call, result)

    return wrapper


def _observed_coroutine(function: Callable[..., Any], observation: Observation) -> Callable[..., Any]:
    @wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = observation.open(args, kwargs)
        try:
            coroutine = function(*args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        return await observation.awaited(call, coroutine)

    return wrapper
