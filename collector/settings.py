"""The collector's settings: what it accepts, and how its journal groups and bounds it."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (pydantic reads it)
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MIB = 1 << 20
# What a message may take while it is parsed and checked.
MESSAGE_BYTES_MAX = 256


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
    # What queues while the disk syncs goes together anyway; waiting on top of that only makes answers later.
    commit_delay_ms: int = Field(
        default=0,
        ge=0,
        le=5000,
        description="longest wait for company of the first body that goes into the journal together with others, "
        "in milliseconds",
    )
    # A sync of 8 MiB takes some 40 ms on a plain disk; longer ones would show in the time to the acknowledgement.
    commit_bytes_max: int = Field(
        default=8 * MIB,
        ge=1024,
        le=1024 * MIB,
        description="how much of several bodies goes into the journal at once, in bytes",
    )
    journal: Path | None = Field(
        default=None,
        description="folder of the journal, of this process alone; empty: 'journal' in the data directory",
    )
    journal_bytes_max: int = Field(
        default=4096 * MIB,
        ge=1024,
        le=1 << 50,
        description="what may wait in the journal for the store, in bytes; past it clients are asked to try again",
    )
    journal_free_bytes_min: int = Field(
        default=512 * MIB,
        ge=0,
        le=1 << 50,
        description="what stays free on the journal's disk, in bytes; past it clients are asked to try again",
    )
    # An insert costs some 40 ms whatever its size; past 32 MiB that is under 2 % and memory would grow for nothing.
    segment_bytes_max: int = Field(
        default=32 * MIB,
        ge=1024,
        le=1024 * MIB,
        description="largest segment of the journal, which is one insert, in bytes; one group of bodies always fits",
    )
    segment_seconds: float = Field(
        default=1.0, ge=0, le=600, description="how old a segment gets before it is stored, in seconds"
    )
    queue_bytes_max: int = Field(
        default=256 * MIB,
        ge=1024,
        le=64 * 1024 * MIB,
        description="what may wait for the journal, in bytes; past it clients are asked to try again",
    )
    reading_bytes_max: int = Field(
        default=256 * MIB,
        ge=1024,
        le=64 * 1024 * MIB,
        description="what requests over HTTP hold together while they are read, in bytes, and those over gRPC as much "
        "again; past it clients are asked to try again",
    )
    # Memory goes by messages and not by bytes. 8,192 spans, the largest batch that collectors send unless told
    # otherwise, have half a million with thirty attributes each.
    messages_max: int = Field(
        default=1_000_000,
        ge=1000,
        le=1_000_000_000,
        description="most messages in a request body; a span is one, each of its attributes two",
    )
    parsing_bytes_max: int = Field(
        default=512 * MIB,
        ge=1024,
        le=64 * 1024 * MIB,
        description="what requests hold together once they are unpacked and while they are parsed, in bytes; past it "
        "clients are asked to try again",
    )
    # gRPC's own default is 4 MiB. What a message holds is known only once it is whole, so each one that is being read
    # counts as this much: larger ones would leave room for few senders at a time.
    grpc_message_bytes_max: int = Field(
        default=16 * MIB, ge=1024, le=1024 * MIB, description="largest gRPC message after decompression, in bytes"
    )
    body_timeout_s: int = Field(
        default=30,
        ge=1,
        le=3600,
        description="time for a body to come, in seconds; a second more for every 64 KiB that came",
    )
    # What people and models say to each other has no place in a ledger unless somebody asks for it.
    keep_message_content: bool = Field(
        default=False,
        description="whether prompts, completions, tool arguments and results and retrieved documents are stored",
    )
    keep_error_messages: bool = Field(
        default=False,
        description="whether the texts of errors, which may quote such content, are stored as they came; "
        "true wherever keep_message_content is",
    )
    drop_attributes: tuple[str, ...] = Field(
        default=(),
        max_length=1000,
        description="further attributes not to store, by key, or by the beginning of the key where it ends in *",
    )
    keep_logs: bool = Field(default=False, description="whether log records are stored")
    retry_after_s: int = Field(default=1, ge=1, le=3, description="when clients are asked to try again, in seconds")

    @model_validator(mode="after")
    def _require_room_for_one_body(self) -> Self:
        if self.queue_bytes_max < self.decompressed_bytes_max:
            raise ValueError(
                f"expected queue_bytes_max of at least decompressed_bytes_max ({self.decompressed_bytes_max}), "
                f"got {self.queue_bytes_max}: a body that never fits would be sent again for ever"
            )
        if self.journal_bytes_max < self.decompressed_bytes_max:
            raise ValueError(
                f"expected journal_bytes_max of at least decompressed_bytes_max ({self.decompressed_bytes_max}), "
                f"got {self.journal_bytes_max}: the largest body would fit into nothing but an empty journal"
            )
        parsed = self.decompressed_bytes_max + self.messages_max * MESSAGE_BYTES_MAX
        if self.parsing_bytes_max < parsed:
            raise ValueError(
                f"expected parsing_bytes_max of at least {parsed}, decompressed_bytes_max and {MESSAGE_BYTES_MAX} for "
                f"each of messages_max, got {self.parsing_bytes_max}: "
                "a body that never fits would be sent again for ever"
            )
        largest = max(self.body_bytes_max, self.grpc_message_bytes_max)
        if self.reading_bytes_max < largest:
            raise ValueError(
                f"expected reading_bytes_max of at least body_bytes_max and grpc_message_bytes_max ({largest}), "
                f"got {self.reading_bytes_max}: a body that never fits would be sent again for ever"
            )
        return self
