"""What instrumentation costs, as JSON: python benchmarks/sdk_overhead.py [--rounds 15].

Everything runs in one process, interleaved, against one sink process that decodes and counts every span: an empty
call, raw OpenTelemetry (`start_as_current_span`, 12 `set_attribute`), `@observe` with the same 12 attributes, and
those of openlit, traceloop, langfuse, logfire and mlflow that are installed. Only ratios within a run say anything.

caller_us      CPU of the calling thread for one call, median of rounds, while nothing is exported
caller_p99_us  wall-clock 99th percentile of the same calls
cpu_us         CPU of the whole process for one call, delivered over OTLP/HTTP
export_p99_us  99th percentile of a call while the exporter works, from when it was due, at 1,000 calls a second
`pennytrace_*` are variants: a user's own span processor beside ours; usage read off an OpenAI response; an error;
a call within a call (two spans); no metrics; a result that tells nothing.
gpu_sampler_core_share  CPU of one core that the GPU sampler takes over a driver that answers at once, eight devices
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from sdk.peers import TWELVE, Subject, peers
from sdk.sink import Sink

import pennytrace
from pennytrace._gpu import GpuSampler
from pennytrace._gpu_drivers import Device, Sample

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 300
WINDOWS = 3
WINDOW_CALLS = 250
QUEUE_MAX = 20_000
OPTIONS: dict[str, Any] = {
    "endpoint": "/chat",
    "tenant": "acme",
    "variant": "b",
    "model_version": "7",
    "operation": "chat",
    "provider": "openai",
    "model": "gpt-4o",
}


class ChatCompletion(SimpleNamespace):
    """Shaped like OpenAI's, and of its package by name, by which readers are chosen."""

    __module__ = "openai.types.chat.chat_completion"


RESPONSE = ChatCompletion(
    id="chatcmpl-AbCdEfGhIjKlMnOpQrStUvWx",
    object="chat.completion",
    model="gpt-4o-2024-08-06",
    usage=SimpleNamespace(prompt_tokens=1187, completion_tokens=342),
)


def raw(url: str, delay_s: float) -> Subject:
    """OpenTelemetry's SDK as its documentation sets it up, with a queue that holds a whole block."""
    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces")
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=QUEUE_MAX, schedule_delay_millis=delay_s * 1000)
    )
    tracer = provider.get_tracer("raw")
    items = list(TWELVE.items())

    def call() -> None:
        with tracer.start_as_current_span("/chat", kind=SpanKind.CLIENT) as span:
            for name, value in items:
                span.set_attribute(name, value)

    return Subject(call, provider.force_flush)


class Onlooker(SpanProcessor):
    """A user's own span processor, which looks at every span's attributes."""

    def on_end(self, span: ReadableSpan) -> None:
        """Read them."""
        len(span.attributes or {})


@pennytrace.observe(**OPTIONS)
def said() -> None:
    """Say what was used."""
    pennytrace.record_usage(
        input_tokens=1187, output_tokens=342, model="gpt-4o-2024-08-06", response_id=str(TWELVE["gen_ai.response.id"])
    )


@pennytrace.observe(**OPTIONS)
def answered() -> object:
    """Return a response, from which the usage is read."""
    return RESPONSE


@pennytrace.observe(endpoint="/agent", tenant="acme")
def nested() -> None:
    """A request that calls a model."""
    said()


@pennytrace.observe(**OPTIONS)
def _failing() -> None:
    raise TimeoutError


def failed() -> None:
    """End by an error."""
    try:
        _failing()
    except TimeoutError:
        return


class Untelling:
    """A result of a type that no provider has."""

    def __init__(self) -> None:
        self.answer = "There."


@pennytrace.observe(**OPTIONS)
def unknown() -> object:
    """Return what tells no usage."""
    return Untelling()


def ours(url: str, delay_s: float, *, processor: bool = False, metrics: bool = True) -> pennytrace.Handle:
    """Pennytrace over a provider of its own; at one time only one of them is the process's."""
    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}), shutdown_on_exit=False)
    if processor:
        provider.add_span_processor(Onlooker())
    return pennytrace.configure(
        tracer_provider=provider,
        endpoint_url=url,
        gpu=False,
        metrics=metrics,
        queue_spans_max=QUEUE_MAX,
        export_interval_s=delay_s,
        batch_spans_max=10_000 if delay_s > 1 else 512,
    )


class Ours:
    """The variants of Pennytrace, of which each needs its own `configure` before a block."""

    def __init__(self, url: str, delay_s: float) -> None:
        self._url = url
        self._delay_s = delay_s
        self._handle: pennytrace.Handle | None = None
        self._as: tuple[tuple[str, Any], ...] | None = None

    def subject(self, call: Callable[[], object], spans: int = 1, settings: dict[str, Any] | None = None) -> Subject:
        """One of them."""
        return Subject(call, self._flush, spans, lambda: self._become(settings or {}))

    def _become(self, settings: dict[str, Any]) -> None:
        if self._as != tuple(settings.items()):
            self._as = tuple(settings.items())
            self._handle = ours(self._url, self._delay_s, **settings)

    def _flush(self) -> None:
        assert self._handle is not None
        assert self._handle.flush(30)


def subjects(url: str, delay_s: float) -> dict[str, Subject]:
    """All that is measured. `delay_s`: how long spans wait before they are exported."""
    variants = Ours(url, delay_s)
    return {
        "empty": Subject(lambda: None),
        "raw": raw(url, delay_s),
        "pennytrace": variants.subject(said),
        "pennytrace_response": variants.subject(answered),
        "pennytrace_unknown": variants.subject(unknown),
        "pennytrace_no_metrics": variants.subject(said, settings={"metrics": False}),
        "pennytrace_nested": variants.subject(nested, 2),
        "pennytrace_error": variants.subject(failed),
        "pennytrace_processor": variants.subject(said, settings={"processor": True}),
    }


def measure_quiet(sink: Sink, rounds: int) -> dict[str, dict[str, float]]:
    """caller_us, caller_p99_us and cpu_us: nothing is exported within a block, all of it after."""
    found = {**subjects(sink.url, 60.0), **peers()}
    caller: dict[str, list[float]] = {name: [] for name in found}
    process: dict[str, list[float]] = {name: [] for name in found}
    singles: dict[str, list[int]] = {name: [] for name in found}
    for turn in range(rounds + 1):
        for name, subject in found.items():
            subject.enter()
            subject.flush()
            gc.collect()
            took_caller, took_process, took_single = block(subject)
            if turn:  # the first one warms up
                caller[name].append(took_caller)
                process[name].append(took_process)
                singles[name].extend(took_single)
    return {
        "caller_us": {name: statistics.median(values) for name, values in caller.items()},
        "caller_p99_us": {name: p99(values) for name, values in singles.items()},
        "cpu_us": {name: statistics.median(values) for name, values in process.items()},
    }


def block(subject: Subject) -> tuple[float, float, list[int]]:
    """µs of the calling thread and of the process for one call, and the nanoseconds of as many single calls."""
    call, clock = subject.call, time.perf_counter_ns
    process_then, thread_then = time.process_time_ns(), time.thread_time_ns()
    for _ in range(BLOCK):
        call()
    thread = time.thread_time_ns() - thread_then
    subject.flush()
    process = time.process_time_ns() - process_then
    singles = []
    for _ in range(BLOCK):
        then = clock()
        call()
        singles.append(clock() - then)
    subject.flush()
    return thread / BLOCK / 1e3, process / BLOCK / 1e3, singles


def measure_busy(sink: Sink, rounds: int) -> dict[str, dict[str, float]]:
    """export_p99_us: the median of the 99th percentiles of many windows, since a busy machine spoils some of them."""
    found = subjects(sink.url, 0.25)
    windows: dict[str, list[float]] = {name: [] for name in found}
    for turn in range(rounds + 1):
        for name, subject in found.items():
            subject.enter()
            subject.flush()
            latencies = on_schedule(subject.call, calls=WINDOWS * WINDOW_CALLS)
            if turn:
                starts = range(0, len(latencies), WINDOW_CALLS)
                windows[name].extend(p99(latencies[start : start + WINDOW_CALLS]) for start in starts)
            subject.flush()
    return {"export_p99_us": {name: statistics.median(values) for name, values in windows.items()}}


def on_schedule(call: Callable[[], object], calls: int) -> list[int]:
    """Nanoseconds from when each call was due to its return; between them the thread computes, as serving code does."""
    clock, taken = time.perf_counter_ns, []
    due = clock()
    for _ in range(calls):
        due += 1_000_000
        while clock() < due:
            pass
        call()
        taken.append(clock() - due)
        due = max(due, clock() - 1_000_000)
    return taken


def p99(nanoseconds: list[int]) -> float:
    """The 99th percentile in µs."""
    return sorted(nanoseconds)[int(len(nanoseconds) * 0.99)] / 1e3


def queued_span_bytes(sink: Sink) -> float:
    """Memory that a queued span holds."""
    with ours(sink.url, 60.0) as handle:
        for _ in range(100):
            said()
        handle.flush()
        gc.collect()
        tracemalloc.start()
        for count in range(5_000):
            with_own_values(count)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return held / 5_000


@pennytrace.observe(**OPTIONS)
def with_own_values(count: int) -> None:
    """Like `said`, but no value is shared with another call."""
    pennytrace.record_usage(
        input_tokens=1000 + count,
        output_tokens=20_000 + count,
        model="gpt-4o-2024-08-06",
        response_id=f"chatcmpl-{count:024}",
    )


class InstantDriver:
    """Eight devices that answer at once: what is left is the sampler's own cost."""

    def devices(self) -> list[Device]:
        """The eight."""
        return [Device(f"GPU-{number}", "fake", number) for number in range(8)]

    def sample(self, device: Device, at_s: float) -> Sample:
        """A reading."""
        return Sample(at_s, 0.5, device.handle, at_s * 300)


def gpu_sampler_core_share(seconds: float = 3.0) -> float:
    """CPU of the process over wall-clock time, while a call runs and nothing else does."""
    sampler = GpuSampler(InstantDriver(), for_metrics=True)
    mark = sampler.enter()
    then, wall_then = time.process_time(), time.perf_counter()
    time.sleep(seconds)
    share = (time.process_time() - then) / (time.perf_counter() - wall_then)
    sampler.leave(mark)
    return share


def import_s(modules: str) -> float:
    """Seconds that an import takes in a fresh process; the least of several."""
    code = f"import time; then = time.perf_counter(); import {modules}; print(time.perf_counter() - then)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    return min(float(run.stdout) for run in runs)


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--json", action="store_true", help="the only output there is")
    given = options.parse_args()
    sink = Sink()
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = sink.url
    try:
        figures: dict[str, Any] = {
            **measure_quiet(sink, given.rounds),
            **measure_busy(sink, max(2, given.rounds // 3)),
            "gpu_sampler_core_share": gpu_sampler_core_share(),
            "queued_span_bytes": queued_span_bytes(sink),
            "import_s": import_s("pennytrace"),
            "raw_import_s": import_s(
                "opentelemetry.sdk.trace.export, opentelemetry.exporter.otlp.proto.http.trace_exporter"
            ),
            "received": sink.seen(),
        }
    finally:
        sink.close()
    for key in ("caller_us", "cpu_us", "export_p99_us"):
        raw_us = figures[key]["raw"]
        figures[f"{key}_raw_over"] = {name: round(raw_us / us, 1) for name, us in figures[key].items() if us}
    print(json.dumps(figures, indent=2, default=float))


if __name__ == "__main__":
    main()
