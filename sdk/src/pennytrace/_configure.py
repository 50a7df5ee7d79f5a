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
from pennytrace._exporter import exporter_factory, resolve_protocol
from pennytrace._gpu import GpuSampler, Nvml, find_nvml
from pennytrace._handle import Handle
from pennytrace._lifecycle import flush_in_forked_children, flush_on_sigterm
from pennytrace._pipeline import QueueLimits, SpanQueue

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger("pennytrace")

_BOUNDS: dict[str, tuple[float, float]] = {
    "queue_spans_max": (1, 1_000_000),
    "batch_spans_max": (1, 10_000),
    "export_interval_s": (0.01, 60),
    "export_timeout_s": (0.1, 60),
    "exit_timeout_s": (0, 30),
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
    application's own pipeline. gpu: False asks NVML nothing. queue_spans_max: spans held in memory; a fuller
    queue drops the newest and counts them. exit_timeout_s: the longest that exit and SIGTERM wait.

    Raises ConfigurationError for a setting out of bounds. Nothing raises afterwards.
    """
    limits = QueueLimits(queue_spans_max, batch_spans_max, export_interval_s, exit_timeout_s)
    _check_bounds(
        queue_spans_max=queue_spans_max,
        batch_spans_max=batch_spans_max,
        export_interval_s=export_interval_s,
        export_timeout_s=export_timeout_s,
        exit_timeout_s=exit_timeout_s,
    )
    identity = Identity(service, version, environment, instance, resource_attributes or {})
    factory = exporter_factory(resolve_protocol(protocol), endpoint_url, headers, export_timeout_s)
    exports = export and os.environ.get("OTEL_TRACES_EXPORTER") != "none"
    queue = SpanQueue(factory, limits) if exports else None
    return _replace_handle(_provider(tracer_provider, identity), queue, find_nvml() if gpu else None)


def _replace_handle(provider: trace.TracerProvider, queue: SpanQueue | None, nvml: Nvml | None) -> Handle:
    """Put it all in place of what an earlier `configure` left, whose spans are sent first."""
    global _handle  # noqa: PLW0603 # at most one SDK runs in a process, as at most one SIGTERM comes
    if _handle is not None:
        _handle.shutdown()
    if isinstance(provider, TracerProvider):
        if queue is not None:
            provider.add_span_processor(queue)
    else:
        _log.warning("The tracer provider is not OpenTelemetry SDK's; spans go where it sends them, and not from here")
        queue = None
    sampler = GpuSampler(nvml) if nvml is not None else None
    _runtime.install(_runtime.Runtime(provider.get_tracer(names.SCOPE), sampler))
    _handle = Handle(provider, queue)
    flush_on_sigterm(_stop)
    flush_in_forked_children(_handle, _stop)
    return _handle


def _stop() -> None:
    if _handle is not None:
        _handle.shutdown()


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
