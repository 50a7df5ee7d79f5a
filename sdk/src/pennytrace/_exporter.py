"""Where and how to send, by argument and environment, and the sender that does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from opentelemetry.util.re import parse_env_headers

from pennytrace._errors import ConfigurationError
from pennytrace._sending import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pennytrace._sending import Sender

Protocol = Literal["http/protobuf", "grpc"]

_DEFAULT_URL: Final = {"http/protobuf": "http://127.0.0.1:4318", "grpc": "http://127.0.0.1:4317"}
_PATHS: Final = {"TRACES": "/v1/traces", "METRICS": "/v1/metrics"}
_TIMEOUT_S: Final = 10.0
_TIMEOUT_S_MIN: Final = 0.1
_TIMEOUT_S_MAX: Final = 60.0
_METRICS_INTERVAL_S: Final = 60.0
LOOPBACK: Final = ("localhost", "127.", "::1")
"""Hosts on this machine, to which bytes cost nothing: nothing is compressed for them."""


@dataclass(frozen=True, slots=True)
class MetricTarget:
    """What OpenTelemetry's metric exporter is made with; None leaves a setting to its environment variables."""

    protocol: Protocol
    url: str
    headers: Mapping[str, str] | None
    compress: bool | None
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Sending:
    """What makes a sender, now and again after a fork, and the seconds that one request may take."""

    make: Callable[[], Sender]
    timeout_s: float


def resolve_protocol(given: str | None) -> Protocol:
    """Argument, then OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL, then http/protobuf."""
    match given or _env("PROTOCOL") or "http/protobuf":
        case "http/protobuf":
            return "http/protobuf"
        case "grpc":
            return "grpc"
        case other:
            raise ConfigurationError(f'expected protocol "http/protobuf" or "grpc", got {other!r}; use one of the two')


def resolve_sending(
    protocol: Protocol, url: str | None, headers: Mapping[str, str] | None, timeout_s: float | None
) -> Sending:
    """Everything about the backend. None leaves a setting to OTEL_EXPORTER_OTLP_*."""
    target = _target(protocol, url, "TRACES")
    sent = parse_env_headers(_env("HEADERS") or "", liberal=True) if headers is None else headers
    told = {name.lower(): value for name, value in sent.items()}
    return Sending(_maker(protocol, target, told), _timeout_s(timeout_s))


def resolve_metrics(
    protocol: Protocol, url: str | None, headers: Mapping[str, str] | None, timeout_s: float
) -> MetricTarget:
    """Where metrics go: to the same backend, unless OTEL_EXPORTER_OTLP_METRICS_* say otherwise."""
    target = _target(protocol, url, "METRICS")
    told = None if headers is None else {name.lower(): value for name, value in headers.items()}
    is_near = (urlsplit(target).hostname or "").startswith(LOOPBACK)
    return MetricTarget(protocol, target, told, None if _env("COMPRESSION", "METRICS") else not is_near, timeout_s)


def metrics_interval_s(given: float | None) -> float:
    """Argument, then OTEL_METRIC_EXPORT_INTERVAL, which is in milliseconds."""
    told = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL")
    if given is not None or not told:
        return given or _METRICS_INTERVAL_S
    try:
        return float(told) / 1000
    except ValueError:
        raise ConfigurationError(
            f"expected OTEL_METRIC_EXPORT_INTERVAL in milliseconds, got {told!r}; set 60000"
        ) from None


def _maker(protocol: Protocol, url: str, headers: dict[str, str]) -> Callable[[], Sender]:
    packing = {"gzip": True, "none": False}.get(_env("COMPRESSION") or "")
    files = (_env("CERTIFICATE"), _env("CLIENT_CERTIFICATE"), _env("CLIENT_KEY"))
    target = Target(url, headers, packing, *files)
    if protocol == "grpc":
        from pennytrace._grpc import GrpcSender  # HTTP users need no grpcio

        return lambda: GrpcSender(target)
    from pennytrace._http import HttpSender  # and who only decorates needs neither

    return lambda: HttpSender(target)


def _target(protocol: Protocol, given: str | None, signal: str) -> str:
    whole = None if given else os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    url = given or whole or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or _DEFAULT_URL[protocol]
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"expected endpoint_url to start with http:// or https://, got {url!r}; "
            f"for example {_DEFAULT_URL[protocol]!r}"
        )
    _check_address(url)
    if whole or protocol == "grpc":
        return url
    return url.removesuffix(_PATHS["TRACES"]).rstrip("/") + _PATHS[signal]


def _check_address(url: str) -> None:
    try:
        at = urlsplit(url)
        known = at.hostname and at.port != 0  # reading the port raises ValueError for one out of range
    except ValueError:
        known = False
    if not known:
        raise ConfigurationError(
            f"expected endpoint_url with a host and a port from 1 to 65535, got {url!r}; "
            f"for example {_DEFAULT_URL['http/protobuf']!r}"
        )


def _timeout_s(given: float | None) -> float:
    """Argument, then OTEL_EXPORTER_OTLP_TIMEOUT, which is in milliseconds."""
    told = _env("TIMEOUT")
    if given is not None or not told:
        return _TIMEOUT_S if given is None else given
    try:
        seconds = float(told) / 1000
    except ValueError:
        seconds = 0.0
    if not _TIMEOUT_S_MIN <= seconds <= _TIMEOUT_S_MAX:
        raise ConfigurationError(
            f"expected OTEL_EXPORTER_OTLP_TIMEOUT in milliseconds from 100 to 60000, got {told!r}; set 10000"
        )
    return seconds


def _env(name: str, signal: str = "TRACES") -> str | None:
    """The variable for the signal, then the one for all signals."""
    return os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_{name}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}")
