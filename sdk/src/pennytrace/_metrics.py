"""Metrics of model calls and GPUs: when they are opened, through whom they go, and when they end."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

from opentelemetry import metrics as otel_metrics
from opentelemetry.metrics import Observation

from pennytrace import _names as names
from pennytrace._guard import Guard
from pennytrace._measures import SECONDS_BOUNDS, TOKEN_BOUNDS, Measures, ModelCall, model_call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

    from pennytrace._exporter import MetricTarget
    from pennytrace._gpu import GpuSampler
    from pennytrace._pipeline import Counts

_counting = Guard("counting calls for metrics")
_opening = Guard("opening metrics")
_closing = Guard("closing metrics")

_LAST_MS_MIN = 10.0
"""The stock provider takes a shutdown without any time left for an error."""
_importing = threading.Lock()
"""A process that forks while another of its threads imports leaves its child half a module; so the fork waits."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release
    )


class Recorder(Protocol):
    """Where finished spans are counted."""

    def add(self, spans: Iterable[ReadableSpan]) -> None:
        """Count the model calls among them."""
        ...


class Metrics:
    """Counts what the span queue exports, and sends it at an interval, from the export thread and the reader's.

    The application's meter provider is used where there is one. Ours is made once a batch of spans was settled,
    so that serving code waits neither for its imports nor for its threads.
    """

    def __init__(
        self,
        target: MetricTarget,
        interval_s: float,
        resource: Callable[[], Resource],
        counts: Callable[[], Counts],
        gpu: GpuSampler | None,
    ) -> None:
        self._target = target
        self._interval_s = interval_s
        self._resource = resource
        self._counts = counts
        self._gpu = gpu
        self._closed = False
        self._is_told = True
        self.after_fork()

    def after_fork(self) -> None:
        """A child counts from nothing, through a provider of its own."""
        self._changing = threading.Lock()
        self._measures = Measures()
        self._recorder: Recorder | None = None
        self._is_open = False
        self._own: Any = None

    def count(self, spans: Sequence[ReadableSpan]) -> None:
        """Count a batch. Never raises."""
        with _counting:
            if self._recorder is None:
                theirs = application_meter()
                self._recorder = self._measures if theirs is None else StockRecorder(theirs)
            with self._measures.lock:
                self._recorder.add(spans)

    def open(self) -> None:
        """Begin to send, once. Never raises."""
        if self._is_open:
            return
        with self._changing:
            if self._is_open or self._closed:
                return
            self._is_open = True
            with _opening:
                self._observe(application_meter() or self._own_meter())

    def open_no_more(self) -> None:
        """A process that ends before it was opened does not import it any more."""
        self._closed = True

    def shutdown(self, timeout_s: float) -> None:
        """After `open_no_more`: send what was counted since the last time, and stop. Never raises."""
        if not self._changing.acquire(timeout=max(timeout_s, 0.0)):
            return
        self._changing.release()
        with _closing:
            if self._own is not None:
                self._own.shutdown(timeout_millis=max(timeout_s * 1000, _LAST_MS_MIN))
        self._is_told = False

    def _own_meter(self) -> Meter:
        with _importing:
            from pennytrace._metric_export import open_provider  # a fifth of a second of imports
        provider = open_provider(self._target, self._interval_s, self._resource(), self._measures)
        self._own = provider
        return provider.get_meter(names.SCOPE)

    def _observe(self, meter: Meter) -> None:
        processed, exported = self._while_open(self._processed), self._while_open(self._exported)
        meter.create_observable_counter(
            names.SPANS_PROCESSED, [processed], "{span}", "Spans whose processing has finished."
        )
        meter.create_observable_counter(names.SPANS_EXPORTED, [exported], "{span}", "Spans whose export has finished.")
        if self._gpu is not None:
            observe_gpus(meter, self._gpu, self._while_open)

    def _while_open(
        self, observe: Callable[[], Iterable[Observation]]
    ) -> Callable[[CallbackOptions], list[Observation]]:
        """A callback that tells nothing once this ended, or in a child that was forked since."""
        pid = os.getpid()
        return lambda _: list(observe()) if self._is_told and os.getpid() == pid else []

    def _processed(self) -> Iterable[Observation]:
        counts = self._counts()
        yield Observation(counts.spans - counts.dropped - counts.queued)
        if counts.dropped:
            yield Observation(counts.dropped, {names.ERROR_TYPE: "queue_full"})

    def _exported(self) -> Iterable[Observation]:
        counts = self._counts()
        yield Observation(counts.delivered)
        if counts.failed:
            yield Observation(counts.failed, {names.ERROR_TYPE: "rejected"})


class StockRecorder:
    """The application's own meter provider; its histograms take each call's values one by one."""

    def __init__(self, meter: Meter) -> None:
        def histogram(name: str, unit: str, bounds: Sequence[float]) -> Any:  # noqa: ANN401 # the API's or the SDK's
            return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=bounds)

        self._tokens = histogram(names.TOKEN_USAGE, "{token}", TOKEN_BOUNDS)
        self._durations = histogram(names.OPERATION_DURATION, "s", SECONDS_BOUNDS)
        self._inference = histogram(names.INFERENCE_DURATION, "s", SECONDS_BOUNDS)
        self._counters = {told: meter.create_counter(name, "{token}") for told, name in names.TOKEN_COUNTERS.items()}

    def add(self, spans: Iterable[ReadableSpan]) -> None:
        """Record the model calls among the spans."""
        for span in spans:
            call = model_call(span)
            if call is not None:
                self._record(call)

    def _record(self, call: ModelCall) -> None:
        labels = call.labels
        failed = {**labels, names.ERROR_TYPE: call.error} if call.error else labels
        self._durations.record(call.seconds, failed)
        if labels[names.OPERATION] in names.INFERENCE_OPERATIONS:
            self._inference.record(call.seconds, failed)
        for kind, name in (("input", names.INPUT_TOKENS), ("output", names.OUTPUT_TOKENS)):
            if name in call.attributes:
                self._tokens.record(call.attributes[name], {**labels, names.TOKEN_TYPE: kind})
        for name, counter in self._counters.items():
            if name in call.attributes:
                counter.add(call.attributes[name], {**labels, names.TOKEN_MODALITY: "unknown"})


def application_meter() -> Meter | None:
    """A meter of the application's own provider; None where it set none."""
    found: MeterProvider = otel_metrics.get_meter_provider()
    is_none = type(found).__name__ == "_ProxyMeterProvider"  # OpenTelemetry's stand-in, which has no public name
    return None if is_none else found.get_meter(names.SCOPE)


def observe_gpus(
    meter: Meter,
    gpu: GpuSampler,
    guarded: Callable[[Callable[[], Iterable[Observation]]], Callable[[CallbackOptions], list[Observation]]],
) -> None:
    """`hw.gpu.*` and `hw.energy`, as https://opentelemetry.io/docs/specs/semconv/hardware/gpu/ has them."""

    def utilization() -> Iterable[Observation]:
        return [Observation(value, labels) for labels, value in gpu.utilization_since_last()]

    def memory() -> Iterable[Observation]:
        return [Observation(value, labels) for labels, value in gpu.memory_now()]

    def energy() -> Iterable[Observation]:
        return [Observation(value, labels) for labels, value in gpu.joules_so_far()]

    meter.create_observable_gauge(
        names.HARDWARE_UTILIZATION, [guarded(utilization)], "1", "Share of time in which the GPU was busy."
    )
    meter.create_observable_up_down_counter(names.HARDWARE_MEMORY, [guarded(memory)], "By", "GPU memory in use.")
    meter.create_observable_counter(names.HARDWARE_ENERGY, [guarded(energy)], "J", "Energy that the GPU consumed.")
