"""The canonical usage vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from pennytrace import _names as names

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one model call. None is unknown, which is never the same as 0.

    `input_tokens` counts all input, cache reads and writes included; the cache fields are subsets of it.
    `reasoning_tokens` is a subset of `output_tokens`. A cache write whose lifetime the provider does not
    state is a 5-minute one, its default. `rows` counts the predictions of a model that has no tokens.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    rows: int | None = None

    @property
    def known(self) -> bool:
        """Whether any count is known."""
        return not (
            self.input_tokens
            is self.output_tokens
            is self.cache_read_tokens
            is self.cache_write_5m_tokens
            is self.cache_write_1h_tokens
            is self.reasoning_tokens
            is self.rows
            is None
        )

    @property
    def cache_write_tokens(self) -> int | None:
        """5-minute and 1-hour cache writes together."""
        if self.cache_write_5m_tokens is None and self.cache_write_1h_tokens is None:
            return None
        return (self.cache_write_5m_tokens or 0) + (self.cache_write_1h_tokens or 0)

    def updated(self, newer: Usage) -> Usage:
        """These counts, with those that `newer` knows in their place: stream counts are running totals."""
        return replace(self, **{name: value for name, value in newer._values().items() if value is not None})

    def attributes(self) -> dict[str, int]:
        """The span attributes of what is known."""
        found = {
            names.INPUT_TOKENS: self.input_tokens,
            names.OUTPUT_TOKENS: self.output_tokens,
            names.CACHE_READ_TOKENS: self.cache_read_tokens,
            names.CACHE_WRITE_TOKENS: self.cache_write_tokens,
            names.CACHE_WRITE_1H_TOKENS: self.cache_write_1h_tokens,
            names.REASONING_TOKENS: self.reasoning_tokens,
            names.ROWS: self.rows,
        }
        return {name: value for name, value in found.items() if value is not None}

    def _values(self) -> dict[str, int | None]:
        return {name: getattr(self, name) for name in FIELD_NAMES}


FIELD_NAMES = tuple(field.name for field in fields(Usage))


def usage_from(counts: Mapping[str, int | None]) -> Usage:
    """A Usage from canonical names; unknown names are left out."""
    return Usage(**{name: counts[name] for name in FIELD_NAMES if name in counts})
