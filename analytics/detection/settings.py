"""Settings of the detector, which the section [findings] has too."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

SCORE_BOUNDS = (-10.0, 20.0)
# No hour is looked at that comes less near to the rule than half.
MARGIN_BOUNDS = (0.5, 20.0)


class DetectionSettings(BaseModel):
    """When an endpoint's alarm rings, and for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    learned_enabled: bool = Field(
        default=True, description="whether learned weights judge what looks like their training; else the rule alone"
    )
    learned_score_min: float = Field(
        default=1.5,
        ge=SCORE_BOUNDS[0],
        le=SCORE_BOUNDS[1],
        description="log-odds of the learned weights that ring; higher rings less often",
    )
    rule_margin_min: float = Field(
        default=1.0,
        ge=MARGIN_BOUNDS[0],
        le=MARGIN_BOUNDS[1],
        description="times what the rule asks for that rings; higher rings less often",
    )
    hold_hours: int = Field(default=2, ge=1, le=48, description="hours in a row that an alarm must hold to ring")
    ring_hours_max: int = Field(default=24, ge=1, le=672, description="hours after which a ringing alarm is silent")
    rearm_hours: int = Field(
        default=24, ge=1, le=672, description="quiet hours after which the same endpoint may ring again"
    )
    price_rise_min: float = Field(
        default=0.03, gt=0, le=100, description="rise of cost by changed prices alone that rings, as a share"
    )
    min_impact_usd_per_day: Decimal = Field(
        default=Decimal(0), ge=0, description="dollars a day below which a rise does not ring"
    )
