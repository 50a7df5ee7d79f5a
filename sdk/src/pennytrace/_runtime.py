"""What `configure` put in place, found by decorators that ran long before it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry import trace

from pennytrace import _names as names

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from pennytrace._gpu import GpuSampler


@dataclass(frozen=True, slots=True)
class Runtime:
    """The tracer that makes our spans, and the GPU sampler where there is one."""

    tracer: Tracer
    gpu: GpuSampler | None = None


_installed: Runtime | None = None


def install(runtime: Runtime | None) -> None:
    """Make this the process's runtime; None goes back to the global tracer provider."""
    global _installed  # noqa: PLW0603 # a decorator at import time can only find configure's result here
    _installed = runtime


def installed() -> Runtime:
    """The configured runtime, or one over the global tracer provider, which may be a no-op."""
    return _installed or Runtime(trace.get_tracer(names.SCOPE))


def now_ns() -> int:
    """Span time: nanoseconds since 1970, UTC."""
    return time.time_ns()
