"""What the SDK raises: from `configure` and from decorating, and where a lever was asked to refuse a call.

PennytraceError
├── ConfigurationError (also a ValueError)
└── BudgetExceededError
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal


class PennytraceError(Exception):
    """Anything that Pennytrace's SDK raises on purpose."""


class ConfigurationError(PennytraceError, ValueError):
    """A setting is out of its bounds; the message says what was expected, what came and what to do."""


class BudgetExceededError(PennytraceError):
    """A budget refused a call before it was made. `limit` names the limit; amounts are tokens, or US dollars.

    `spent` is what stood against the limit before this call, 0 for a limit per call.
    """

    def __init__(self, limit: str, *, allowed: Decimal | int, spent: Decimal | int, asked: Decimal | int) -> None:
        super().__init__(
            f"expected a call within {limit} = {allowed}, of which {spent} is spent, got one of up to {asked}; "
            "shorten the prompt, lower max_output_tokens or raise the limit"
        )
        self.limit = limit
        self.allowed = allowed
        self.spent = spent
        self.asked = asked
