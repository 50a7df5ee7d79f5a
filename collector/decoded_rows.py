"""What metric points and log records have in common: they are decoded here, and stored as frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from collector import attributes
from collector.framing import service_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

TIME = pl.Datetime("ns", "UTC")
Schema = dict[str, pl.DataType | type[pl.DataType]]


@dataclass(frozen=True, slots=True)
class DecodedBody:
    """The rows of one request; the rest of it was rejected (reason -> items)."""

    rows: tuple[dict[str, object], ...]
    size_bytes: int
    rejected: Mapping[str, int] = field(default_factory=dict[str, int])
    content_dropped: int = 0
    """Texts that went because message content is not kept."""

    @property
    def items(self) -> int:
        """How many data points or log records it has."""
        return len(self.rows)


def frame(bodies: Sequence[DecodedBody], schema: Schema) -> pl.DataFrame:
    """The rows of several bodies as one frame; what a row does not have is null."""
    rows = [row for body in bodies for row in body.rows]
    return pl.DataFrame([pl.Series(name, [row.get(name) for row in rows], dtype) for name, dtype in schema.items()])


def resource_columns(resource: Resource, tenant: str) -> dict[str, object]:
    """The columns that say who sent a row: service, resource and tenant."""
    return {
        "service": service_name(resource),
        "resource": attributes.as_json(resource.attributes).decode(),
        "tenant": tenant,
    }
