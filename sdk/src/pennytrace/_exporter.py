"""The OTLP exporter that the settings ask for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from pennytrace._errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.trace.export import SpanExporter

Protocol = Literal["http/protobuf", "grpc"]

_DEFAULT_URL = {"http/protobuf": "http://127.0.0.1:4318", "grpc": "http://127.0.0.1:4317"}
_TRACES_PATH = "/v1/traces"


def resolve_protocol(given: str | None) -> Protocol:
    """Argument, then OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL, then http/protobuf."""
    env = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    match given or env or "http/protobuf":
        case "http/protobuf":
            return "http/protobuf"
        case "grpc":
            return "grpc"
        case other:
            raise ConfigurationError(f'expected protocol "http/protobuf" or "grpc", got {other!r}; use one of the two')


def exporter_factory(
    protocol: Protocol, url: str | None, headers: Mapping[str, str] | None, timeout_s: float | None
) -> Callable[[], SpanExporter]:
    """What makes the exporter, now and again after a fork. None leaves a setting to OTEL_EXPORTER_OTLP_*."""
    target = _target(protocol, url)
    sent = None if headers is None else {name.lower(): value for name, value in headers.items()}
    if protocol == "grpc":
        return lambda: _grpc(target, sent, timeout_s)
    return lambda: _http(target, sent, timeout_s)


def _target(protocol: Protocol, url: str | None) -> str | None:
    if url is None and not _named_in_environment():
        url = _DEFAULT_URL[protocol]
    if url is None:
        return None
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"expected endpoint_url to start with http:// or https://, got {url!r}; "
            f"for example {_DEFAULT_URL[protocol]!r}"
        )
    if protocol == "grpc" or url.endswith(_TRACES_PATH):
        return url
    return url.rstrip("/") + _TRACES_PATH


def _named_in_environment() -> bool:
    return bool(os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))


def _http(url: str | None, headers: dict[str, str] | None, timeout_s: float | None) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # gRPC users need no requests
        OTLPSpanExporter,
    )

    return OTLPSpanExporter(endpoint=url, headers=headers, timeout=timeout_s)


def _grpc(url: str | None, headers: dict[str, str] | None, timeout_s: float | None) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # HTTP users need no grpcio
        OTLPSpanExporter,
    )

    return OTLPSpanExporter(endpoint=url, headers=headers, timeout=timeout_s)
