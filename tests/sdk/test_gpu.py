"""The sampler against a fake driver: NVML is somebody else's, and this needs no GPU."""

# ruff: noqa: N802, ARG002 # the fake driver has the driver's own names and parameters

import sys
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pennytrace
from pennytrace import observe
from pennytrace._gpu import GpuSampler, Shares, mean_since, stretch, watts
from pennytrace._gpu_drivers import AmdSmi, Nvml, Sample, find_driver


class FakeDriver:
    """The questions of `pynvml` that we ask: two devices, the second of which knows no energy."""

    class NVMLError(Exception):
        pass

    def __init__(self):
        self.busy = 50
        self.joules = 1000.0

    def nvmlInit(self):
        pass

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-{handle}aaa"

    def nvmlDeviceGetMigMode(self, handle):
        raise self.NVMLError("Not Supported")

    def nvmlDeviceGetName(self, handle):
        return "NVIDIA H200"

    def nvmlDeviceGetUtilizationRates(self, handle):
        return SimpleNamespace(gpu=self.busy, memory=0)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(used=2**30 * (handle + 1))

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if handle == 1:
            raise self.NVMLError("Not Supported")
        return self.joules * 1000


class CountingDriver(FakeDriver):
    """Counts how often it is read."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def nvmlDeviceGetMemoryInfo(self, handle):
        self.asked += 1
        return super().nvmlDeviceGetMemoryInfo(handle)


class MigDriver(FakeDriver):
    """The first GPU is cut in two of at most three parts, of which NVML knows the memory only; the second is whole."""

    def nvmlDeviceGetMigMode(self, handle):
        return (1, 1) if handle == 0 else (0, 0)

    def nvmlDeviceGetMaxMigDeviceCount(self, handle):
        return 3

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle, index):
        if index == 1:
            raise self.NVMLError("Not Found")
        return 10 + index

    def nvmlDeviceGetUUID(self, handle):
        return f"MIG-{handle}bbb" if handle >= 10 else super().nvmlDeviceGetUUID(handle)

    def nvmlDeviceGetUtilizationRates(self, handle):
        if handle >= 10:
            raise self.NVMLError("Not Supported")
        return super().nvmlDeviceGetUtilizationRates(handle)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if handle >= 10:
            raise self.NVMLError("Not Supported")
        return super().nvmlDeviceGetTotalEnergyConsumption(handle)


class FakeAmdSmi:
    """The questions of `amdsmi` that we ask: two devices, the second a guest that is told nothing."""

    class AmdSmiException(Exception):  # noqa: N818 # amdsmi's name
        pass

    def __init__(self):
        self.energy = {"energy_accumulator": 2_000_000, "counter_resolution": 15.3, "timestamp": 1}

    def amdsmi_init(self):
        pass

    def amdsmi_get_processor_handles(self):
        return [0, 1]

    def amdsmi_get_gpu_device_uuid(self, handle):
        return f"GPU-amd{handle}"

    def amdsmi_get_gpu_asic_info(self, handle):
        return {"market_name": "AMD Instinct MI300X"}

    def amdsmi_get_gpu_activity(self, handle):
        return {"gfx_activity": 40 if handle == 0 else "N/A"}

    def amdsmi_get_gpu_vram_usage(self, handle):
        if handle == 1:
            raise self.AmdSmiException("not supported")
        return {"vram_total": 196_592, "vram_used": 285}

    def amdsmi_get_energy_count(self, handle):
        return self.energy if handle == 0 else {"energy_accumulator": "N/A", "counter_resolution": "N/A"}


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def sampler(monkeypatch):
    """A sampler on the test's clock; what its own thread reads meanwhile is read at that clock's time, too."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver, clock = FakeDriver(), Clock()
    sampler = GpuSampler(Nvml(driver), clock)
    sampler.driver, sampler.clock = driver, clock

    def pass_time(seconds, watts_drawn=0.0):
        for _ in range(round(seconds / 0.1)):
            clock.now_s += 0.1
            driver.joules += 0.1 * watts_drawn
            sampler.sample_once()

    sampler.pass_time = pass_time
    return sampler


def test_a_call_gets_mean_utilisation_peak_memory_and_power_of_each_device(sampler):
    mark = sampler.enter()
    sampler.pass_time(1.0, watts_drawn=300)
    gpu_seconds, (first, second) = sampler.leave(mark)
    assert gpu_seconds == pytest.approx(1.0)
    assert (first.device_id, first.name) == ("GPU-0aaa", "NVIDIA H200")
    assert first.utilization == pytest.approx(0.5)
    assert (first.memory_bytes, second.memory_bytes) == (2**30, 2**31)
    assert first.watts == pytest.approx(300)
    assert second.watts is None


def test_concurrent_calls_share_the_seconds_that_passed(sampler):
    one = sampler.enter()
    sampler.pass_time(1.0)
    two = sampler.enter()
    sampler.pass_time(2.0)
    assert sampler.leave(one)[0] == pytest.approx(2.0)
    sampler.pass_time(1.0)
    assert sampler.leave(two)[0] == pytest.approx(2.0)


def test_only_devices_that_are_visible_to_the_process_are_sampled(monkeypatch):
    for visible, expected in [("1", ["GPU-1aaa"]), ("GPU-0a", ["GPU-0aaa"]), ("", []), ("-1", []), (None, None)]:
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        found = [device.id for device in Nvml(FakeDriver()).devices()]
        assert found == (expected if expected is not None else ["GPU-0aaa", "GPU-1aaa"])


def test_a_mig_device_stands_for_itself_and_what_nvml_does_not_tell_of_it_is_unknown_not_zero(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml = Nvml(MigDriver())
    part, other, whole = nvml.devices()
    assert [part.id, other.id, whole.id] == ["MIG-10bbb", "MIG-12bbb", "GPU-1aaa"]
    assert nvml.sample(part, 1.0) == Sample(1.0, None, 2**30 * 11, None)
    assert nvml.sample(whole, 1.0) == Sample(1.0, 0.5, 2**31, None)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("MIG-12", ["MIG-12bbb"]), ("0", ["MIG-10bbb", "MIG-12bbb"]), ("GPU-1", ["GPU-1aaa"]), ("MIG-x", [])],
)
def test_a_mig_device_is_visible_by_its_id_or_its_gpus(monkeypatch, visible, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [device.id for device in Nvml(MigDriver()).devices()] == expected


def test_an_amd_device_is_read_in_the_same_units_and_what_it_does_not_tell_is_unknown(monkeypatch):
    for variable in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    library = FakeAmdSmi()
    driver = AmdSmi(library)
    first, second = driver.devices()
    assert (first.id, first.name) == ("GPU-amd0", "AMD Instinct MI300X")
    assert driver.sample(first, 1.0) == Sample(1.0, 0.4, 285 * 2**20, pytest.approx(30.6))
    assert driver.sample(second, 1.0) == Sample(1.0)
    library.energy = {"power": 2_000_000, "counter_resolution": 15.3}
    assert driver.sample(first, 1.0).energy_joules == pytest.approx(30.6)
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "1")
    assert [device.id for device in driver.devices()] == ["GPU-amd1"]


def test_amd_is_asked_where_nvidia_has_no_device(monkeypatch):
    for variable in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setitem(sys.modules, "pynvml", FakeDriver())
    monkeypatch.setitem(sys.modules, "amdsmi", FakeAmdSmi())
    assert isinstance(find_driver(), AmdSmi)


def test_the_busy_share_since_the_last_export_weighs_each_reading_by_its_time():
    readings = [Sample(10.0, 1.0), Sample(11.0, 0.0), Sample(14.0, 1.0), Sample(15.0, None)]
    assert mean_since(readings, 10.0) == pytest.approx(0.75)
    assert mean_since(readings, 14.0) is None


def test_joules_count_from_the_first_look_and_memory_is_the_newest_reading(sampler):
    sampler.pass_time(1.0, watts_drawn=300)
    assert [(labels["hw.id"], joules) for labels, joules in sampler.joules_so_far()] == [
        ("GPU-0aaa", pytest.approx(300))
    ]
    assert [used for _, used in sampler.memory_now()] == [2**30, 2**31]
    assert [share for _, share in sampler.utilization_since_last()] == [pytest.approx(0.5)] * 2
    assert sampler.utilization_since_last() == []


def test_with_metrics_an_idle_gpu_is_read_too_and_without_them_nobody_asks_it(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("pennytrace._gpu.IDLE_INTERVAL_S", 0.05)
    monkeypatch.setattr("pennytrace._gpu.SAMPLE_INTERVAL_S", 0.05)
    for for_metrics in (True, False):
        driver = CountingDriver()
        idle = GpuSampler(Nvml(driver), for_metrics=for_metrics)
        idle.leave(idle.enter())
        time.sleep(0.3)
        before = driver.asked
        time.sleep(0.5)
        assert (driver.asked > before + 2) is for_metrics


def test_an_old_reading_says_nothing_about_a_call():
    samples = [Sample(10.0, 0.9), Sample(99.9, 0.1), Sample(100.5, 0.3), Sample(102.0, 0.9)]
    assert [s.at_s for s in stretch(samples, 100.0, 101.0)] == [99.9, 100.5]
    assert watts([Sample(1.0, energy_joules=5.0)]) is None


@given(st.lists(st.tuples(st.booleans(), st.floats(0.001, 10)), max_size=40))
def test_shares_of_concurrent_calls_add_up_to_the_busy_time(steps):
    shares, now, marks, total, busy = Shares(), 0.0, [], 0.0, 0.0
    for begins, wait in steps:
        if begins or not marks:
            marks.append(shares.enter(now))
        else:
            total += -marks.pop(0) + shares.leave(now)
        busy += wait if shares.running else 0.0
        now += wait
    total += sum(shares.leave(now) - mark for mark in marks)
    assert total == pytest.approx(busy)


@pytest.fixture
def gpu_spans(spans, provider, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", FakeDriver())
    with pennytrace.configure(tracer_provider=provider, export=False):
        yield spans


def test_the_outermost_call_has_one_gpu_span_a_device_without_what_is_unknown(gpu_spans):
    @observe(model="llama")
    def generate():
        time.sleep(0.5)

    @observe(endpoint="/generate")
    def handle():
        generate()

    handle()
    first, second = gpu_spans.of_kind("gpu")
    request = gpu_spans.named("/generate")
    assert first.parent.span_id == second.parent.span_id == request.context.span_id
    assert (first.start_time, first.end_time) == (pytest.approx(request.start_time, abs=5e6), request.end_time)
    assert first.attributes["hw.id"] == "GPU-0aaa"
    assert first.attributes["hw.name"] == "NVIDIA H200"
    assert first.attributes["pennytrace.gpu.utilization"] == pytest.approx(0.5)
    assert first.attributes["pennytrace.gpu.memory_bytes"] == 2**30
    assert first.attributes["pennytrace.gpu.seconds"] == pytest.approx(0.5, abs=0.2)
    assert first.attributes["pennytrace.gpu.energy_joules"] == 0.0
    assert "pennytrace.gpu.energy_joules" not in second.attributes


def test_no_driver_means_no_gpu_span_and_no_error(spans, provider):
    if find_driver() is not None:
        pytest.skip("needs a machine without an NVIDIA driver")
    with pennytrace.configure(tracer_provider=provider, export=False) as handle:
        before = handle.counts().errors
        observe(endpoint="/x")(lambda: None)()
        assert handle.counts().errors == before
    assert [s.name for s in spans.all()] == ["/x"]
