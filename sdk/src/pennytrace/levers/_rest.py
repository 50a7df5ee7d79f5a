"""A shared store that failed is left alone a while, so that a dead one does not cost every call its timeout."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from pennytrace.levers._clock import Clock

T = TypeVar("T")

STORE_REST: Final = timedelta(seconds=5)
"""How long a store that failed is not asked again."""


class Rest:
    """What is known of one store's health. `clock` should never go back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: datetime | None = None

    @property
    def is_on(self) -> bool:
        """Whether the store failed a moment ago."""
        return self._until is not None and self._clock() < self._until

    def ask(self, question: Callable[[], T]) -> T:
        """What the store says; a failure passes, and the rest begins."""
        try:
            return question()
        except Exception:
            self._until = self._clock() + STORE_REST
            raise
