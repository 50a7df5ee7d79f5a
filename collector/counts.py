"""Counters that any thread adds to and that the server's metrics page reads."""

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


class Counts:
    """Named, labelled sums."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._sums: defaultdict[tuple[str, Labels], float] = defaultdict(float)

    def add(self, name: str, value: float = 1, **labels: str) -> None:
        """Add `value` to the sum of this name and these labels."""
        key = (name, tuple(sorted(labels.items())))
        with self._guard:
            self._sums[key] += value

    def snapshot(self) -> list[Count]:
        """All sums, ordered by name and labels."""
        with self._guard:
            sums = sorted(self._sums.items())
        return [Count(name, dict(labels), value) for (name, labels), value in sums]
