"""Keeps our own failures out of serving code: counted, logged once a place, re-raised only in strict mode."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_log = logging.getLogger("pennytrace")


class Failures:
    """How often instrumentation itself failed, by place. Safe to share between threads."""

    def __init__(self) -> None:
        self.strict = False
        self._by_place: dict[str, int] = {}
        self._lock = threading.Lock()

    def note(self, place: str, error: Exception) -> None:
        """Count one failure; the first of a place is logged with its traceback."""
        with self._lock:
            seen = self._by_place.get(place, 0)
            self._by_place[place] = seen + 1
        if not seen:
            _log.warning(
                "Instrumentation failed and serving went on; later failures here are only counted",
                extra={"place": place},
                exc_info=error,
            )

    def total(self) -> int:
        """All failures since the process began."""
        with self._lock:
            return sum(self._by_place.values())


failures = Failures()
"""The process's one count: decorators run before `configure` and must have somewhere to report."""


class Guard:
    """`with Guard("reading usage"):` lets no `Exception` of ours out. Holds no state: reuse it freely."""

    __slots__ = ("_place",)

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        if not isinstance(error, Exception):
            return False
        failures.note(self._place, error)
        return not failures.strict
