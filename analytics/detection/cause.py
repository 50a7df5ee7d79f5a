"""What an alarm suspects, and its dollars split into drivers.

The split is the additive LMDI-I (Ang 2005): with cost as prompts plus answers, each a product of drivers, a driver's
part is its logarithm times the logarithmic mean of the costs before and after. Parts add up exactly, in no order.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from analytics.detection.drivers import CAUSES, WINDOWS_HOURS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analytics.detection.features import Outlook

    Ints = NDArray[np.int64]
    Doubles = NDArray[np.float64]

KIND_OF = {
    "calls": "retry_storm",
    "mix": "routing_shift",
    "input": "prompt_bloat",
    "cache": "cache_collapse",
    "output": "output_bloat",
}
SLOW_DRIFT, PRICE_CHANGE = "slow_drift", "price_change"
# A drift moves prompts and answers together, the smaller by at least this share of the larger, over days.
TOGETHER_MIN = 0.4
LAST_DAY_SHARE_MAX = 0.8
DRIFT_WINDOW, DAY = 72, 24
MICRO = Decimal("0.000001")


@dataclass(frozen=True)
class Split:
    """Of one cell: the window's hours, its cost, what it would have cost, and parts that add up to the difference."""

    window_hours: int
    cost_usd: Decimal
    excess_usd: Decimal
    parts_usd: dict[str, Decimal]


def suspects(outlook: Outlook, cells: Ints) -> list[tuple[str, int]]:
    """For each cell the suspected kind of incident, and the window in which its driver is nearest to the rule."""
    endpoint, hour = cells
    pairs = [(driver, window) for driver in CAUSES for window in WINDOWS_HOURS]
    with np.errstate(divide="ignore", invalid="ignore"):
        margins = np.stack([outlook.margin_of(driver, window)[endpoint, hour] for driver, window in pairs])
    nearest = [pairs[place] for place in np.argmax(np.nan_to_num(margins, nan=-1), axis=0)]
    slow = _is_slow(outlook, endpoint, hour)
    return [
        (SLOW_DRIFT, DRIFT_WINDOW) if slow[at] and driver in ("input", "output") else (KIND_OF[driver], window)
        for at, (driver, window) in enumerate(nearest)
    ]


def _is_slow(outlook: Outlook, endpoint: Ints, hour: Ints) -> NDArray[np.bool_]:
    days = outlook.rises[DRIFT_WINDOW]
    prompts, answers = (days.lesser[driver][endpoint, hour] for driver in ("input", "output"))
    together = np.minimum(prompts, answers) >= TOGETHER_MIN * np.maximum(prompts, answers)
    before = outlook.earlier[DAY, DAY]["total"][endpoint, hour]
    now = outlook.rises[DAY].lesser["total"][endpoint, hour]
    gradual = now - before <= LAST_DAY_SHARE_MAX * now
    slow: NDArray[np.bool_] = together & gradual & (prompts > 0) & (answers > 0)
    return slow


def split(outlook: Outlook, endpoint: int, hour: int, window: int) -> Split:
    """The dollars of the window up to a cell, above what its level would have cost."""
    rise = outlook.rises[window]
    cost = float(rise.spent_usd[endpoint, hour])
    logs = {driver: float(np.nan_to_num(rise.level[driver][endpoint, hour])) for driver in CAUSES}
    share = float(np.nan_to_num(rise.prompt_share[endpoint, hour]))
    common = logs["calls"] + logs["mix"]
    grown = (share * np.exp(logs["input"] + logs["cache"]), (1 - share) * np.exp(logs["output"]))
    usual = cost / float(np.exp(common) * sum(grown)) if cost else 0.0
    prompts = _mean(usual * share, usual * float(np.exp(common)) * float(grown[0]))
    answers = _mean(usual * (1 - share), usual * float(np.exp(common)) * float(grown[1]))
    parts = {driver: (prompts + answers) * logs[driver] for driver in ("calls", "mix")}
    parts |= {driver: prompts * logs[driver] for driver in ("input", "cache")} | {"output": answers * logs["output"]}
    return Split(window, _dollars(cost), _dollars(cost - usual), _exact(parts, _dollars(cost - usual)))


def _mean(before: float, after: float) -> float:
    """The logarithmic mean."""
    if before <= 0 or after <= 0:
        return 0.0
    return before if abs(after / before - 1) < 1e-9 else (after - before) / float(np.log(after / before))


def _dollars(value: float) -> Decimal:
    return Decimal(repr(value)).quantize(MICRO)


def _exact(parts: dict[str, float], total: Decimal) -> dict[str, Decimal]:
    """The parts in millionths; what rounding leaves goes to the largest."""
    rounded = {driver: _dollars(part) for driver, part in parts.items()}
    largest = max(rounded, key=lambda driver: abs(rounded[driver]))
    rounded[largest] += total - sum(rounded.values(), Decimal(0))
    return rounded
