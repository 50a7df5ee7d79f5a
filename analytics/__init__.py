"""What stored spans mean: calls, dollars, hourly facts, findings."""
