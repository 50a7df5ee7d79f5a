"""The server's own Prometheus metrics, from the counts that its parts keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

Count = tuple[str, "Mapping[str, str]", float]


class CountsCollector:
    """Turns (name, labels, value) rows into metric families; a name ending in _total is a counter."""

    def __init__(self, read: Callable[[], Iterable[Count]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """One family per name."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, labels, value in self._read():
            if name not in families:
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                families[name] = kind(name, name.replace("_", " "), labels=list(labels))
            families[name].add_metric(list(labels.values()), value)
        yield from families.values()


def exposition(read: Callable[[], Iterable[Count]]) -> bytes:
    """The counts as Prometheus text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(CountsCollector(read))
    return generate_latest(registry)
