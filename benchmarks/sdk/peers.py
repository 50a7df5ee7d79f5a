"""Other SDKs, where they are installed, making the same span as ours."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TWELVE = {
    "pennytrace.span.kind": "request",
    "pennytrace.endpoint": "/chat",
    "pennytrace.tenant": "acme",
    "pennytrace.variant": "b",
    "pennytrace.model.version": "7",
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.response.id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWx",
    "gen_ai.usage.input_tokens": 1187,
    "gen_ai.usage.output_tokens": 342,
}


@dataclass(frozen=True)
class Subject:
    """One thing to measure: a call, how to deliver what it made, and how many spans a call makes."""

    call: Callable[[], object]
    flush: Callable[[], object] = lambda: None
    spans: int = 1
    enter: Callable[[], object] = lambda: None


def peers() -> dict[str, Subject]:
    """Other SDKs, where they are installed, by the decorator or context manager that they document."""
    found: dict[str, Subject] = {}
    for name, make in {"logfire": _logfire, "openlit": _openlit, "langfuse": _langfuse, "mlflow": _mlflow}.items():
        if find_spec(name) is not None:
            found[name] = make()
    if find_spec("traceloop") is not None:
        found["traceloop"] = _traceloop()
    return found


def _logfire() -> Subject:
    import logfire

    logfire.configure(send_to_logfire=False, console=False)

    def call() -> None:
        with logfire.span("/chat", **TWELVE):
            pass

    return Subject(call, logfire.force_flush)


def _openlit() -> Subject:
    import openlit
    from opentelemetry import trace

    openlit.init(otlp_endpoint=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"], disable_metrics=True)

    @openlit.trace
    def call() -> None:
        trace.get_current_span().set_attributes(TWELVE)

    return Subject(call, trace.get_tracer_provider().force_flush)  # type: ignore[attr-defined]


def _traceloop() -> Subject:
    from opentelemetry import trace
    from traceloop.sdk import Traceloop
    from traceloop.sdk.decorators import task

    Traceloop.init(app_name="bench", api_endpoint=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"])

    @task(name="/chat")
    def call() -> None:
        trace.get_current_span().set_attributes(TWELVE)

    return Subject(call, trace.get_tracer_provider().force_flush)  # type: ignore[attr-defined]


def _langfuse() -> Subject:
    from langfuse import Langfuse

    client = Langfuse(public_key="pk", secret_key="sk", host=os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"])

    def call() -> None:
        with client.start_as_current_generation(name="/chat", model="gpt-4o", metadata=TWELVE):
            pass

    return Subject(call, client.flush)


def _mlflow() -> Subject:
    import mlflow

    def call() -> None:
        with mlflow.start_span("/chat") as span:
            span.set_attributes(TWELVE)

    return Subject(call)
