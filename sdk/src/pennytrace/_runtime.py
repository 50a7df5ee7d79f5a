"""What `configure` put in place, found by decorators that ran long before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry import trace

from pennytrace import _names as names
from pennytrace._source import SpanSource

if TYPE_CHECKING:
    from pennytrace._gpu import GpuSampler


@dataclass(frozen=True, slots=True)
class Runtime:
    """What starts our spans, and the GPU sampler where there is one."""

    source: SpanSource
    gpu: GpuSampler | None = None


configured: Runtime | None = None
"""What `installed` gives, where it is there: asked for directly by what runs for every call."""
_over_global: tuple[trace.TracerProvider, Runtime] | None = None


def install(runtime: Runtime | None) -> None:
    """Make this the process's runtime; None goes back to the global tracer provider."""
    global configured  # noqa: PLW0603 # a decorator at import time can only find configure's result here
    configured = runtime


def installed() -> Runtime:
    """The configured runtime, or one over the global tracer provider, which may be a no-op."""
    if configured is not None:
        return configured
    global _over_global  # noqa: PLW0603 # as global as the provider that it is for
    provider = trace.get_tracer_provider()
    if _over_global is None or _over_global[0] is not provider:
        _over_global = provider, Runtime(SpanSource(provider, provider.get_tracer(names.SCOPE), None))
    return _over_global[1]
