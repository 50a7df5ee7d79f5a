"""What rows of log records and of metric points say of who sent them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector import attributes
from collector.framing import service_name

if TYPE_CHECKING:
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource


def resource_columns(resource: Resource, tenant: str) -> dict[str, object]:
    """The columns service, resource and tenant."""
    return {
        "service": service_name(resource),
        "resource": attributes.as_json(resource.attributes).decode(),
        "tenant": tenant,
    }
