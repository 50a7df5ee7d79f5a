"""What the GPUs did during a call and since the last export of metrics: one background sampler for both.

Drivers answer with averages over up to a second, so a call much shorter than that gets its neighbourhood's
figure. What a device does not support is absent, never 0.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pennytrace import _names as names
from pennytrace._gpu_drivers import Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pennytrace._gpu_drivers import Device, Driver

SAMPLE_INTERVAL_S = 0.2
"""NVML refreshes utilisation no faster than every sixth of a second."""
HISTORY_SAMPLES = 3_000
"""Ten minutes at the interval above: a longer call is summed up from its last ten minutes."""
IDLE_INTERVAL_S = 1.0
"""Between calls only metrics want readings, and a mean over their interval needs no more of them."""


@dataclass(frozen=True, slots=True)
class GpuUse:
    """One device during one call: mean busy share 0..1, peak bytes, and mean watts (joules a second)."""

    device_id: str
    name: str
    utilization: float | None
    memory_bytes: int | None
    watts: float | None


class GpuSampler:
    """Samples every device on a background thread while calls are running, and sums up a call's stretch.

    With `for_metrics` it goes on between calls, seldomer, so that metrics see idle time, too.
    """

    def __init__(
        self, driver: Driver, clock_s: Callable[[], float] = time.monotonic, *, for_metrics: bool = False
    ) -> None:
        self._driver = driver
        self._clock_s = clock_s
        self._idle_s = IDLE_INTERVAL_S if for_metrics else None
        self._devices = driver.devices()
        self._shares = Shares()
        self._history = {device.id: deque[Sample](maxlen=HISTORY_SAMPLES) for device in self._devices}
        self._wake = threading.Event()
        self._pid = 0
        self._told_s = clock_s()
        self.sample_once()
        self._first = {device.id: history[0] for device, history in self._with_history()}

    def enter(self) -> tuple[float, float]:
        """A call begins: its mark, for `leave`."""
        if self._pid != os.getpid():
            self._start()
        now = self._clock_s()
        mark = self._shares.enter(now)
        self._wake.set()
        return now, mark

    def leave(self, mark: tuple[float, float]) -> tuple[float, list[GpuUse]]:
        """A call ends: its share of the seconds (GPU-seconds a device), and each device's use."""
        now = self._clock_s()
        started, share_then = mark
        gpu_seconds = self._shares.leave(now) - share_then
        uses = [use for device in self._devices if (use := self._use(device, started, now))]
        return gpu_seconds, uses

    def sample_once(self) -> None:
        """Read every device now."""
        for device in self._devices:
            self._history[device.id].append(self._driver.sample(device, self._clock_s()))

    def utilization_since_last(self) -> list[tuple[dict[str, str], float]]:
        """Each device's mean busy share since this was last asked, each reading for the time before it."""
        since_s, self._told_s = self._told_s, self._clock_s()
        means = [(device, mean_since(history, since_s)) for device, history in self._with_history()]
        return [(labels(device), mean) for device, mean in means if mean is not None]

    def memory_now(self) -> list[tuple[dict[str, str], int]]:
        """Bytes in use on each device."""
        read = [(device, history[-1].memory_bytes) for device, history in self._with_history()]
        return [(labels(device), used) for device, used in read if used is not None]

    def joules_so_far(self) -> list[tuple[dict[str, str], float]]:
        """What each device consumed since this process began to look: the driver's own count is older than it."""
        found: list[tuple[dict[str, str], float]] = []
        for device, history in self._with_history():
            first, last = self._first[device.id].energy_joules, history[-1].energy_joules
            if first is not None and last is not None:
                found.append((labels(device), last - first))
        return found

    def _with_history(self) -> Iterator[tuple[Device, tuple[Sample, ...]]]:
        for device in self._devices:
            yield device, tuple(self._history[device.id])

    def _use(self, device: Device, start_s: float, end_s: float) -> GpuUse | None:
        samples = stretch(tuple(self._history[device.id]), start_s, end_s)
        if not samples:
            return None
        busy = [s.utilization for s in samples if s.utilization is not None]
        memory = [s.memory_bytes for s in samples if s.memory_bytes is not None]
        return GpuUse(
            device.id, device.name, sum(busy) / len(busy) if busy else None, max(memory, default=None), watts(samples)
        )

    def _start(self) -> None:
        """Start the thread, also in a forked child, where the parent's thread does not run."""
        self._pid = os.getpid()
        self._wake = threading.Event()
        self._shares = Shares()
        if self._devices:
            threading.Thread(target=self._work, name="pennytrace-gpu", daemon=True).start()

    def _work(self) -> None:
        while self._wake.wait(self._idle_s) or self._idle_s is not None:
            self._wake.clear()
            if self._shares.running:  # asked after clearing, so that a call which begins meanwhile is not missed
                self._wake.set()
            self.sample_once()
            time.sleep(SAMPLE_INTERVAL_S)


class Shares:
    """Divides each second among the calls running in it: G(t) = ∫ dt / running; a call gets G(end) - G(start).

    So the GPU-seconds of concurrent calls add up to the seconds that passed, not to more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running = 0
        self._last_s = 0.0
        self._total = 0.0

    def enter(self, now_s: float) -> float:
        """One more call runs; G now."""
        with self._lock:
            self._advance(now_s)
            self.running += 1
            return self._total

    def leave(self, now_s: float) -> float:
        """One call fewer runs; G now."""
        with self._lock:
            self._advance(now_s)
            self.running -= 1
            return self._total

    def _advance(self, now_s: float) -> None:
        if self.running:
            self._total += max(0.0, now_s - self._last_s) / self.running
        self._last_s = now_s


def mean_since(samples: Sequence[Sample], since_s: float) -> float | None:
    """The busy share since then, each reading weighted by the time before it; None without a reading."""
    busy = seconds = 0.0
    for sample in samples:
        if sample.at_s > since_s and sample.utilization is not None:
            busy += sample.utilization * (sample.at_s - since_s)
            seconds += sample.at_s - since_s
            since_s = sample.at_s
    return busy / seconds if seconds else None


def labels(device: Device) -> dict[str, str]:
    """The attributes of a device's metrics."""
    return {names.HARDWARE_ID: device.id, names.HARDWARE_NAME: device.name, names.HARDWARE_TYPE: "gpu"}


def stretch(samples: Sequence[Sample], start_s: float, end_s: float) -> Sequence[Sample]:
    """The samples within a call, and those just before it: one alone has no energy, an old one says nothing."""
    times = [sample.at_s for sample in samples]
    return samples[bisect_left(times, start_s - 2 * SAMPLE_INTERVAL_S) : bisect_right(times, end_s)]


def watts(samples: Sequence[Sample]) -> float | None:
    """Mean power between the first and the last energy reading; None without two of them."""
    read = [(s.at_s, s.energy_joules) for s in samples if s.energy_joules is not None]
    if len(read) < 2 or read[-1][0] <= read[0][0]:  # a difference takes two readings
        return None
    return (read[-1][1] - read[0][1]) / (read[-1][0] - read[0][0])
