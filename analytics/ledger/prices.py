"""What a provider charged for a model at a moment, from genai-prices.

A price is looked up once per provider, model, tier and moment, and becomes integer rates: yoctodollars
(1e-24 dollars) per token, which every published price is a whole number of. Calls are then priced by integer
arithmetic (pricing.py).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING

from genai_prices import data_snapshot
from genai_prices.types import ModelPrice, StartDateConstraint, TieredPrices

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_prices.types import ModelInfo, Provider

# Published prices are dollars per million tokens with at most 18 decimals, or per thousand requests.
YOCTO_PER_TOKEN = 10**18
YOCTO_PER_REQUEST = 10**21

_NEAREST_MAX = 5

# genai-prices' name of a provider, where it would not find ours.
_PROVIDER_IDS = {
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gen_ai": "google",
    "moonshot_ai": "moonshotai",
    "x_ai": "x-ai",
}
# Each usage, and the prices that it is charged by, first found first: the rule of genai-prices' own units.
_PRICE_KEYS = {
    "fresh_input": ("input_mtok",),
    "cache_read": ("cache_read_mtok", "input_mtok"),
    "cache_write_5m": ("cache_write_5m_mtok", "cache_write_mtok", "input_mtok"),
    "cache_write_1h": ("cache_write_1h_mtok", "cache_write_mtok", "input_mtok"),
    "output": ("output_mtok",),
    "reasoning": ("output_reasoning_mtok", "output_mtok"),
    "request": ("requests_kcount",),
}
USAGES = tuple(_PRICE_KEYS)


@dataclass(frozen=True)
class Rates:
    """Yoctodollars per unit of each usage, for calls with more than `above` input tokens."""

    above: int
    per_unit: dict[str, int]


@dataclass(frozen=True)
class Price:
    """Rates by total input, the last that applies counting for the whole call; or why there are none."""

    steps: tuple[Rates, ...]
    unpriced_reason: str


@dataclass
class PriceBook:
    """genai-prices with a memory."""

    _snapshot: data_snapshot.DataSnapshot = field(default_factory=data_snapshot.get_snapshot)
    _models: dict[tuple[str, str], tuple[Provider, ModelInfo] | None] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Name and version of the source of prices."""
        return f"genai-prices {version('genai-prices')}"

    def moment(self, provider: str, model: str) -> timedelta:
        """How long a price of the model holds at least: calls within one such period cost the same."""
        found = self._find(provider, model)
        if found is None or isinstance(found[1].prices, ModelPrice):
            return timedelta(days=1)
        constraints = [condition.constraint for condition in found[1].prices]
        daily = all(constraint is None or isinstance(constraint, StartDateConstraint) for constraint in constraints)
        return timedelta(days=1) if daily else timedelta(minutes=1)

    def price(self, provider: str, model: str, tier: str, at: datetime) -> Price:
        """What a call cost at a moment; an unknown model has no steps and a reason."""
        found = self._find(provider, model)
        if not model:
            return Price((), "the call names no model")
        if found is None:
            owner = f" of provider '{provider}'" if provider else ""
            return Price((), f"no price for model '{model}'{owner}")
        # A price context goes unused where the model is another provider's, as in genai-prices.
        own = any(found[1] is known for known in found[0].models)
        prices = found[1].get_prices(at.astimezone(UTC), _context(tier) if own else None)
        steps = _steps(prices)
        return Price(steps, "" if steps else f"model '{model}' is not priced by tokens")

    def nearest_names(self, provider: str, model: str) -> list[str]:
        """Names of priced models most like `model`, of the provider where it is known."""
        known = (
            data_snapshot.find_provider_by_id(self._snapshot.providers, _provider_id(provider)) if provider else None
        )
        providers = [known] if known else self._snapshot.providers
        names = sorted({info.id for owner in providers for info in owner.models})
        return difflib.get_close_matches(model.lower(), names, n=_NEAREST_MAX, cutoff=0.5)

    def _find(self, provider: str, model: str) -> tuple[Provider, ModelInfo] | None:
        key = (provider, model)
        if key not in self._models:
            self._models[key] = self._look_up(provider, model) if model else None
        return self._models[key]

    def _look_up(self, provider: str, model: str) -> tuple[Provider, ModelInfo] | None:
        """A model named `owner/model`, as gateways do, is looked up without the owner when needed."""
        for name in dict.fromkeys((model, model.partition("/")[2])):
            if not name:
                continue
            try:
                return self._snapshot.find_provider_model(name, None, _provider_id(provider) or None, None)
            except LookupError:
                continue
        return None


def _provider_id(provider: str) -> str:
    return _PROVIDER_IDS.get(provider, provider)


def _context(tier: str) -> dict[str, str] | None:
    """The context by which genai-prices chooses a variant; it ignores what a model has no variant for."""
    lowered = tier.lower()
    if not lowered or lowered in {"standard", "auto"}:
        return None
    return {"processing": "batch"} if lowered == "batch" else {"service_tier": lowered}


def _steps(prices: ModelPrice) -> tuple[Rates, ...]:
    """Rates from no input tokens on, and from each threshold of any of the prices on."""
    charged = {usage: _first_price(prices, keys) for usage, keys in _PRICE_KEYS.items()}
    if charged["fresh_input"] is None and charged["output"] is None:
        return ()
    thresholds = {tier.start for price in charged.values() if isinstance(price, TieredPrices) for tier in price.tiers}
    return tuple(
        Rates(above, {usage: _rate(usage, price, above) for usage, price in charged.items()})
        for above in sorted({-1, *thresholds})
    )


def _first_price(prices: ModelPrice, keys: tuple[str, ...]) -> Decimal | TieredPrices | None:
    values: list[Decimal | TieredPrices | None] = [getattr(prices, key) for key in keys]
    return next((value for value in values if value is not None), None)


def _rate(usage: str, price: Decimal | TieredPrices | None, above: int) -> int:
    """The rate in the step that begins above `above` input tokens; what has no price costs nothing."""
    if price is None:
        return 0
    if isinstance(price, TieredPrices):
        reached = [tier.price for tier in price.tiers if tier.start <= above]
        price = reached[-1] if reached else price.base
    scale = YOCTO_PER_REQUEST if usage == "request" else YOCTO_PER_TOKEN
    return int((price * scale).to_integral_value())
