"""GPU readings of well-known Prometheus exporters under OpenTelemetry's hw.* names, which the ledger reads.

The originals stay beside them. Sources of names and units: NVIDIA's dcgm-exporter, Triton, nvidia_gpu_exporter and
nvidia_gpu_prometheus_exporter; OpenTelemetry semantic conventions for hardware (hw.id, hw.gpu.*, hw.energy, hw.power).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE, Metric, NumberDataPoint

from collector.scraping.exposition import attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

UTILIZATION, MEMORY, POWER, ENERGY = "hw.gpu.utilization", "hw.gpu.memory.usage", "hw.power", "hw.energy"
UNITS = {UTILIZATION: "1", MEMORY: "By", POWER: "W", ENERGY: "J"}
MIB = 1 << 20
ID_LABELS = ("UUID", "uuid", "gpu_uuid")
NAME_LABELS = ("modelName", "name")
MIG_LABEL = "GPU_I_ID"


@dataclass(frozen=True, slots=True)
class Source:
    """A foreign metric and what it is: hw metric = value * times / over."""

    metric: str
    times: int = 1
    over: int = 1
    of_slices: bool = True
    """False when the reading of a MIG slice is really its whole device's."""


# In order of preference: the first that a device has counts. GPU_UTIL is what NVML and the SDK report, but a MIG
# slice has only the engine's activity.
SOURCES = {
    "DCGM_FI_DEV_GPU_UTIL": Source(UTILIZATION, over=100, of_slices=False),
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": Source(UTILIZATION),
    "DCGM_FI_DEV_FB_USED": Source(MEMORY, times=MIB),
    "DCGM_FI_DEV_POWER_USAGE": Source(POWER, of_slices=False),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": Source(ENERGY, over=1000, of_slices=False),
    "nv_gpu_utilization": Source(UTILIZATION),
    "nv_gpu_memory_used_bytes": Source(MEMORY),
    "nv_gpu_power_usage": Source(POWER),
    "nv_energy_consumption": Source(ENERGY),
    "nvidia_smi_utilization_gpu_ratio": Source(UTILIZATION),
    "nvidia_smi_memory_used_bytes": Source(MEMORY),
    "nvidia_smi_power_draw_watts": Source(POWER),
    "nvidia_gpu_duty_cycle": Source(UTILIZATION, over=100),
    "nvidia_gpu_memory_used_bytes": Source(MEMORY),
    "nvidia_gpu_power_usage_milliwatts": Source(POWER, over=1000),
}


def gpu_metrics(metrics: Sequence[Metric]) -> list[Metric]:
    """The hw.* metrics that `metrics` tell of, one point a device or MIG slice."""
    by_name = {metric.name: metric for metric in metrics}
    found: dict[str, dict[str, NumberDataPoint]] = {}
    for name, source in SOURCES.items():
        for device, point in _readings(by_name.get(name), source):
            found.setdefault(source.metric, {}).setdefault(device, point)
    return [_metric(name, found[name].values()) for name in UNITS if name in found]


def _readings(metric: Metric | None, source: Source) -> Iterator[tuple[str, NumberDataPoint]]:
    if metric is None:
        return
    points = metric.sum.data_points if metric.HasField("sum") else metric.gauge.data_points
    for point in points:
        labels = {each.key: each.value.string_value for each in point.attributes}
        device, part = _first(labels, ID_LABELS), labels.get(MIG_LABEL, "")
        if not device or not math.isfinite(point.as_double):
            continue
        if part and source.metric == UTILIZATION and not source.of_slices:
            continue  # reported as 0 or the whole device's: not the slice's
        part = part if source.of_slices else ""
        reading = NumberDataPoint(
            as_double=point.as_double * source.times / source.over,
            time_unix_nano=point.time_unix_nano,
            start_time_unix_nano=point.start_time_unix_nano,
            attributes=attributes(_identity(device, part, _first(labels, NAME_LABELS))),
        )
        yield f"{device}/{part}", reading


def _identity(device: str, part: str, name: str) -> dict[str, str]:
    of_part = {"hw.id": f"{device}/{part}", "hw.parent": device} if part else {"hw.id": device}
    return {**of_part, "hw.name": name, "hw.type": "gpu"}


def _first(labels: Mapping[str, str], names: Iterable[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def _metric(name: str, points: Iterable[NumberDataPoint]) -> Metric:
    metric = Metric(name=name, unit=UNITS[name])
    if name in {MEMORY, ENERGY}:
        metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_CUMULATIVE
        metric.sum.is_monotonic = name == ENERGY
        metric.sum.data_points.extend(points)
    else:
        metric.gauge.data_points.extend(points)
    return metric
