"""What many spans share: name, kind and attributes, encoded once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pennytrace import _names as names
from pennytrace import _wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.trace import SpanKind

    from pennytrace._usage import Answer

PLAN_ANSWERS_MAX: Final = 256
"""Distinct (model, provider, operation, tier) that one plan keeps encoded; more of them start again."""


class Shape:
    """A span's name, kind and unchanging attributes. `labels` is the part of them that says what was called."""

    __slots__ = ("attributes", "encoded", "kind", "labels", "name")

    def __init__(
        self, name: str, kind: SpanKind, attributes: dict[str, str], labels: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.kind = kind
        self.labels = labels or {}
        self.attributes = {**attributes, **self.labels}
        said = _wire.field(5, _wire.text(name)) if name else b""
        # OTLP counts kinds from 1, 0 being unspecified.
        self.encoded = said + b"\x30" + _wire.varint(kind.value + 1) + _wire.attributes(9, self.attributes)


@dataclass(frozen=True, slots=True)
class Request:
    """What is known of a call before its answer. `is_model_call`: unknown usage is a fact worth recording."""

    model: str | None = None
    provider: str | None = None
    operation: str | None = None
    is_model_call: bool = False
    usage: Callable[[object], object] | None = None

    def attributes(self, answer: Answer | None) -> dict[str, str]:
        """What identifies a model call, the answer's word filling in for what was not declared."""
        if answer is None:
            return self.labels()
        found = self.labels(answer.model, answer.provider, answer.operation, answer.tier)
        if answer.response_id:
            found[names.RESPONSE_ID] = answer.response_id
        return found

    def or_else(self, other: Request) -> Request:
        """What is not known here, as the other knows it."""
        return replace(
            self,
            model=self.model or other.model,
            provider=self.provider or other.provider,
            operation=self.operation or other.operation,
        )

    def completed(self, answer: Answer) -> Answer:
        """The answer, with what was declared where it does not say."""
        if answer.model and answer.provider and answer.operation:
            return answer
        return replace(
            answer,
            model=answer.model or self.model,
            provider=answer.provider or self.provider,
            operation=answer.operation or self.operation,
        )

    def labels(
        self,
        model: str | None = None,
        provider: str | None = None,
        operation: str | None = None,
        tier: str | None = None,
    ) -> dict[str, str]:
        """`attributes` without the response's id."""
        found = {
            names.OPERATION: self.operation or operation or "chat",
            names.PROVIDER: self.provider or provider,
            names.REQUEST_MODEL: self.model or model,
            names.RESPONSE_MODEL: model,
            names.SERVICE_TIER: tier,
        }
        return {name: value for name, value in found.items() if value}


class Plan:
    """What is known of a call before it begins: how its span starts, and how it will look with an answer."""

    __slots__ = ("_answered", "request", "start", "tenant")

    def __init__(self, name: str, kind: SpanKind, dimensions: Mapping[str, str | None], request: Request) -> None:
        self.request = request
        self.tenant = dimensions.get(names.TENANT)
        self.start = Shape(name, kind, {key: value for key, value in dimensions.items() if value})
        self._answered: dict[tuple[str | None, str | None, str | None, str | None], Shape] = {}

    def asking(self, request: Request) -> Plan:
        """The same plan for another request."""
        return _asking(self, request)

    def answered(
        self, model: str | None, provider: str | None, operation: str | None = None, tier: str | None = None
    ) -> Shape:
        """The shape of a span that carries an answer."""
        key = (model, provider, operation, tier)
        found = self._answered.get(key)
        if found is None:
            if len(self._answered) >= PLAN_ANSWERS_MAX:
                self._answered.clear()
            start = self.start
            found = Shape(start.name, start.kind, start.attributes, self.request.labels(*key))
            self._answered[key] = found
        return found


@lru_cache(maxsize=PLAN_ANSWERS_MAX)
def _asking(plan: Plan, request: Request) -> Plan:
    return Plan(plan.start.name, plan.start.kind, plan.start.attributes, request)
