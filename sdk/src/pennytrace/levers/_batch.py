"""`batch`: callers that come at about the same time share one call."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from weakref import WeakKeyDictionary

from pennytrace._errors import ConfigurationError, PennytraceError
from pennytrace.levers import _spans

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")
R = TypeVar("R")
BatchFunction = Callable[[list[T]], Sequence[R] | Awaitable[Sequence[R]]]

WINDOW_MS_MAX = 60_000


def batch(
    *,
    window_ms: float = 5.0,
    items_max: int = 32,
    group: Callable[[Any], object] | None = None,
    seconds: Callable[[], float] = time.monotonic,
) -> Callable[[BatchFunction[T, R]], Batch[T, R]]:
    """Turn a function of many items into a coroutine function of one: `@batch(window_ms=5, items_max=32)`.

    The function, a coroutine function or a plain one (which then runs in a thread), gets a list of items and
    returns as many results in their order; a result that is an exception is raised to its own caller only. The first
    item waits `window_ms` for others; `items_max` of them are called at once. group: items of different groups never
    share a call. seconds: a monotonic clock, for the waits that spans tell.

    A call that fails fails for its own items. A caller that is cancelled leaves; the others' call goes on. The
    queue holds one item per waiting caller, so that the application bounds it. Raises ConfigurationError.
    """
    if not 0 <= window_ms <= WINDOW_MS_MAX or items_max < 1:
        raise ConfigurationError(
            f"expected window_ms from 0 to {WINDOW_MS_MAX} and items_max of 1 or more, "
            f"got {window_ms!r} and {items_max!r}; give such numbers"
        )

    def decorate(function: BatchFunction[T, R]) -> Batch[T, R]:
        _spans.expect_plain("batch", function)
        return Batch(function, window_ms / 1000, items_max, group, seconds)

    return decorate


@dataclass(eq=False)
class _Waiter(Generic[T, R]):
    """One caller: its item, where it came from, and what it waits for."""

    item: T
    future: asyncio.Future[R]
    context: Context
    tenant: str | None
    came_s: float
    batch_size: int = 0
    called_s: float | None = None


@dataclass(eq=False)
class _Queue(Generic[T, R]):
    """What waits in one event loop: by group, and the calls under way."""

    waiting: dict[object, list[_Waiter[T, R]]] = field(default_factory=dict[object, list[_Waiter[T, R]]])
    timers: dict[object, asyncio.TimerHandle] = field(default_factory=dict[object, asyncio.TimerHandle])
    calls: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])


class Batch(Generic[T, R]):
    """`await embed(text)`; `async with embed:` or `await embed.drain()` leaves nothing unanswered."""

    def __init__(
        self,
        function: BatchFunction[T, R],
        window_s: float,
        items_max: int,
        group: Callable[[Any], object] | None,
        seconds: Callable[[], float],
    ) -> None:
        self.__wrapped__ = function
        self.__doc__ = function.__doc__
        name = _spans.name_of(function)
        self._window_s, self._items_max, self._group, self._seconds = window_s, items_max, group, seconds
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue[T, R]] = WeakKeyDictionary()
        self._wait = _spans.spanned("batch", name, self._waited)
        self._call = _spans.spanned("batch call", name, self._called)

    def __call__(self, item: T) -> Coroutine[Any, Any, R]:
        """The result of one item, when its batch was called."""
        return self._wait(item)

    async def drain(self) -> None:
        """Call what waits now, and wait for all calls under way; callers may come again afterwards."""
        queue = self._queue()
        for group in list(queue.waiting):
            self._flush(group)
        while queue.calls:
            await asyncio.wait(queue.calls)

    async def __aenter__(self) -> Batch[T, R]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.drain()

    async def _waited(self, item: T) -> R:
        queue, loop = self._queue(), asyncio.get_running_loop()
        waiter = _Waiter[T, R](item, loop.create_future(), copy_context(), _spans.current_tenant(), self._seconds())
        group = None if self._group is None else self._group(item)
        line = queue.waiting.setdefault(group, [])
        line.append(waiter)
        _spans.tell("batch", queue_length=len(line))
        _spans.call_elsewhere()
        if len(line) >= self._items_max:
            self._flush(group)
        elif len(line) == 1:
            queue.timers[group] = loop.call_later(self._window_s, self._flush, group)
        try:
            return await waiter.future
        finally:
            wait_s = None if waiter.called_s is None else waiter.called_s - waiter.came_s
            _spans.tell("batch", wait_seconds=wait_s, size=waiter.batch_size or None)

    def _flush(self, group: object) -> None:
        """Start the call of a group's line."""
        queue = self._queue()
        timer = queue.timers.pop(group, None)
        if timer is not None:
            timer.cancel()
        waiters = [waiter for waiter in queue.waiting.pop(group, []) if not waiter.future.done()]
        if waiters:
            task = asyncio.get_running_loop().create_task(self._answer(waiters), context=_home(waiters))
            queue.calls.add(task)
            task.add_done_callback(queue.calls.discard)

    async def _answer(self, waiters: list[_Waiter[T, R]]) -> None:
        """Call once, and give each waiter its own; a failure of the call is everybody's."""
        now = self._seconds()
        for waiter in waiters:
            waiter.called_s, waiter.batch_size = now, len(waiters)
        try:
            results = await self._call(waiters)
        except BaseException as error:
            for waiter in waiters:
                _end(waiter.future, error)
            if not isinstance(error, Exception):
                raise
        else:
            for waiter, result in zip(waiters, results, strict=True):
                _end(waiter.future, result)

    async def _called(self, waiters: list[_Waiter[T, R]]) -> list[R]:
        _spans.tell(None, **{"batch.size": len(waiters)})
        _spans.link_to([_spans.span_context(waiter.context) for waiter in waiters])
        items = [waiter.item for waiter in waiters]
        function = self.__wrapped__
        if inspect.iscoroutinefunction(function):
            found = await cast("Awaitable[Sequence[R]]", function(items))
        else:
            found = cast("Sequence[R]", await asyncio.to_thread(_call_plain, function, items))
        results = list(found)
        if len(results) != len(items):
            raise PennytraceError(
                f"expected {len(items)} results for {len(items)} items, got {len(results)}; "
                "return one result per item, in their order"
            )
        return results

    def _queue(self) -> _Queue[T, R]:
        return self._queues.setdefault(asyncio.get_running_loop(), _Queue[T, R]())


def _home(waiters: list[_Waiter[T, R]]) -> Context:
    """The first caller's context, unless several tenants share the call: then nobody pays for the others."""
    if len({waiter.tenant for waiter in waiters}) == 1:
        return waiters[0].context.copy()
    return Context()


def _call_plain(function: BatchFunction[T, R], items: list[T]) -> object:
    """Call in a thread, where a StopIteration that got out would leave those who wait for ever."""
    try:
        return function(items)
    except StopIteration as stop:
        raise _as_error(stop) from stop


def _as_error(stop: StopIteration) -> RuntimeError:
    """What Python makes of a StopIteration that leaves a coroutine: a future cannot carry the thing itself."""
    error = RuntimeError("a batch function gave StopIteration to a caller")
    error.__cause__ = stop
    return error


def _end(future: asyncio.Future[R], outcome: R | BaseException) -> None:
    if future.done():
        return
    if isinstance(outcome, asyncio.CancelledError):
        future.cancel()
    elif isinstance(outcome, StopIteration):
        future.set_exception(_as_error(outcome))
    elif isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
