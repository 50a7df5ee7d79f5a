"""Streams: the span stays open until the last chunk, and is current only while the producer runs.

A stream that its consumer drops, closes or cancels ends its span then, with the usage seen so far.
"""

from __future__ import annotations

from functools import partial, wraps
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from types import TracebackType

    from pennytrace._call import Observed

    OpenCall = Callable[[tuple[Any, ...], dict[str, Any]], Observed]

# A consumer may send anything into a generator and get anything back: Any is what the decorated code says.
# ruff: noqa: ANN401


def observed_generator(
    function: Callable[..., Generator[Any, Any, Any]], open_call: OpenCall
) -> Callable[..., Generator[Any, Any, Any]]:
    """The same generator function, observed from its first `next` to its end."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        call = _streaming(open_call(args, kwargs))
        try:
            result = yield from _steps(call, function(*args, **kwargs))
        except BaseException as error:
            _finish_failed(call, error)
            raise
        call.end()
        return result

    return wrapper


def _steps(call: Observed, source: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    step = partial(next, source)
    while True:
        try:
            with call.step():
                item = step()
        except StopIteration as stop:
            return stop.value
        call.chunk(item)
        try:
            sent = yield item
        except GeneratorExit:
            with call.step():
                source.close()
            raise
        except BaseException as thrown:  # noqa: BLE001 # handed to the producer, as `yield from` would
            step = partial(source.throw, thrown)
        else:
            step = partial(source.send, sent)


def observed_async_generator(
    function: Callable[..., AsyncGenerator[Any, Any]], open_call: OpenCall
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """The same async generator function, observed from its first `anext` to its end."""

    @wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call = _streaming(open_call(args, kwargs))
        try:
            source = function(*args, **kwargs)
            step: Callable[[], Any] = source.__anext__
            while True:
                try:
                    with call.step():
                        item = await step()
                except StopAsyncIteration:
                    break
                call.chunk(item)
                try:
                    sent = yield item
                except GeneratorExit:
                    with call.step():
                        await source.aclose()
                    raise
                except BaseException as thrown:  # noqa: BLE001 # handed to the producer
                    step = partial(source.athrow, thrown)
                else:
                    step = partial(source.asend, sent)
        except BaseException as error:
            _finish_failed(call, error)
            raise
        call.end()

    return wrapper


def is_stream(value: object, told: bool | None) -> bool:
    """Whether a returned value is a stream to follow: a generator, or an iterator whose type is called a stream.

    `told` is the decorator's `stream=`: True follows any iterator, False none.
    """
    kind = type(value)
    if told is False or not (hasattr(kind, "__next__") or hasattr(kind, "__anext__")):
        return False
    if told or kind is GeneratorType or kind is AsyncGeneratorType:
        return True
    return kind.__name__.endswith(("Stream", "StreamWrapper"))


def observed_stream(value: Any, call: Observed) -> Any:
    """The stream in a thin proxy that passes for it: same attributes, same `isinstance`."""
    proxy = _ObservedAsyncStream if hasattr(type(value), "__anext__") else _ObservedStream
    return proxy(value, _streaming(call))


def _streaming(call: Observed) -> Observed:
    call.follow()
    return call


def _finish_failed(call: Observed, error: BaseException) -> None:
    if isinstance(error, GeneratorExit):
        call.abandoned = True
        call.end()
    else:
        call.end(error)


class _Observed:
    """What both proxies share: everything that is not iteration goes to the stream itself."""

    def __init__(self, source: Any, call: Observed) -> None:
        self._pennytrace_source = source
        self._pennytrace_call = call

    @property  # type: ignore[misc] # so that isinstance(stream, openai.Stream) stays true
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return type(self._pennytrace_source)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pennytrace_source, name)

    def __del__(self) -> None:
        self._abandon()

    def _abandon(self) -> None:
        call = self._pennytrace_call
        call.abandoned = True
        call.end()


class _ObservedStream(_Observed):
    def __iter__(self) -> _ObservedStream:
        return self

    def __next__(self) -> Any:
        return self._step(partial(next, self._pennytrace_source))

    def send(self, value: Any) -> Any:
        return self._step(partial(self._pennytrace_source.send, value))

    def throw(self, *error: Any) -> Any:
        return self._step(partial(self._pennytrace_source.throw, *error))

    def close(self) -> Any:
        try:
            return self._pennytrace_source.close()
        finally:
            self._abandon()

    def __enter__(self) -> _ObservedStream:
        self._pennytrace_source.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> Any:
        try:
            return self._pennytrace_source.__exit__(kind, error, at)
        finally:
            self._abandon()

    def _step(self, step: Callable[[], Any]) -> Any:
        call = self._pennytrace_call
        try:
            with call.step():
                item = step()
        except StopIteration:
            call.end()
            raise
        except BaseException as error:
            call.end(error)
            raise
        call.chunk(item)
        return item


class _ObservedAsyncStream(_Observed):
    def __aiter__(self) -> _ObservedAsyncStream:
        return self

    async def __anext__(self) -> Any:
        return await self._step(self._pennytrace_source.__anext__)

    async def asend(self, value: Any) -> Any:
        return await self._step(partial(self._pennytrace_source.asend, value))

    async def athrow(self, *error: Any) -> Any:
        return await self._step(partial(self._pennytrace_source.athrow, *error))

    async def aclose(self) -> Any:
        return await self._close(self._pennytrace_source.aclose)

    async def close(self) -> Any:
        return await self._close(self._pennytrace_source.close)

    async def __aenter__(self) -> _ObservedAsyncStream:
        await self._pennytrace_source.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> Any:
        return await self._close(partial(self._pennytrace_source.__aexit__, kind, error, at))

    async def _close(self, close: Callable[[], Any]) -> Any:
        try:
            return await close()
        finally:
            self._abandon()

    async def _step(self, step: Callable[[], Any]) -> Any:
        call = self._pennytrace_call
        try:
            with call.step():
                item = await step()
        except StopAsyncIteration:
            call.end()
            raise
        except BaseException as error:
            call.end(error)
            raise
        call.chunk(item)
        return item
