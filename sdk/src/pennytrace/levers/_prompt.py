"""How long a prompt is, and a shorter one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Sequence

TOKENS_MAX = 10**9
"""More than any prompt has; where input is free, its price sets no bound."""
TRIES_MAX = 8
"""How often text is cut again because, decoded and encoded anew, it had more tokens than before."""


class Tokenizer(Protocol):
    """What `tiktoken` encodings and Hugging Face tokenizers are."""

    def encode(self, text: str, /) -> Sequence[int]:
        """Text to tokens."""
        ...

    def decode(self, tokens: Sequence[int], /) -> str:
        """Tokens to text."""
        ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """The argument named `name` under a tokenizer, or a callable that counts the arguments' tokens."""

    tokenizer: Tokenizer | None
    name: str | None
    count_tokens: Callable[..., int] | None

    def count(self, bound: inspect.BoundArguments, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """The prompt's tokens. Raises TypeError for a prompt that is no text."""
        if self.count_tokens is not None:
            return self.count_tokens(*args, **kwargs)
        return len(self._encoded(self._text(bound)))

    def cut(self, bound: inspect.BoundArguments, tokens_max: int) -> int | None:
        """Cut the prompt's end so that at most `tokens_max` stay, and at least one; how many, or None."""
        tokens = self._encoded(self._text(bound))
        length = min(tokens_max, len(tokens))
        for _ in range(TRIES_MAX):
            if length < 1 or self.tokenizer is None or self.name is None:
                return None
            text = self.tokenizer.decode(tokens[:length])
            found = len(self._encoded(text))
            if found <= tokens_max:
                bound.arguments[self.name] = text
                return found
            length -= found - tokens_max
        return None

    def _encoded(self, text: str) -> Sequence[int]:
        return self.tokenizer.encode(text) if self.tokenizer is not None else ()

    def _text(self, bound: inspect.BoundArguments) -> str:
        found = bound.arguments[self.name or ""]
        if not isinstance(found, str):
            raise TypeError(f"expected text in {self.name}, got {type(found).__name__}; give count_tokens=")
        return found
