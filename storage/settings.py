"""How long what came is kept. What is derived from it (calls, costs, findings) is kept for ever."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class RetentionSettings(BaseModel):
    """Days that telemetry is kept; whole months are dropped once all of a month is older."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # As wide as the collector's window: what is accepted is then kept, and a year's back-fill can still be repriced.
    spans_days: int = Field(
        default=1826,
        ge=0,
        le=36_500,
        description="days that spans are kept at least, 0: for ever; older ones are refused, and the dollars of "
        "older hours stay as they are",
    )
    metric_points_days: int = Field(
        default=1826,
        ge=0,
        le=36_500,
        description="days that metric points are kept at least, 0: for ever; the ledger needs them beside the spans, "
        "so the lower of the two decides what is refused and which hours stay as they are",
    )
    logs_days: int = Field(
        default=365, ge=0, le=36_500, description="days that log records are kept at least, 0: for ever"
    )

    def accepted_past_days(self, wanted: int) -> int:
        """How old telemetry may be that is taken in: never older than what is kept, at most `wanted` days."""
        return min([wanted, *(days for days in (self.spans_days, self.metric_points_days) if days)])
