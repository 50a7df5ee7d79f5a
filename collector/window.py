"""Which times are accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from collector.settings import CollectorSettings

NS_PER_S = 1_000_000_000
HOUR_NS = 3600 * NS_PER_S
DAY_NS = 24 * HOUR_NS


@dataclass(frozen=True)
class Window:
    """Accepted times in Unix nanoseconds, both ends included, around the time of receipt.

    Tables are partitioned by month, and one time far off would fail a whole insert: with the widest window
    that the settings allow an insert stays under the engine's limit of 100 partitions.
    """

    oldest_ns: int
    received_ns: int
    newest_ns: int

    @classmethod
    def around(cls, now: datetime, settings: CollectorSettings) -> Window:
        """The window of a request that is received now."""
        received_ns = int(now.timestamp() * 1_000_000) * 1000
        return cls(
            oldest_ns=max(1, received_ns - settings.accepted_past_days * DAY_NS),
            received_ns=received_ns,
            newest_ns=received_ns + settings.accepted_future_hours * HOUR_NS,
        )
