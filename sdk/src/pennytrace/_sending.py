"""What a sender is, whichever protocol it speaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class Verdict(Enum):
    """What became of a request: taken, refused for good, or to be sent again."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict with its reason. `rejected`: spans that a server which took the request left out.

    `retry_after_s`: how long the server asked to be left alone. `reached`: whether the request came to a server.
    """

    verdict: Verdict
    reason: str = ""
    rejected: int = 0
    retry_after_s: float | None = None
    reached: bool = True


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go; https means TLS. `compress` None: everywhere but on this machine, where bytes cost nothing."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    compress: bool | None = None
    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None


class Sender(Protocol):
    """Sends encoded requests from one thread. Never raises for what a backend does."""

    def send(self, body: bytes, timeout_s: float) -> Outcome:
        """Send one `ExportTraceServiceRequest`; one attempt."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def rejected_spans(answer: bytes) -> int:
    """`partial_success.rejected_spans` of an `ExportTraceServiceResponse`; 0 where it has none or is something else."""
    try:
        partial = _fields(answer).get(1, b"")
        rejected = _fields(partial).get(1, 0) if isinstance(partial, bytes) else 0
    except ValueError:
        return 0
    return rejected if isinstance(rejected, int) and rejected < 1 << 63 else 0


def _fields(message: bytes) -> dict[int, int | bytes]:
    """A protobuf message's fields by number, the last of each; raises ValueError for what is none."""
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                found[tag >> 3], at = _varint(message, at)
            case 2:
                size, at = _varint(message, at)
                found[tag >> 3] = message[at : at + size]
                at += size
            case 1 | 5 as fixed:
                at += 8 if fixed == 1 else 4
            case other:
                raise ValueError(f"expected a protobuf wire type of 0, 1, 2 or 5, got {other}; it is another format")
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where the next thing begins."""
    number = 0
    for index, byte in enumerate(message[at : at + 10]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, at + index + 1
    raise ValueError("expected a protobuf number, got the end of the message; it is cut off, or another format")
