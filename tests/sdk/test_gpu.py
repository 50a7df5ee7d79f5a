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
from pennytrace._gpu import GpuSampler, Nvml, Sample, Shares, find_nvml, stretch, watts


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
    if find_nvml() is not None:
        pytest.skip("needs a machine without an NVIDIA driver")
    with pennytrace.configure(tracer_provider=provider, export=False) as handle:
        before = handle.counts().errors
        observe(endpoint="/x")(lambda: None)()
        assert handle.counts().errors == before
    assert [s.name for s in spans.all()] == ["/x"]
