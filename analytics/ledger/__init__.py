"""From spans to calls, dollars and hourly facts."""

from analytics.ledger.recomputation import LedgerRun, recompute

__all__ = ["LedgerRun", "recompute"]
