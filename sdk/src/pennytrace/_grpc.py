"""OTLP over gRPC: the same encoded requests, through grpcio, which is imported only here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pennytrace._errors import ConfigurationError
from pennytrace._exporter import LOOPBACK
from pennytrace._sending import Outcome, Verdict, rejected_spans

if TYPE_CHECKING:
    from pennytrace._sending import Target

METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
RETRYABLE_CODES: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
"""OTLP's own list: https://opentelemetry.io/docs/specs/otlp/#failures. RESOURCE_EXHAUSTED is only with a delay."""


class GrpcSender:
    """See `Sender`. The channel opens with the first request, so that a fork before it is harmless."""

    def __init__(self, target: Target) -> None:
        try:
            import grpc  # HTTP users need no grpcio
        except ImportError:
            raise ConfigurationError(
                'expected grpcio to be installed for protocol "grpc", got none; install grpcio or use "http/protobuf"'
            ) from None
        self._grpc: Any = grpc
        self._target = target
        self._metadata = tuple(target.headers.items())
        files = (target.ca_file, target.client_key_file, target.client_cert_file)
        self._certificates = [Path(name).read_bytes() if name else None for name in files]
        self._channel: Any = None
        self._export: Any = None

    def send(self, body: bytes, timeout_s: float) -> Outcome:
        """One attempt."""
        try:
            answer = self._method()(body, timeout=timeout_s, metadata=self._metadata)
        except self._grpc.RpcError as error:
            return self._outcome(error)
        return Outcome(Verdict.DELIVERED, rejected=rejected_spans(answer))

    def close(self) -> None:
        """Close the channel."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _method(self) -> Any:  # noqa: ANN401 # grpcio ships no types
        if self._channel is None:
            self._channel = self._open()
            self._export = self._channel.unary_unary(METHOD)
        return self._export

    def _open(self) -> Any:  # noqa: ANN401 # grpcio ships no types
        at = urlsplit(self._target.url)
        name = at.hostname or ""
        host = f"[{name}]:{at.port or 4317}" if ":" in name else f"{name}:{at.port or 4317}"
        told = self._target.compress
        compress = told if told is not None else not name.startswith(LOOPBACK)
        packing = self._grpc.Compression.Gzip if compress else self._grpc.Compression.NoCompression
        if at.scheme == "http":
            return self._grpc.insecure_channel(host, compression=packing)
        return self._grpc.secure_channel(
            host, self._grpc.ssl_channel_credentials(*self._certificates), compression=packing
        )

    def _outcome(self, error: Any) -> Outcome:  # noqa: ANN401 # grpcio ships no types
        code = error.code().name
        reason = f"{code}: {error.details()}"
        delay_s = _retry_delay_s(error.trailing_metadata())
        # Without a delay it is a message above the server's limit, which will be no smaller the next time.
        if code not in RETRYABLE_CODES or (code == "RESOURCE_EXHAUSTED" and delay_s is None):
            return Outcome(Verdict.REFUSED, reason)
        return Outcome(Verdict.LATER, reason, retry_after_s=delay_s, reached=code != "UNAVAILABLE")


def _retry_delay_s(metadata: Any) -> float | None:  # noqa: ANN401 # grpcio ships no types
    """`google.rpc.RetryInfo` in the status details, where the package that knows it is installed."""
    details = dict(metadata or ()).get("grpc-status-details-bin")
    if details is None:
        return None
    try:
        from google.rpc import error_details_pb2, status_pb2
    except ImportError:
        return None
    info = error_details_pb2.RetryInfo()
    for detail in status_pb2.Status.FromString(details).details:
        if detail.Unpack(info):
            return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None
