"""The google.rpc.Status that OTLP wants with every refusal."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from collector.errors import CollectorError, UnavailableError

# gRPC trailers are a few kilobytes at most, and a client shows one line.
MESSAGE_CHARS_MAX = 1000


def retry_info(retry_after_s: int) -> RetryInfo:
    """When to try again."""
    info = RetryInfo()
    info.retry_delay.seconds = retry_after_s
    return info


def status(error: CollectorError, retry_after_s: int) -> Status:
    """The error as a google.rpc.Status; one that passes says when to try again."""
    message = Status(code=error.code, message=str(error)[:MESSAGE_CHARS_MAX])
    if isinstance(error, UnavailableError):
        detail = AnyMessage()
        detail.Pack(retry_info(retry_after_s))
        message.details.append(detail)
    return message
