"""What the GPUs did during a call: one background sampler over NVML, read back as a mean per device.

NVML answers with averages over up to a second, so a call much shorter than that gets its neighbourhood's
figure. What a device does not support is absent, never 0.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger("pennytrace")

SAMPLE_INTERVAL_S = 0.2
"""NVML refreshes utilisation no faster than every sixth of a second."""
HISTORY_SAMPLES = 3_000
"""Ten minutes at the interval above: a longer call is summed up from its last ten minutes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading: `at_s` monotonic seconds, busy share 0..1, bytes in use, joules since the driver loaded."""

    at_s: float
    utilization: float | None = None
    memory_bytes: int | None = None
    energy_joules: float | None = None


@dataclass(frozen=True, slots=True)
class GpuUse:
    """One device during one call: mean busy share 0..1, peak bytes, and mean watts (joules a second)."""

    device_id: str
    name: str
    utilization: float | None
    memory_bytes: int | None
    watts: float | None


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU that this process may use."""

    id: str
    name: str
    handle: Any


class Nvml:
    """The few NVML questions that we ask. `library` is the `pynvml` module."""

    def __init__(self, library: Any) -> None:  # noqa: ANN401 # nvidia-ml-py ships no types
        self._library = library
        library.nvmlInit()

    def devices(self) -> list[Device]:
        """The devices that CUDA_VISIBLE_DEVICES leaves to this process."""
        found: list[Device] = []
        for index in range(self._library.nvmlDeviceGetCount()):
            handle = self._library.nvmlDeviceGetHandleByIndex(index)
            device_id = str(self._library.nvmlDeviceGetUUID(handle))
            if _visible(index, device_id, os.environ.get("CUDA_VISIBLE_DEVICES")):
                found.append(Device(device_id, str(self._library.nvmlDeviceGetName(handle)), handle))
        return found

    def sample(self, device: Device, at_s: float) -> Sample:
        """Read one device now; what it does not support is None."""
        library, handle = self._library, device.handle
        utilization = self._ask(lambda: library.nvmlDeviceGetUtilizationRates(handle).gpu)
        memory = self._ask(lambda: library.nvmlDeviceGetMemoryInfo(handle).used)
        millijoules = self._ask(lambda: library.nvmlDeviceGetTotalEnergyConsumption(handle))
        return Sample(
            at_s,
            None if utilization is None else utilization / 100,
            None if memory is None else int(memory),
            None if millijoules is None else millijoules / 1000,
        )

    def _ask(self, question: Callable[[], float]) -> float | None:
        try:
            return question()
        except self._library.NVMLError:
            return None


def find_nvml() -> Nvml | None:
    """NVML where nvidia-ml-py is installed and a driver answers; otherwise None, without an error."""
    try:
        return Nvml(import_module("pynvml"))
    except ImportError:
        return None
    except Exception:  # noqa: BLE001 # pynvml raises its own types: no driver, no permission, a version mismatch
        _log.debug("NVML does not answer; calls get no GPU spans", exc_info=True)
        return None


class GpuSampler:
    """Samples every device on a background thread while calls are running, and sums up a call's stretch."""

    def __init__(self, nvml: Nvml, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._nvml = nvml
        self._clock_s = clock_s
        self._devices = nvml.devices()
        self._shares = Shares()
        self._history = {device.id: deque[Sample](maxlen=HISTORY_SAMPLES) for device in self._devices}
        self._wake = threading.Event()
        self._pid = 0
        self.sample_once()

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
            self._history[device.id].append(self._nvml.sample(device, self._clock_s()))

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
        while self._wake.wait():
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


def _visible(index: int, device_id: str, visible: str | None) -> bool:
    if visible is None:
        return True
    wanted = [part.strip() for part in visible.split(",") if part.strip()]
    return any(str(index) == want or (want.startswith("GPU-") and device_id.startswith(want)) for want in wanted)
