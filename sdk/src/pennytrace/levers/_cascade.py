"""`cascade`: the cheapest tier that is sure of its answer gives it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, TypeVar

from pennytrace._errors import ConfigurationError, PennytraceError
from pennytrace._guard import Guard
from pennytrace.levers import _spans

F = TypeVar("F", bound=Callable[..., Any])

# What decorated functions take and return is theirs.
# ruff: noqa: ANN401

_gating = Guard("asking the gate of a cascade")


@dataclass(frozen=True, slots=True)
class Tier:
    """One cheaper way to answer. `answer` takes what the decorated function takes, and returns None for no answer.

    `gate` says whether an answer is good enough; without one every answer but None is. Below a coroutine function it
    may be one, too. A tier that raises has no answer. `calls_model` is False for a rule, a table or a heuristic: an
    answer that is known to cost nothing.
    """

    name: str
    answer: Callable[..., Any]
    gate: Callable[[Any], bool | Awaitable[bool]] | None = None
    calls_model: bool = True

    def accepts(self, answer: Any) -> bool:
        """Whether the answer stands; a gate that fails lets none pass."""
        if answer is None:
            return False
        with _gating:
            verdict = self.gate is None or self.gate(answer)
            if inspect.isawaitable(verdict):
                raise PennytraceError("expected a gate that decides at once, got one to await; make the function async")
            return bool(verdict)
        return False

    async def accepts_async(self, answer: Any) -> bool:
        """The same with a gate that may be a coroutine function."""
        if answer is None:
            return False
        with _gating:
            verdict = self.gate is None or self.gate(answer)
            return bool(await verdict if inspect.isawaitable(verdict) else verdict)
        return False


def cascade(*tiers: Tier, last: str = "last") -> Callable[[F], F]:
    """Ask the tiers in order, then the decorated function, whose answer always stands: `@cascade(Tier(…), …)`.

    Each tier that is asked has a span, so that whatever it cost is booked, rejected answers included; the cascade's
    span names the tier that answered. `last` is the decorated function's name as a tier. With a coroutine
    function tiers may be coroutine functions or plain ones. Raises ConfigurationError when decorating.
    """
    names = [*(tier.name for tier in tiers), last]
    if not tiers or len(set(names)) < len(names):
        raise ConfigurationError(f"expected one tier or more, each with a name of its own, got {names}; rename them")

    def decorate(function: F) -> F:
        _spans.expect_plain("cascade", function)
        form = _Asynchronous if inspect.iscoroutinefunction(function) else _Synchronous
        asked = form([_spanned(tier) for tier in tiers], _spanned(Tier(last, function)))
        cascaded: Any = wraps(function)(asked.wrapper())
        spanned: F = _spans.spanned("cascade", _spans.name_of(function), cascaded)
        return spanned

    return decorate


def _spanned(tier: Tier) -> Tier:
    """The tier under a span of its own, which says whose answer it carries."""
    _spans.expect_plain("a tier of a cascade", tier.answer)
    name, answer = tier.name, tier.answer

    @wraps(answer)
    def asked(*args: Any, **kwargs: Any) -> Any:
        _spans.tell(None, **{"cascade.candidate": name})
        return answer(*args, **kwargs)

    @wraps(answer)
    async def asked_async(*args: Any, **kwargs: Any) -> Any:
        _spans.tell(None, **{"cascade.candidate": name})
        return await answer(*args, **kwargs)

    form = asked_async if inspect.iscoroutinefunction(answer) else asked
    return replace(tier, answer=_spans.spanned("tier", name, form))


def _tell(tried: list[Tier]) -> None:
    names = [tier.name for tier in tried]
    _spans.tell("cascade", tier=names[-1], tiers_tried=names, escalations=len(names) - 1)
    if not any(tier.calls_model for tier in tried):
        _spans.call_elsewhere()


@dataclass(frozen=True, slots=True)
class _Synchronous:
    tiers: list[Tier]
    last: Tier

    def __post_init__(self) -> None:
        wrong = [
            tier.name
            for tier in self.tiers
            if inspect.iscoroutinefunction(tier.answer) or inspect.iscoroutinefunction(tier.gate)
        ]
        if wrong:
            raise ConfigurationError(
                f"expected plain functions below a plain one, got coroutines {wrong}; make it async"
            )

    def wrapper(self) -> Callable[..., Any]:
        """A function that asks them all."""

        def cascaded(*args: Any, **kwargs: Any) -> Any:
            tried: list[Tier] = []
            for tier in self.tiers:
                tried.append(tier)
                try:
                    answer = tier.answer(*args, **kwargs)
                except Exception:  # noqa: BLE001, S112 # the next tier is the remedy; the tier's span has the error
                    continue
                if tier.accepts(answer):
                    _tell(tried)
                    return answer
            _tell([*tried, self.last])
            return self.last.answer(*args, **kwargs)

        return cascaded


@dataclass(frozen=True, slots=True)
class _Asynchronous:
    tiers: list[Tier]
    last: Tier

    def wrapper(self) -> Callable[..., Any]:
        """A coroutine function that asks them all."""

        async def cascaded(*args: Any, **kwargs: Any) -> Any:
            tried: list[Tier] = []
            for tier in self.tiers:
                tried.append(tier)
                try:
                    answer = tier.answer(*args, **kwargs)
                    if inspect.isawaitable(answer):
                        answer = await answer
                except Exception:  # noqa: BLE001, S112 # the next tier is the remedy; the tier's span has the error
                    continue
                if await tier.accepts_async(answer):
                    _tell(tried)
                    return answer
            _tell([*tried, self.last])
            return await self.last.answer(*args, **kwargs)

        return cascaded
