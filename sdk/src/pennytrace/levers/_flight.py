"""Single flight: of those who ask for one key at once, one calls and the others wait for what it gets."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from pennytrace._errors import BudgetExceededError
from pennytrace.levers._fork import renew_in_children

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


@dataclass
class Landed(Generic[T]):
    """How a leader ended: with an answer, with an error, or by handing over: stopped, or refused by its budget."""

    answer: T | None = None
    error: Exception | None = None
    handed_over: bool = False


@dataclass
class _Flight(Generic[T]):
    owner: object
    landed: Landed[T] = field(default_factory=Landed[T])


@dataclass
class _ThreadFlight(_Flight[T]):
    done: threading.Event = field(default_factory=threading.Event)


@dataclass
class _TaskFlight(_Flight[T]):
    done: asyncio.Event = field(default_factory=asyncio.Event)


class ThreadFlights(Generic[T]):
    """Flights of threads. Who has waited `wait_s_max`, or leads already, calls alone: nobody waits for ever."""

    def __init__(self, wait_s_max: float) -> None:
        self._wait_s_max = wait_s_max
        self._open: dict[str, _ThreadFlight[T]] = {}
        self._lock = threading.Lock()
        renew_in_children(self)

    def after_fork(self) -> None:
        """Forget the flights: their leaders stayed in the parent."""
        self._lock = threading.Lock()
        self._open = {}

    def run(self, key: str, call: Callable[[], T]) -> tuple[T, bool]:
        """What `call` returns, and whether somebody else called it; raises what the leader raised."""
        while True:
            with self._lock:
                flight = self._open.get(key)
                if flight is None:
                    mine = self._open[key] = _ThreadFlight[T](threading.get_ident())
                    break
            if flight.owner == threading.get_ident() or not flight.done.wait(self._wait_s_max):
                return call(), False
            if not flight.landed.handed_over:
                return _answer(flight.landed), True
        return self._lead(key, mine, call), False

    def _lead(self, key: str, flight: _ThreadFlight[T], call: Callable[[], T]) -> T:
        flight.landed.handed_over = True
        try:
            answer = call()
            flight.landed = Landed(answer)
        except BudgetExceededError:
            raise  # says nothing about those who wait: they may be other tenants
        except Exception as error:
            flight.landed = Landed(error=error)
            raise
        finally:
            with self._lock:
                if self._open.get(key) is flight:
                    del self._open[key]
            flight.done.set()
        return answer


class TaskFlights(Generic[T]):
    """The same for tasks, each event loop for itself. A cancelled waiter leaves; a cancelled leader hands over."""

    def __init__(self, wait_s_max: float) -> None:
        self._wait_s_max = wait_s_max
        self._open: dict[tuple[asyncio.AbstractEventLoop, str], _TaskFlight[T]] = {}
        renew_in_children(self)

    def after_fork(self) -> None:
        """Forget the flights: their event loops stayed in the parent."""
        self._open = {}

    async def run(self, key: str, call: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """What `call` returns, and whether somebody else called it; raises what the leader raised."""
        place = (asyncio.get_running_loop(), key)
        while (flight := self._open.get(place)) is not None:
            if flight.owner is asyncio.current_task() or not await self._waited(flight):
                return await call(), False
            if not flight.landed.handed_over:
                return _answer(flight.landed), True
        mine = self._open[place] = _TaskFlight[T](asyncio.current_task())
        return await self._lead(place, mine, call), False

    async def _waited(self, flight: _TaskFlight[T]) -> bool:
        try:
            await asyncio.wait_for(flight.done.wait(), self._wait_s_max)
        except TimeoutError:
            return False
        return True

    async def _lead(
        self, place: tuple[asyncio.AbstractEventLoop, str], flight: _TaskFlight[T], call: Callable[[], Awaitable[T]]
    ) -> T:
        flight.landed.handed_over = True
        try:
            answer = await call()
            flight.landed = Landed(answer)
        except BudgetExceededError:
            raise  # says nothing about those who wait: they may be other tenants
        except Exception as error:
            flight.landed = Landed(error=error)
            raise
        finally:
            if self._open.get(place) is flight:
                del self._open[place]
            flight.done.set()
        return answer


def _answer(landed: Landed[T]) -> T:
    if landed.error is not None:
        raise landed.error
    return landed.answer  # type: ignore[return-value]  # pyright: ignore[reportReturnType] # an answer may be None
