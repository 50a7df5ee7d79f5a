"""What one model response says about itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pennytrace._usage.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One response, or the part of a streamed one that has been seen.

    `key` tells two responses apart: the provider's response id, or the usage object itself where a
    complete response has no id; None for parts that belong to whatever came before them. `reused`: an own
    cache gave it, so nothing was paid.
    """

    usage: Usage = field(default_factory=Usage)
    key: object = None
    model: str | None = None
    response_id: str | None = None
    provider: str | None = None
    operation: str | None = None
    tier: str | None = None
    reused: bool = False

    def same_call(self, other: Answer) -> bool:
        """Whether both speak of one model call."""
        if self.key is None or other.key is None:
            return self.key is other.key and self.usage == other.usage
        return self.key is other.key or (isinstance(self.key, str) and self.key == other.key)

    def continues(self, earlier: Answer) -> bool:
        """Whether this is a later part of `earlier`, so that the two merge."""
        return self.key is None or earlier.key is None or self.same_call(earlier)

    def merged(self, newer: Answer) -> Answer:
        """Both parts together, the newer one winning where both know something."""
        return replace(
            self,
            usage=self.usage.updated(newer.usage),
            key=self.key if newer.key is None else newer.key,
            model=newer.model or self.model,
            response_id=newer.response_id or self.response_id,
            provider=newer.provider or self.provider,
            operation=newer.operation or self.operation,
            tier=newer.tier or self.tier,
        )
