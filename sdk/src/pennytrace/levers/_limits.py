"""Limits of a budget, and the counters that hold a call against them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from pennytrace._errors import BudgetExceededError, ConfigurationError
from pennytrace._guard import Guard
from pennytrace.levers._price import PICODOLLARS, expect_usd, picodollars

if TYPE_CHECKING:
    from datetime import datetime

    from pennytrace.levers._counters import Counters

KEEP_S: Final = 2 * 86_400
"""A day's counter is kept for another day: calls that began before midnight settle on their own day."""

_returning = Guard("giving back what a budget had reserved")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that may be spent, tokens in and out together; None is no limit. Days are UTC."""

    tokens_per_call: int | None = None
    usd_per_call: Decimal | None = None
    tokens_per_tenant_day: int | None = None
    usd_per_tenant_day: Decimal | None = None
    tokens_per_day: int | None = None
    usd_per_day: Decimal | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name.startswith("usd"):
                expect_usd(field.name, value)
            elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ConfigurationError(
                    f"expected {field.name} as a whole number of 0 or more, got {value!r}; None is no limit"
                )
        if not self.names():
            raise ConfigurationError("expected at least one limit, got none; give one, such as usd_per_day")

    def names(self) -> list[str]:
        """The limits that are set."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    @property
    def in_usd(self) -> bool:
        """Whether any limit is in dollars."""
        return any(name.startswith("usd") for name in self.names())


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens, in and out together, and picodollars."""

    tokens: int
    picodollars: int

    def of(self, limit: str) -> int:
        """The part that a limit counts."""
        return self.picodollars if limit.startswith("usd") else self.tokens

    def minus(self, other: Amount) -> Amount:
        """The difference."""
        return Amount(self.tokens - other.tokens, self.picodollars - other.picodollars)


NOTHING: Final = Amount(0, 0)


@dataclass(frozen=True, slots=True)
class Account:
    """The limits that one call is held against: of its budget, on its day, with its tenant."""

    limits: Limits
    counters: Counters
    budget: str
    day: datetime
    tenant: str

    def reserve(self, amount: Amount) -> str | None:
        """Take the amount from every limit, or from none; the name of the limit that it does not fit into."""
        taken: list[str] = []
        try:
            for limit in self.limits.names():
                if not self._take(limit, amount.of(limit)):
                    self._give_back(taken, amount)
                    return limit
                taken.append(limit)
        except Exception:
            self._give_back(taken, amount)
            raise
        return None

    def _give_back(self, limits: list[str], amount: Amount) -> None:
        """Undo what was taken, as far as the counters answer: what they do not take back only makes the day smaller."""
        for limit in filter(self._is_counted, limits):
            with _returning:
                self.counters.add(self._key(limit), -amount.of(limit), None, KEEP_S)

    def add(self, amount: Amount) -> None:
        """Add what a call turned out to use, or give back, without asking."""
        for limit in self.limits.names():
            if self._is_counted(limit) and amount.of(limit):
                self.counters.add(self._key(limit), amount.of(limit), None, KEEP_S)

    def room(self, limit: str) -> int:
        """How much still fits into a limit: tokens or picodollars, never less than 0."""
        return max(self._most(limit) - self.spent(limit), 0)

    def spent(self, limit: str) -> int:
        """What stands against a limit; nothing against those of one call."""
        return self.counters.value(self._key(limit)) if self._is_counted(limit) else 0

    def refusal(self, limit: str, amount: Amount) -> BudgetExceededError:
        """The error that refuses a call of this amount."""
        asked, spent = amount.of(limit), self.spent(limit)
        if not limit.startswith("usd"):
            return BudgetExceededError(limit, allowed=self._most(limit), spent=spent, asked=asked)
        usd = [Decimal(value) / PICODOLLARS for value in (self._most(limit), spent, asked)]
        return BudgetExceededError(limit, allowed=usd[0], spent=usd[1], asked=usd[2])

    def _take(self, limit: str, amount: int) -> bool:
        if not self._is_counted(limit):
            return amount <= self._most(limit)
        return self.counters.add(self._key(limit), amount, self._most(limit), KEEP_S)

    def _is_counted(self, limit: str) -> bool:
        return not limit.endswith("_per_call")

    def _most(self, limit: str) -> int:
        value = getattr(self.limits, limit)
        return picodollars(value) if isinstance(value, Decimal) else int(value)

    def _key(self, limit: str) -> str:
        tenant = f":{self.tenant}" if "tenant" in limit else ""
        return f"{self.budget}:{self.day:%Y-%m-%d}:{limit}{tenant}"
