"""The drivers that tell what GPUs do: NVIDIA's NVML and AMD's SMI. Neither is imported before it is asked for.

What a device does not support is None, never 0.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Neither library ships types.
# ruff: noqa: ANN401

_log = logging.getLogger("pennytrace")

_MIG_ENABLED: Final = 1
_MICROJOULES: Final = 1e6


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading: `at_s` monotonic seconds, busy share 0..1, bytes in use, joules since the driver loaded."""

    at_s: float
    utilization: float | None = None
    memory_bytes: int | None = None
    energy_joules: float | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or a part of one, that this process may use."""

    id: str
    name: str
    handle: Any


class Driver(Protocol):
    """Knows its devices, and reads one of them."""

    def devices(self) -> list[Device]:
        """The devices that the environment leaves to this process."""
        ...

    def sample(self, device: Device, at_s: float) -> Sample:
        """Read one device now."""
        ...


class Nvml:
    """NVIDIA. `library` is the `pynvml` module. Each MIG device stands for itself, and its GPU is not listed.

    https://docs.nvidia.com/deploy/nvml-api: no utilisation and no energy are told of a MIG device.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        library.nvmlInit()

    def devices(self) -> list[Device]:
        """The devices that CUDA_VISIBLE_DEVICES leaves to this process."""
        visible, library = os.environ.get("CUDA_VISIBLE_DEVICES"), self._library
        found: list[Device] = []
        for index in range(library.nvmlDeviceGetCount()):
            gpu = self._device(library.nvmlDeviceGetHandleByIndex(index))
            parts = list(self._mig_devices(gpu.handle)) if self._in_mig_mode(gpu.handle) else [gpu]
            whole = is_visible((str(index), gpu.id), visible)
            found.extend(part for part in parts if whole or is_visible((part.id,), visible))
        return found

    def sample(self, device: Device, at_s: float) -> Sample:
        """Read one device now."""
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

    def _device(self, handle: Any) -> Device:
        return Device(
            _text(self._library.nvmlDeviceGetUUID(handle)), _text(self._library.nvmlDeviceGetName(handle)), handle
        )

    def _in_mig_mode(self, gpu: Any) -> bool:
        mode = self._ask(lambda: self._library.nvmlDeviceGetMigMode(gpu)[0])
        return mode == _MIG_ENABLED

    def _mig_devices(self, gpu: Any) -> Iterator[Device]:
        for index in range(int(self._ask(lambda: self._library.nvmlDeviceGetMaxMigDeviceCount(gpu)) or 0)):
            try:
                yield self._device(self._library.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index))
            except self._library.NVMLError:  # a place for one that nobody made
                continue

    def _ask(self, question: Callable[[], float]) -> float | None:
        try:
            return question()
        except self._library.NVMLError:
            return None


class AmdSmi:
    """AMD. `library` is the `amdsmi` module that comes with ROCm; what it cannot tell is the text "N/A".

    https://rocm.docs.amd.com/projects/amdsmi/en/latest/reference/amdsmi-py-api.html
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        library.amdsmi_init()

    def devices(self) -> list[Device]:
        """The devices that ROCR_VISIBLE_DEVICES and HIP_VISIBLE_DEVICES leave to this process."""
        library = self._library
        found = [
            Device(
                str(library.amdsmi_get_gpu_device_uuid(handle)),
                str(library.amdsmi_get_gpu_asic_info(handle)["market_name"]),
                handle,
            )
            for handle in library.amdsmi_get_processor_handles()
        ]
        for variable in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):  # the second counts what the first left
            visible = os.environ.get(variable)
            found = [device for index, device in enumerate(found) if is_visible((str(index), device.id), visible)]
        return found

    def sample(self, device: Device, at_s: float) -> Sample:
        """Read one device now."""
        library, handle = self._library, device.handle
        percent = self._ask(lambda: library.amdsmi_get_gpu_activity(handle)["gfx_activity"])
        megabytes = self._ask(lambda: library.amdsmi_get_gpu_vram_usage(handle)["vram_used"])
        return Sample(
            at_s,
            None if percent is None else percent / 100,
            None if megabytes is None else int(megabytes) * 1024 * 1024,
            self._ask(lambda: _joules(library.amdsmi_get_energy_count(handle))),
        )

    def _ask(self, question: Callable[[], Any]) -> float | None:
        try:
            told = question()
        except (self._library.AmdSmiException, KeyError):
            return None
        return told if isinstance(told, int | float) else None


def find_driver() -> Driver | None:
    """The first driver that is installed and knows a device; otherwise None, without an error."""
    for module, make in (("pynvml", Nvml), ("amdsmi", AmdSmi)):
        try:
            driver: Driver = make(import_module(module))
            if driver.devices():
                return driver
        except ImportError:
            continue
        except Exception:  # noqa: BLE001 # each raises types of its own: no driver, no permission, another version
            _log.debug("A GPU driver does not answer; calls get no GPU spans from it", exc_info=True)
    return None


def is_visible(identities: tuple[str, ...], visible: str | None) -> bool:
    """Whether a device's index or id is in a list as CUDA_VISIBLE_DEVICES has it; ids may be cut short."""
    if visible is None:
        return True
    wanted = [part.strip() for part in visible.split(",") if part.strip()]
    return any(
        one == want or (want.startswith(("GPU-", "MIG-")) and one.startswith(want))
        for want in wanted
        for one in identities
    )


def _joules(told: Any) -> float | None:
    """A count of units of `counter_resolution` microjoules; the count was called `power` before ROCm 6.4."""
    count, resolution = told.get("energy_accumulator", told.get("power")), told.get("counter_resolution")
    if not isinstance(count, int | float) or not isinstance(resolution, int | float):
        return None
    return count * resolution / _MICROJOULES


def _text(told: Any) -> str:
    """Older bindings answer in bytes."""
    return told.decode() if isinstance(told, bytes) else str(told)
