"""Settings of the detector, section [findings]."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from analytics.detection.settings import DetectionSettings

Share = Annotated[float, Field(ge=0, le=1)]


class FindingsSettings(DetectionSettings):
    """What counts as a finding, and for how long the past is looked at.

    What it inherits are the thresholds of the rule cost_drivers, which are those of `backtest`.
    """

    drivers_enabled: bool = Field(default=False, description="whether the rule cost_drivers, which is young, runs")
    look_back_weeks: int = Field(default=8, ge=1, le=52, description="weeks of closed hours that a run evaluates")
    settle_minutes: int = Field(
        default=5, ge=0, le=1440, description="minutes after its end until an hour counts as closed"
    )
    window_hours: int = Field(default=24, ge=6, le=168, description="hours of the trailing window that rules compare")
    baseline_weeks: int = Field(default=4, ge=1, le=12, description="weeks of history that a baseline is taken from")
    history_hours_min: int = Field(
        default=168,
        ge=24,
        le=672,
        description="hours of earlier comparisons needed to know how much a series moves by itself",
    )
    min_requests: int = Field(default=100, ge=1, description="requests needed in a window and in its baseline window")
    min_impact_usd_per_day: Decimal = Field(
        default=Decimal("0.10"), ge=0, description="dollars a day below which a change is no finding"
    )
    noise_ratio_min: float = Field(
        default=4.5, ge=0, le=100, description="change over its usual size (sampling noise and own movement), no unit"
    )
    open_after_hours: int = Field(
        default=3, ge=1, le=168, description="hours in a row that a rule must hold to open a finding"
    )
    close_after_hours: int = Field(default=6, ge=1, le=168, description="quiet hours in a row that close a finding")
    hysteresis: Share = Field(
        default=0.6, description="share of a rule's threshold that keeps an open finding open, between 0 and 1"
    )
    deploy_window_hours: int = Field(
        default=12, ge=0, le=72, description="hours between a deploy and an onset that are called together"
    )

    cost_rise_enabled: bool = Field(default=True, description="whether the rule cost_per_1k_requests_wow runs")
    cost_rise_min: float = Field(
        default=0.25, gt=0, le=100, description="rise of cost per 1,000 requests over a week, as a share"
    )

    cache_enabled: bool = Field(default=True, description="whether the rule cache_hit_ratio runs")
    prompt_cache_targets: dict[str, Share] = Field(
        default_factory=dict, description="least prompt-cache hit ratio by endpoint glob; the first match counts"
    )
    response_cache_targets: dict[str, Share] = Field(
        default_factory=dict, description="least response-cache hit ratio by endpoint glob; the first match counts"
    )
    cache_drop_min: Share = Field(
        default=0.3, description="fall below the usual ratio, as a share of it, where no target is set"
    )
    cache_ratio_min: Share = Field(
        default=0.2, description="usual ratio below which a fall is not looked for, as a share"
    )

    outlier_enabled: bool = Field(default=True, description="whether the rule outlier runs")
    outlier_window_hours: int = Field(
        default=12, ge=3, le=168, description="hours of the window whose drivers are compared"
    )
    outlier_chance_max: float = Field(
        default=1e-9, gt=0, lt=0.1, description="chance of so unusual a window by luck, as a probability"
    )
    outlier_rise_min: float = Field(
        default=0.10, ge=0, le=100, description="least rise of cost per request in an outlier, as a share"
    )
