"""Keeps our own failures out of serving code: counted, logged once a place, re-raised only in strict mode."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from pennytrace._errors import PennytraceError

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
        """Count one failure; the first of a place is logged with its type and frames, but not with its text."""
        with self._lock:
            seen = self._by_place.get(place, 0)
            self._by_place[place] = seen + 1
        if not seen:
            _log.warning(
                "Instrumentation failed and serving went on; later failures here are only counted",
                extra={"place": place},
                exc_info=_without_text(error),
            )

    def after_fork(self) -> None:
        """A thread that held the lock at a fork does not run in the child."""
        self._lock = threading.Lock()

    def total(self) -> int:
        """All failures since the process began."""
        with self._lock:
            return sum(self._by_place.values())


def _without_text(error: Exception) -> Exception:
    """The text may quote a prompt, as that of `int("…")` does."""
    kind = type(error)
    return PennytraceError(f"{kind.__module__}.{kind.__qualname__}, whose text is not logged").with_traceback(
        error.__traceback__
    )


failures = Failures()
"""The process's one count: decorators run before `configure` and must have somewhere to report."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=failures.after_fork)


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

    def caught(self, error: Exception) -> None:
        """For an `except Exception` where the `with` would cost too much; raises it again in strict mode."""
        failures.note(self._place, error)
        if failures.strict:
            raise error
