"""`configure`: where spans go, and who they are from."""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from pennytrace import _names as names
from pennytrace import _runtime
from pennytrace._errors import ConfigurationError
from pennytrace._exporter import metrics_interval_s as resolve_interval_s
from pennytrace._exporter import resolve_metrics, resolve_protocol, resolve_sending
from pennytrace._fingerprint_key import set_fingerprint_key
from pennytrace._gpu import GpuSampler
from pennytrace._gpu_drivers import find_driver
from pennytrace._handle import Handle
from pennytrace._lifecycle import flush_in_forked_children, flush_on_sigterm
from pennytrace._metrics import Metrics
from pennytrace._pipeline import QueueLimits, SpanQueue
from pennytrace._source import SpanSource

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger("pennytrace")

_BOUNDS: dict[str, tuple[float, float]] = {
    "queue_spans_max": (1, 1_000_000),
    "batch_spans_max": (1, 10_000),
    "export_interval_s": (0.01, 60),
    "export_timeout_s": (0.1, 60),
    "exit_timeout_s": (0, 30),
    "metrics_interval_s": (0.1, 600),
}

_handle: Handle | None = None
_own: OwnProvider | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the spans are from."""

    service: str | None
    version: str | None
    environment: str | None
    instance: str | None
    more: Mapping[str, str]

    def resource(self) -> Resource:
        """The OTLP resource. Argument, then OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, then the host's name.

        The instance is the host by default and not a random id, because what is paid for is the machine:
        four workers on it are one replica.
        """
        told = {
            "service.name": self.service,
            "service.version": self.version,
            "deployment.environment.name": self.environment,
            "service.instance.id": self.instance or _unless_in_environment("service.instance.id"),
            "host.name": _unless_in_environment("host.name"),
            **self.more,
        }
        return Resource.create({name: value for name, value in told.items() if value})


def configure(
    *,
    service: str | None = None,
    version: str | None = None,
    environment: str | None = None,
    endpoint_url: str | None = None,
    protocol: str | None = None,
    headers: Mapping[str, str] | None = None,
    instance: str | None = None,
    resource_attributes: Mapping[str, str] | None = None,
    tracer_provider: trace.TracerProvider | None = None,
    export: bool = True,
    gpu: bool = True,
    metrics: bool = True,
    metrics_interval_s: float | None = None,
    fingerprint_key: str | None = None,
    queue_spans_max: int = 20_000,
    batch_spans_max: int = 512,
    export_interval_s: float = 1.0,
    export_timeout_s: float | None = None,
    exit_timeout_s: float = 2.0,
) -> Handle:
    """Say where spans go; call it once, after the application's own OpenTelemetry set-up.

    The application's tracer provider is used if it has one (or is given as `tracer_provider`), with its own
    resource and sampler; otherwise one is made and set. What is left out comes from the OTEL_* environment,
    then from the defaults: http://127.0.0.1:4318 over http/protobuf (port 4317 for grpc).

    instance: the replica that is paid for (default: the host name). export: False leaves export to the
    application's own pipeline. gpu: False asks no GPU driver. metrics: False sends none; they count the spans that
    are exported, every `metrics_interval_s`, through the application's meter provider where it has one.
    fingerprint_key: the secret of `pennytrace.levers.record_fingerprint`. queue_spans_max: spans held in memory; a
    fuller queue drops the newest and counts them. exit_timeout_s: the longest that exit and SIGTERM wait.

    Raises ConfigurationError for a setting out of bounds. Nothing raises afterwards.
    """
    interval_s = resolve_interval_s(metrics_interval_s)
    _check_bounds(
        queue_spans_max=queue_spans_max,
        batch_spans_max=batch_spans_max,
        export_interval_s=export_interval_s,
        export_timeout_s=export_timeout_s,
        exit_timeout_s=exit_timeout_s,
        metrics_interval_s=interval_s,
    )
    identity = Identity(service, version, environment, instance, resource_attributes or {})
    chosen = resolve_protocol(protocol)
    sending = resolve_sending(chosen, endpoint_url, headers, export_timeout_s)
    target = resolve_metrics(chosen, endpoint_url, headers, sending.timeout_s)
    if fingerprint_key is not None:
        set_fingerprint_key(fingerprint_key)
    limits = QueueLimits(queue_spans_max, batch_spans_max, export_interval_s, exit_timeout_s, sending.timeout_s)
    exports = export and os.environ.get("OTEL_TRACES_EXPORTER") != "none"
    queue = SpanQueue(sending.make, limits) if exports else None
    measured = metrics and exports and os.environ.get("OTEL_METRICS_EXPORTER") != "none"
    sampler = _sampler(for_metrics=measured) if gpu else None
    provider = _provider(tracer_provider, identity)
    if measured and queue is not None and isinstance(provider, TracerProvider):
        queue.metrics = Metrics(target, interval_s, lambda: provider.resource, queue.counts, sampler)
    return _replace_handle(provider, queue, sampler)


def _replace_handle(provider: trace.TracerProvider, queue: SpanQueue | None, sampler: GpuSampler | None) -> Handle:
    """Put it all in place of what an earlier `configure` left, whose spans are sent first."""
    global _handle  # noqa: PLW0603 # at most one SDK runs in a process, as at most one SIGTERM comes
    if _handle is not None:
        _handle.shutdown()
        _handle.let_go()
    if isinstance(provider, TracerProvider):
        if queue is not None:
            provider.add_span_processor(queue)
    else:
        _log.warning("The tracer provider is not OpenTelemetry SDK's; spans go where it sends them, and not from here")
        queue = None
    _runtime.install(_runtime.Runtime(SpanSource(provider, provider.get_tracer(names.SCOPE), queue), sampler))
    _handle = Handle(provider, queue)
    flush_on_sigterm(_stop, _hurry)
    flush_in_forked_children(_handle, _stop)
    return _handle


def _sampler(*, for_metrics: bool) -> GpuSampler | None:
    driver = find_driver()
    return None if driver is None else GpuSampler(driver, for_metrics=for_metrics)


def _stop() -> None:
    if _handle is not None:
        _handle.shutdown()


def _hurry() -> None:
    if _handle is not None:
        _handle.hurry()


class OwnProvider:
    """The tracer provider that we made because the application had none; OpenTelemetry lets one be set only once."""

    def __init__(self, resource: Resource) -> None:
        self.provider = TracerProvider(resource=resource)
        self._resource = resource
        trace.set_tracer_provider(self.provider)
        if hasattr(os, "register_at_fork"):
            # OpenTelemetry gives a forked child a random instance id; a worker belongs to its parent's replica.
            os.register_at_fork(after_in_child=lambda: self.become(self._resource))

    def become(self, resource: Resource) -> None:
        """Send as `resource` from now on."""
        self._resource = resource
        self.provider._update_resource(resource)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] # no public way


def _provider(given: trace.TracerProvider | None, identity: Identity) -> trace.TracerProvider:
    """The one given, the application's, or our own, which becomes the global one."""
    global _own  # noqa: PLW0603 # as global as OpenTelemetry's own global provider
    existing = given or trace.get_tracer_provider()
    if _own is not None and existing is _own.provider:
        _own.become(identity.resource())
    elif isinstance(existing, trace.ProxyTracerProvider):
        _own = OwnProvider(identity.resource())
        return _own.provider
    return existing


def _unless_in_environment(name: str) -> str | None:
    told = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return None if f"{name}=" in told.replace(" ", "") else socket.gethostname()


def _check_bounds(**given: float | None) -> None:
    for name, value in given.items():
        low, high = _BOUNDS[name]
        if value is not None and not low <= value <= high:
            raise ConfigurationError(
                f"expected {name} from {low} to {high}, got {value!r}; give a value between the two"
            )
