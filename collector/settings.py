"""The collector's settings: what it accepts and how it groups its commits."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MIB = 1 << 20


class CollectorSettings(BaseModel):
    """Limits and delays of OTLP ingest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body_bytes_max: int = Field(
        default=64 * MIB, ge=1024, le=1024 * MIB, description="largest request body as it arrives, in bytes"
    )
    decompressed_bytes_max: int = Field(
        default=64 * MIB, ge=1024, le=1024 * MIB, description="largest request body after decompression, in bytes"
    )
    # Spans are partitioned by month and the engine takes at most 100 partitions an insert: 2,900 days are 97.
    accepted_past_days: int = Field(
        default=1826, ge=1, le=2900, description="how old a span or data point may be, in days"
    )
    accepted_future_hours: int = Field(
        default=24, ge=1, le=48, description="how far ahead of this machine's clock a time may be, in hours"
    )
    commit_delay_ms: int = Field(
        default=25,
        ge=0,
        le=5000,
        description="longest wait for company of the first body of a commit, in milliseconds",
    )
    metrics_commit_delay_ms: int = Field(
        default=200, ge=0, le=5000, description="the same for metrics, which come seldom and small, in milliseconds"
    )
    # An insert costs some 40 ms whatever its size; past 32 MiB that is under 2 % and memory would grow for nothing.
    commit_bytes_max: int = Field(
        default=32 * MIB, ge=1024, le=1024 * MIB, description="largest commit of several bodies, in bytes"
    )
    commit_items_max: int = Field(
        default=200_000, ge=1, le=10_000_000, description="largest commit of several bodies, in spans or data points"
    )
    queue_bytes_max: int = Field(
        default=256 * MIB,
        ge=1024,
        le=64 * 1024 * MIB,
        description="what may wait for its commit, in bytes; past it clients are asked to try again",
    )
    retry_after_s: int = Field(default=1, ge=1, le=3, description="when clients are asked to try again, in seconds")

    @model_validator(mode="after")
    def _require_room_for_one_body(self) -> Self:
        if self.queue_bytes_max < self.decompressed_bytes_max:
            raise ValueError(
                f"expected queue_bytes_max of at least decompressed_bytes_max ({self.decompressed_bytes_max}), "
                f"got {self.queue_bytes_max}: a body that never fits would be sent again for ever"
            )
        return self
