"""For the tests of code that uses Pennytrace."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pennytrace._guard import failures

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["strict"]


@contextmanager
def strict() -> Generator[None]:
    """Within this block a failure inside instrumentation is raised instead of counted; use it in tests only."""
    before, failures.strict = failures.strict, True
    try:
        yield
    finally:
        failures.strict = before
