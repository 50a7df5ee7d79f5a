"""`budget`: what a call may cost is known before it is paid for, and held against limits."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pennytrace._errors import ConfigurationError
from pennytrace._guard import Guard
from pennytrace._usage import Usage
from pennytrace.levers import _spans
from pennytrace.levers._clock import Clock, steady_now, utc_now
from pennytrace.levers._counters import Counters, MemoryCounters, Rested
from pennytrace.levers._limits import NOTHING, Account, Amount, Limits
from pennytrace.levers._price import PICODOLLARS, Price, picodollars
from pennytrace.levers._prompt import TOKENS_MAX, Prompt, Tokenizer
from pennytrace.levers._rest import Rest

if TYPE_CHECKING:
    from pennytrace._errors import BudgetExceededError

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Over = Literal["refuse", "truncate", "warn"]

# What decorated functions take and return is theirs.
# ruff: noqa: ANN401

CUTS_MAX = 3
"""How often a prompt is cut again because others spent meanwhile; then the call is refused."""

_log = logging.getLogger("pennytrace")
_deciding = Guard("holding a call against a budget")
_settling = Guard("settling a budget")


def budget(
    limits: Limits,
    *,
    max_output_tokens: int | Callable[..., int],
    tokenizer: Tokenizer | None = None,
    prompt: str | None = None,
    count_tokens: Callable[..., int] | None = None,
    price: Price | None = None,
    tenant: str | Callable[..., str | None] | None = None,
    over: Over = "refuse",
    counters: Counters | None = None,
    name: str = "default",
    clock: Clock | None = None,
) -> Budget:
    """Limits in tokens and dollars on a call, a tenant's day and everybody's day (UTC): `@budget(Limits(…), …)`.

    A call is estimated before it is made: the prompt's tokens, by `tokenizer` over the argument named `prompt` (text),
    or by `count_tokens` of the function's arguments; plus `max_output_tokens`, a number or a callable of the
    arguments, which the call itself must enforce. `price` is needed for limits in dollars. The estimate is reserved,
    and replaced by what the call turned out to use; where that is unknown the estimate stays.

    over: "refuse" raises BudgetExceededError before the call; "truncate" cuts the prompt to what fits and refuses
    where nothing does; "warn" lets the call pass, logs and tells the span. tenant: by default that of the observed
    call around. counters: what is spent, shared by processes where it is Redis. name: budgets of one name and
    one set of counters spend together.

    A fault of a tokenizer or of the counters lets the call pass, counted; the counters are then left alone for 5 s.
    With counters that may block, coroutine functions and async generators decide and settle in a thread.
    Raises ConfigurationError when decorating.
    """
    if limits.in_usd and price is None:
        raise ConfigurationError("expected a price for limits in US dollars, got none; give price=Price(…)")
    if (count_tokens is None) == (tokenizer is None or prompt is None):
        raise ConfigurationError("expected either count_tokens or tokenizer with prompt, got none or both; give one")
    if over == "truncate" and tokenizer is None:
        raise ConfigurationError("expected tokenizer and prompt to truncate with, got count_tokens; give those")
    if over not in {"refuse", "truncate", "warn"}:
        raise ConfigurationError(f'expected over "refuse", "truncate" or "warn", got {over!r}; give one of them')
    measured = Prompt(tokenizer, prompt, count_tokens)
    asked = Rested(counters or MemoryCounters(), Rest(clock or steady_now))
    return Budget(limits, measured, max_output_tokens, price, tenant, over, asked, name, clock or utc_now)


@dataclass
class _Permit:
    """A call that may be made: with which arguments, and what is reserved for it."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    account: Account | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    reserved: Amount = NOTHING
    outcome: str = "unchecked"
    limit: str | None = None
    refusal: BudgetExceededError | None = None
    result: object = None


@dataclass(frozen=True)
class Budget:
    """A decorator for functions, coroutine functions, generators and async generators; several may share it."""

    limits: Limits
    prompt: Prompt
    max_output_tokens: int | Callable[..., int]
    price: Price | None
    tenant: str | Callable[..., str | None] | None
    over: Over
    counters: Rested
    name: str
    clock: Clock

    def __call__(self, function: F) -> F:
        """The function, within the budget."""
        signature = inspect.signature(function)
        if self.prompt.name is not None and self.prompt.name not in signature.parameters:
            raise ConfigurationError(
                f"expected prompt to name an argument of {function!r}, got {self.prompt.name!r}; "
                f"give one of {', '.join(signature.parameters)}"
            )
        budgeted: F = _form(function)(self, function, signature)
        return _spans.spanned("budget", _spans.name_of(function), budgeted)

    @contextmanager
    def permitted(
        self, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Generator[_Permit]:
        """Decide, let the block make the call, settle. Raises BudgetExceededError before the block."""
        permit = self._decided(signature, args, kwargs)
        self._admit(permit)
        try:
            yield permit
        except BaseException as error:
            self._settle(permit, error)
            raise
        self._settle(permit)

    @asynccontextmanager
    async def permitted_async(
        self, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[_Permit]:
        """The same; the event loop does not wait for the counters."""
        permit = await self._decided_async(signature, args, kwargs)
        self._admit(permit)
        try:
            yield permit
        except GeneratorExit as error:
            self._settle(permit, error)  # a coroutine that is thrown away cannot await any more
            raise
        except BaseException as error:
            await self._aside(self._settle, permit, error)
            raise
        await self._aside(self._settle, permit)

    async def _aside(self, work: Callable[..., T], *args: Any) -> T:
        """Where the counters may block, in a thread; it has the context, hence the spans, of this call."""
        if self._is_at_hand:
            return work(*args)
        return await asyncio.to_thread(work, *args)

    @property
    def _is_at_hand(self) -> bool:
        """Whether the counters never block; a subclass may."""
        return type(self.counters.counters) is MemoryCounters

    async def _decided_async(self, *asked: Any) -> _Permit:
        if self._is_at_hand:
            return self._decided(*asked)
        deciding = asyncio.ensure_future(asyncio.to_thread(self._decided, *asked))
        try:
            return await asyncio.shield(deciding)
        except asyncio.CancelledError:
            # The thread goes on and may reserve what nobody will use: at most the counters' timeout.
            await self._aside(self._give_back, await deciding)
            raise

    def _decided(self, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Permit:
        if not self.counters.rest.is_on:
            with _deciding:
                return self._held(signature, args, kwargs)
        return _Permit(args, kwargs)

    def _admit(self, permit: _Permit) -> None:
        """Tell the span what was decided, and raise the refusal."""
        estimate = {} if permit.outcome == "unchecked" else _told("estimated", permit.reserved, self.price)
        _spans.tell("budget", outcome=permit.outcome, limit=permit.limit, **estimate)
        if permit.refusal is not None:
            _spans.call_elsewhere()
            raise permit.refusal

    def _held(self, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Permit:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return _Permit(args, kwargs)  # the function itself will say so
        bound.apply_defaults()
        most = self.max_output_tokens
        output = most if isinstance(most, int) else most(*args, **kwargs)
        tenant = self.tenant(*args, **kwargs) if callable(self.tenant) else self.tenant
        day = self.clock().astimezone(UTC)
        account = Account(self.limits, self.counters, self.name, day, tenant or _spans.current_tenant() or "")
        permit = _Permit(args, kwargs, account, self.prompt.count(bound, args, kwargs), output)
        permit.reserved, permit.outcome = self._amount(Usage(), permit.input_tokens, output), "allowed"
        permit.limit = account.reserve(permit.reserved)
        if permit.limit is None:
            return permit
        if self.over == "warn":
            return self._warned(permit, account)
        return self._refused(permit, account) if self.over == "refuse" else self._cut(permit, account, bound)

    def _warned(self, permit: _Permit, account: Account) -> _Permit:
        account.add(permit.reserved)
        permit.outcome = "warned"
        _log.warning("A call passed its budget", extra={"budget": self.name, "limit": permit.limit})
        return permit

    def _refused(self, permit: _Permit, account: Account) -> _Permit:
        limit = permit.limit or ""
        permit.refusal, permit.outcome = account.refusal(limit, permit.reserved), "refused"
        permit.account = None
        return permit

    def _cut(self, permit: _Permit, account: Account, bound: inspect.BoundArguments) -> _Permit:
        wanted = permit.reserved
        for _ in range(CUTS_MAX):
            room = min(self._input_room(account, name, permit.output_tokens) for name in self.limits.names())
            cut = self.prompt.cut(bound, room)
            if cut is None:
                break
            permit.reserved = self._amount(Usage(), cut, permit.output_tokens)
            if account.reserve(permit.reserved) is None:
                permit.args, permit.kwargs = bound.args, bound.kwargs
                permit.input_tokens, permit.outcome = cut, "truncated"
                return permit
        permit.reserved = wanted
        return self._refused(permit, account)

    def _input_room(self, account: Account, limit: str, output_tokens: int) -> int:
        """How many input tokens a limit leaves beside the output."""
        if self.price is None or not limit.startswith("usd"):
            return account.room(limit) - output_tokens
        left_usd = Decimal(account.room(limit)) / PICODOLLARS
        left_usd -= self.price.cost_usd(Usage(), input_tokens=0, output_tokens=output_tokens)
        if self.price.input_usd_per_million == 0:
            return TOKENS_MAX if left_usd >= 0 else -1
        return int(left_usd * 10**6 / self.price.input_usd_per_million)

    def _give_back(self, permit: _Permit) -> None:
        """The call was never made."""
        with _settling:
            if permit.account is not None:
                permit.account.add(NOTHING.minus(permit.reserved))

    def _settle(self, permit: _Permit, error: BaseException | None = None) -> None:
        """Replace the estimate by what was used; where that is unknown the estimate stays.

        A failed call whose usage is unknown was most likely not charged. One that was cancelled or abandoned may
        well be: the provider went on with what was under way.
        """
        with _settling:
            if permit.account is None or self.counters.rest.is_on:
                return
            found = _spans.answers(permit.result)
            if not found and not isinstance(error, Exception):
                return
            paid = [answer.usage for answer in found if not answer.reused]
            used = [self._amount(usage, permit.input_tokens, permit.output_tokens) for usage in paid]
            actual = Amount(sum(a.tokens for a in used), sum(a.picodollars for a in used))
            permit.account.add(actual.minus(permit.reserved))
            if found:
                _spans.tell("budget", **_told("actual", actual, self.price))

    def _amount(self, usage: Usage, input_tokens: int, output_tokens: int) -> Amount:
        known_input = input_tokens if usage.input_tokens is None else usage.input_tokens
        known_output = output_tokens if usage.output_tokens is None else usage.output_tokens
        if self.price is None:
            return Amount(known_input + known_output, 0)
        cost_usd = self.price.cost_usd(usage, input_tokens=input_tokens, output_tokens=output_tokens)
        return Amount(known_input + known_output, picodollars(cost_usd))


def _told(which: str, amount: Amount, price: Price | None) -> dict[str, str | int | None]:
    """Tokens, and dollars as text: a double would not keep them."""
    usd = None if price is None else format(Decimal(amount.picodollars) / PICODOLLARS, "f")
    return {f"{which}_tokens": amount.tokens, f"{which}_usd": usd}


def _form(function: Any) -> Callable[[Budget, Any, inspect.Signature], Any]:
    if inspect.isasyncgenfunction(function):
        return _async_generator
    if inspect.isgeneratorfunction(function):
        return _generator
    _spans.expect_plain("budget", function)
    return _coroutine if inspect.iscoroutinefunction(function) else _plain


def _plain(budget: Budget, function: Any, signature: inspect.Signature) -> Any:
    @wraps(function)
    def budgeted(*args: Any, **kwargs: Any) -> Any:
        with budget.permitted(signature, args, kwargs) as permit:
            permit.result = function(*permit.args, **permit.kwargs)
        return permit.result

    return budgeted


def _coroutine(budget: Budget, function: Any, signature: inspect.Signature) -> Any:
    @wraps(function)
    async def budgeted(*args: Any, **kwargs: Any) -> Any:
        async with budget.permitted_async(signature, args, kwargs) as permit:
            permit.result = await function(*permit.args, **permit.kwargs)
        return permit.result

    return budgeted


def _generator(budget: Budget, function: Any, signature: inspect.Signature) -> Any:
    @wraps(function)
    def budgeted(*args: Any, **kwargs: Any) -> Any:
        with budget.permitted(signature, args, kwargs) as permit:
            return (yield from function(*permit.args, **permit.kwargs))

    return budgeted


def _async_generator(budget: Budget, function: Any, signature: inspect.Signature) -> Any:
    @wraps(function)
    async def budgeted(*args: Any, **kwargs: Any) -> Any:
        async with budget.permitted_async(signature, args, kwargs) as permit:
            source = function(*permit.args, **permit.kwargs)
            step = source.asend(None)
            try:
                while True:
                    try:
                        item = await step
                    except StopAsyncIteration:
                        return
                    # What a plain generator's `yield from` does, which async generators do not have.
                    try:
                        step = source.asend((yield item))
                    except GeneratorExit:
                        return
                    except BaseException as error:  # noqa: BLE001 # the source's to handle
                        step = source.athrow(error)
            finally:
                await source.aclose()

    return budgeted
