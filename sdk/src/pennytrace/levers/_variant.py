"""`variant`: a share of the subjects gets another model, always the same subjects; and how good the answers were."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from hashlib import blake2b
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

from pennytrace import _names as names
from pennytrace._errors import ConfigurationError, PennytraceError
from pennytrace._guard import Guard
from pennytrace.levers import _spans

if TYPE_CHECKING:
    from collections.abc import Generator

F = TypeVar("F", bound=Callable[..., Any])

# What decorated functions take and return is theirs.
# ruff: noqa: ANN401

_choosing = Guard("asking for the subject of a variant")
_scoring = Guard("record_quality")
_assigned: ContextVar[dict[str, str] | None] = ContextVar("pennytrace-variants", default=None)


def variant(experiment: str, weights: Mapping[str, int], *, subject: Callable[..., object]) -> Variant:
    """Assign each subject one of the variants, in proportion to `weights`: `@variant("int8", {...}, subject=…)`.

    The same subject of the same experiment gets the same variant in every process and after every restart; a change
    of weights moves only the subjects at the bounds between variants. subject: a callable of the function's
    arguments, such as the user's id; it is hashed, and never leaves the process. Where it fails or returns None,
    the first variant answers. The span has `pennytrace.variant`, and calls below inherit it; the function asks
    `current_variant()`. Raises ConfigurationError for weights that are no whole numbers of 0 or more.
    """
    told: list[object] = list(weights.values())
    if any(isinstance(weight, bool) or not isinstance(weight, int) or weight < 0 for weight in told) or not any(told):
        raise ConfigurationError(
            f"expected weights as whole numbers of 0 or more, one above 0, got {dict(weights)!r}; "
            'give such as {"fp16": 90, "int8": 10}'
        )
    return Variant(experiment, weights, subject)


class Variant:
    """A decorator; `assign` tells the variant of a subject without calling anything."""

    def __init__(self, experiment: str, weights: Mapping[str, int], subject: Callable[..., object]) -> None:
        self.experiment = experiment
        self.weights = dict(weights)
        self._subject = subject

    def assign(self, subject: object) -> str:
        """The variant of a subject; of None the first."""
        if subject is None:
            return next(iter(self.weights))
        hashed = blake2b(f"{self.experiment}\0{subject}".encode(errors="surrogatepass"), digest_size=8).digest()
        point = int.from_bytes(hashed) * sum(self.weights.values()) >> 64
        for name, weight in self.weights.items():
            if point < weight:
                return name
            point -= weight
        raise AssertionError("a point lies below the sum of the weights")

    def __call__(self, function: F) -> F:
        """The function, under the variant of its subject."""
        chosen: F = _form(function)(self, function)
        return _spans.spanned("variant", self.experiment, chosen)

    @contextmanager
    def assigned(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[None]:
        """Choose, tell the span, and let the block ask for it."""
        name = self.assign(None)
        with _choosing:
            name = self.assign(self._subject(*args, **kwargs))
        _spans.tell("variant", experiment=self.experiment)
        _spans.tell_call(names.VARIANT, name)
        before = _assigned.get()
        _assigned.set({**(before or {}), self.experiment: name, "": name})
        try:
            yield
        finally:
            _assigned.set(before)


def current_variant(experiment: str | None = None) -> str | None:
    """The variant that was assigned around this code, of the innermost experiment or of the named one."""
    return (_assigned.get() or {}).get(experiment or "")


def current_variants() -> dict[str, str]:
    """Every variant that was assigned around this code, by experiment; the innermost also by the empty name."""
    return dict(_assigned.get() or {})


def record_quality(score: float, *, name: str = "score") -> None:
    """Attach a quality score to the observed call that runs here: `pennytrace.quality.NAME`. Never raises."""
    with _scoring:
        if isinstance(score, bool) or not isfinite(score):
            raise PennytraceError(f"expected a finite number as score, got {score!r}; leave out what is unknown")
        _spans.tell_call(f"pennytrace.quality.{name}", float(score))


def _form(function: Any) -> Callable[[Variant, Any], Any]:
    _spans.expect_plain("variant", function)
    return _coroutine if inspect.iscoroutinefunction(function) else _plain


def _plain(split: Variant, function: Any) -> Any:
    @wraps(function)
    def chosen(*args: Any, **kwargs: Any) -> Any:
        with split.assigned(args, kwargs):
            return function(*args, **kwargs)

    return chosen


def _coroutine(split: Variant, function: Any) -> Any:
    @wraps(function)
    async def chosen(*args: Any, **kwargs: Any) -> Any:
        with split.assigned(args, kwargs):
            return await function(*args, **kwargs)

    return chosen
