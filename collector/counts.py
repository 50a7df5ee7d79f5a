"""Counters and gauges that any thread adds to and that the server's metrics page reads."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import NamedTuple

Labels = tuple[tuple[str, str], ...]


class Count(NamedTuple):
    """One sample: a Prometheus metric name, its labels and its value."""

    name: str
    labels: dict[str, str]
    value: float


def items(what: str, signal: str, value: float, **labels: str) -> Count:
    """A change to how many spans, data points or log records of a signal were received, stored, ..."""
    return Count(f"pennytrace_{what}_items_total", {"signal": signal, **labels}, value)


def items_now(where: str, signal: str, value: float) -> Count:
    """A change to how many of them are in a place: `queue` or `journal`."""
    return Count(f"pennytrace_{where}_items", {"signal": signal}, value)


class Counts:
    """Named, labelled sums."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._sums: defaultdict[tuple[str, Labels], float] = defaultdict(float)

    def add(self, name: str, value: float = 1, **labels: str) -> None:
        """Add `value` to the sum of this name and these labels."""
        self.change(Count(name, labels, value))

    def change(self, *changes: Count) -> None:
        """Add several values at once: a snapshot has all of them or none."""
        keyed = [((name, tuple(sorted(labels.items()))), value) for name, labels, value in changes]
        with self._guard:
            for key, value in keyed:
                self._sums[key] += value

    def snapshot(self) -> list[Count]:
        """All sums, ordered by name and labels."""
        with self._guard:
            sums = sorted(self._sums.items())
        return [Count(name, dict(labels), value) for (name, labels), value in sums]
