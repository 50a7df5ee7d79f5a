"""The time of day, a time that never goes back, and what stands in for both in tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

Clock = Callable[[], datetime]
"""Gives the time as an aware datetime."""
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def utc_now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def steady_now() -> datetime:
    """A time for ages within this machine, of no date: it goes on evenly when somebody sets the clock."""
    return _EPOCH + timedelta(seconds=time.monotonic())
