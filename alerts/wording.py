"""How findings, amounts and names are put into words."""

from __future__ import annotations

import math
import unicodedata
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alerts.findings import Finding

# Longest name shown: a header holds 150 characters, and the figures must fit beside the name.
NAME_CHARACTERS_MAX = 60
ELLIPSIS = "…"
# They reorder the text around them, so that a name could make an amount read backwards.
_DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(text: str, characters_max: int = NAME_CHARACTERS_MAX) -> str:
    """The text on one line, without control and direction characters, cut to a length."""
    shown = "".join(" " if unicodedata.category(c) in {"Cc", "Zl", "Zp"} else c for c in text)
    shown = " ".join("".join(c for c in shown if c not in _DIRECTION_MARKS and not _is_surrogate(c)).split())
    return shown if len(shown) <= characters_max else shown[: characters_max - 1].rstrip() + ELLIPSIS


def _is_surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"


def metric_label(metric: str) -> str:
    """`cost_per_1k_requests_usd` as `cost per 1,000 requests`."""
    return plain(metric.removesuffix("_usd").replace("_", " ").replace(" 1k ", " 1,000 "))


def quantity(value: float, unit: str, is_money: bool) -> str:
    """A measured value with its unit: dollars, a percentage, or a number."""
    if not math.isfinite(value):
        return "unknown"
    if is_money:
        return dollars(Decimal(repr(value)))
    if unit in {"1", "ratio", "%"}:
        return f"{value if unit == '%' else value * 100:.1f} %"
    return f"{value:,.4g} {plain(unit)}".rstrip()


def movement(finding: Finding) -> str:
    """`cost per 1,000 requests $1.20 → $1.71 (+42 %)`."""
    expected = quantity(finding.expected, finding.unit, finding.is_money)
    actual = quantity(finding.actual, finding.unit, finding.is_money)
    return f"{metric_label(finding.metric)} {expected} → {actual}{_change(finding)}"


def _change(finding: Finding) -> str:
    """The relative change of an amount of money; a ratio's own figures say it better."""
    if not finding.is_money or not finding.expected > 0 or not math.isfinite(finding.actual):
        return ""
    return f" ({(finding.actual / finding.expected - 1) * 100:+,.0f} %)"


def comparison(finding: Finding) -> str:
    """`cost per 1,000 requests: expected $1.20, actual $1.71 (+42 %)`."""
    expected = quantity(finding.expected, finding.unit, finding.is_money)
    actual = quantity(finding.actual, finding.unit, finding.is_money)
    return f"{metric_label(finding.metric)}: expected {expected}, actual {actual}{_change(finding)}"


def title_of(finding: Finding) -> str:
    """What the incident is about, in one line that fits a header."""
    return f"{plain(finding.endpoint or finding.service or 'all services')}: {movement(finding)}"


def places(amount: Decimal) -> int:
    """Digits behind the point: cents, or enough to see an amount under a dollar."""
    size = abs(amount)
    return 2 if size >= 1 or size == 0 else 4 if size >= Decimal("0.01") else 6


def dollars(amount: Decimal, digits: int | None = None) -> str:
    """`-$1,234.50`; rounded half to even."""
    shown = round_to(amount, places(amount) if digits is None else digits)
    return f"{'-' if shown < 0 else ''}${abs(shown):,}"


def round_to(amount: Decimal, digits: int) -> Decimal:
    """The amount with `digits` behind the point, rounded half to even; never minus zero."""
    return amount.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_EVEN) + 0


def rounded_parts(parts: Sequence[Decimal], total: Decimal) -> list[Decimal]:
    """The parts rounded as their total is, such that they still add up to the rounded total.

    Largest remainder (Hamilton's method); expects the exact parts to add up to the exact total.
    """
    step = Decimal(1).scaleb(-places(total))
    floors = [part.quantize(step, rounding=ROUND_FLOOR) for part in parts]
    missing = int((round_to(total, places(total)) - sum(floors, Decimal(0))) / step)
    by_remainder = sorted(range(len(parts)), key=lambda index: floors[index] - parts[index])
    raised = set(by_remainder[:missing])
    return [floor + step if index in raised else floor + 0 for index, floor in enumerate(floors)]
