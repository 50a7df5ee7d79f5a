"""Decorate serving code; get token, cache and GPU spans that a cost ledger understands.

import pennytrace

pennytrace.configure(service="shop")

@pennytrace.observe(endpoint="/chat", provider="openai")
def chat(question): ...
"""

from pennytrace._configure import configure
from pennytrace._errors import BudgetExceededError, ConfigurationError, PennytraceError
from pennytrace._handle import Handle
from pennytrace._observe import observe, start
from pennytrace._pipeline import Counts
from pennytrace._record import Call, record_cached, record_usage, set_tenant
from pennytrace._usage import Usage, generated, rows

__all__ = [
    "BudgetExceededError",
    "Call",
    "ConfigurationError",
    "Counts",
    "Handle",
    "PennytraceError",
    "Usage",
    "configure",
    "generated",
    "observe",
    "record_cached",
    "record_usage",
    "rows",
    "set_tenant",
    "start",
]
