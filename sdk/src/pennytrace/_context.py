"""OpenTelemetry's current context, without the layers in between where it is kept as it is by default."""
# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from opentelemetry import context as otel_context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType

    from opentelemetry.context import Context

_log = logging.getLogger("pennytrace")

SUPPRESS_KEY: Final = otel_context._SUPPRESS_INSTRUMENTATION_KEY  # noqa: SLF001 # no public name
_kept: Final = otel_context._RUNTIME_CONTEXT  # noqa: SLF001 # OTEL_PYTHON_CONTEXT may have put another in its place

get_current: Callable[[], Context] = otel_context.get_current
attach: Callable[[Context], Token[Context]] = otel_context.attach
reset: Callable[[Token[Context]], None] = otel_context.detach
if type(_kept) is ContextVarsRuntimeContext:
    get_current = _kept._current_context.get  # noqa: SLF001
    attach = _kept._current_context.set  # noqa: SLF001
    reset = _kept._current_context.reset  # noqa: SLF001


def detach(token: Token[Context]) -> None:
    """Go back to the context before `attach`. A generator that is closed from another context cannot, and need not."""
    try:
        reset(token)
    except ValueError:
        _log.debug("A context was left from another one than it was entered in")


def before(token: Token[Context], current: Context) -> Context | None:
    """What was current before `attach` gave the token, if that was in this context. What is `current` stays so."""
    try:
        reset(token)
    except (ValueError, RuntimeError):  # of another context; used before
        return None
    found = get_current()
    attach(current)
    return found


class Activation:
    """`with Activation(context):` around observed code, and only around it: never across a `yield`. None: nothing."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context | None) -> None:
        self._context = context
        self._token: Token[Context] | None = None

    def __enter__(self) -> None:
        if self._context is not None:
            self._token = attach(self._context)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._token is not None:
            detach(self._token)
