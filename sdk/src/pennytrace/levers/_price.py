"""What a call may cost and did cost, in exact decimal dollars and whole picodollars."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Final

from pennytrace._errors import ConfigurationError

if TYPE_CHECKING:
    from pennytrace._usage import Usage

PICODOLLARS: Final = 10**12
"""To the dollar: the twelve places that the ledger keeps of a call. Counters hold whole ones."""
_MILLION: Final = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars for a million tokens, as Decimal. Cached input costs as much as other input unless it is said."""

    input_usd_per_million: Decimal
    output_usd_per_million: Decimal
    cache_read_usd_per_million: Decimal | None = None
    cache_write_usd_per_million: Decimal | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                expect_usd(field.name, value)

    def cost_usd(self, usage: Usage, *, input_tokens: int, output_tokens: int) -> Decimal:
        """What a call costs; the two counts stand in for those that `usage` does not know."""
        all_input = input_tokens if usage.input_tokens is None else usage.input_tokens
        output = output_tokens if usage.output_tokens is None else usage.output_tokens
        read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
        fresh = max(all_input - read - written, 0)
        read_price = self._or_input(self.cache_read_usd_per_million)
        write_price = self._or_input(self.cache_write_usd_per_million)
        parts = fresh * self.input_usd_per_million + read * read_price + written * write_price
        return (parts + output * self.output_usd_per_million) / _MILLION

    def _or_input(self, price: Decimal | None) -> Decimal:
        return self.input_usd_per_million if price is None else price


def picodollars(usd: Decimal) -> int:
    """Whole picodollars, rounded up: a budget never counts less than was spent."""
    return int((usd * PICODOLLARS).to_integral_value(rounding=ROUND_CEILING))


def expect_usd(name: str, value: object) -> None:
    """Raise ConfigurationError unless the value is a finite Decimal of 0 or more."""
    if not isinstance(value, Decimal) or not value.is_finite() or value < 0:
        raise ConfigurationError(f'expected {name} as a Decimal of 0 or more, got {value!r}; write Decimal("0.15")')
