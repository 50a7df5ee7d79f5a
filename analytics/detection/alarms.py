"""From hourly verdicts to alarms: when an endpoint rings, for how long, and what kind of change is suspected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analytics.detection.settings import DetectionSettings

    Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Ringing:
    """An alarm of one endpoint: the hour in which it was confirmed and all hours in which it rings."""

    endpoint: int
    confirmed: int
    hours: tuple[int, ...]


def ringing(opens: Bools, stays: Bools, settings: DetectionSettings) -> list[Ringing]:
    """The alarms of all endpoints, by endpoint and time.

    One begins when `opens` holds for `hold_hours` in a row, rings in hours that stay, no longer than `ring_hours_max`,
    and is over after `rearm_hours` without any hour that opens.
    """
    found: list[Ringing] = []
    for endpoint in np.flatnonzero(opens.any(axis=1)):
        found.extend(_of_endpoint(int(endpoint), opens[endpoint], stays[endpoint], settings))
    return found


def _of_endpoint(endpoint: int, opens: Bools, stays: Bools, settings: DetectionSettings) -> list[Ringing]:
    opening = np.flatnonzero(opens)
    apart = np.flatnonzero(np.diff(opening) > settings.rearm_hours) + 1
    alarms: list[Ringing] = []
    for group in np.split(opening, apart):
        held = group[settings.hold_hours - 1 :] - group[: group.size - settings.hold_hours + 1]
        confirmed = np.flatnonzero(held == settings.hold_hours - 1)
        if confirmed.size:
            begin = int(group[confirmed[0] + settings.hold_hours - 1])
            span = np.flatnonzero(stays[begin : begin + settings.ring_hours_max]) + begin
            alarms.append(Ringing(endpoint, begin, tuple(int(hour) for hour in span)))
    return alarms
