"""What is done to drawn endpoints: incidents that a detector should find, and distractors that it should not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analytics.detection.training.nature import DEAREST, WEEK

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from analytics.detection.training.nature import Nature

    Floats = NDArray[np.float64]

HISTORY_WEEKS = 3
QUIET_HOURS = WEEK


@dataclass(frozen=True)
class Recipe:
    """Which incidents are drawn, and how large: `size` multiplies every rise."""

    kinds: tuple[str, ...] = (
        "prompt_bloat",
        "output_bloat",
        "token_bloat",
        "cache_collapse",
        "routing_shift",
        "retry_storm",
        "slow_drift",
    )
    size: float = 1.0


@dataclass(frozen=True)
class Incident:
    """An incident on an endpoint, from `start` to before `end`."""

    endpoint: int
    kind: str
    start: int
    end: int


# Shortest and longest, in hours.
DURATION_HOURS = {
    "prompt_bloat": (12, 240),
    "output_bloat": (12, 240),
    "token_bloat": (12, 240),
    "cache_collapse": (4, 120),
    "routing_shift": (6, 150),
    "retry_storm": (3, 36),
    "slow_drift": (168, 504),
}


def plant(rng: np.random.Generator, nature: Nature, recipe: Recipe) -> list[Incident]:
    """Draw incidents and let them change the drivers; at most three an endpoint, a week apart."""
    planted: list[Incident] = []
    for endpoint in range(nature.count):
        free_from = int(nature.live_from[endpoint]) + HISTORY_WEEKS * WEEK - int(rng.integers(0, WEEK))
        for _ in range(int(rng.choice(4, p=[0.35, 0.35, 0.2, 0.1]))):
            kind = str(rng.choice([kind for kind in recipe.kinds if _can(nature, endpoint, kind)] or ["retry_storm"]))
            duration = round(np.exp(rng.uniform(*np.log(DURATION_HOURS[kind]))))
            latest = nature.hours - min(duration, 120) - 24
            if latest <= free_from + 24:
                break
            start = int(rng.integers(free_from + 24, latest))
            incident = Incident(endpoint, kind, start, min(nature.hours, start + duration))
            _EFFECTS[kind](rng, nature, incident, recipe.size)
            planted.append(incident)
            free_from = incident.end + QUIET_HOURS
    return planted


def distract(rng: np.random.Generator, nature: Nature) -> Floats:
    """Spikes, launches, a holiday, cheap days and gaps; returns the share of requests that are counted at all."""
    kept = np.ones_like(nature.requests)
    holiday = int(rng.integers(4, nature.hours // WEEK)) * WEEK
    nature.requests[:, holiday : holiday + WEEK] *= rng.uniform(0.3, 0.8, (nature.count, 1))
    for endpoint in range(nature.count):
        for _ in range(int(rng.choice(4, p=[0.35, 0.35, 0.2, 0.1]))):
            nature.requests[endpoint, _span(rng, nature.hours, 2, 30)] *= rng.uniform(2, 6)
        if rng.random() < 0.12:
            nature.requests[endpoint, _span(rng, nature.hours, WEEK, WEEK + 1)] *= rng.uniform(1.5, 4)
        if rng.random() < 0.12:
            cheap = _span(rng, nature.hours, 24, 120)
            nature.input_factor[endpoint, cheap] *= rng.uniform(0.5, 0.9)
            nature.output_factor[endpoint, cheap] *= rng.uniform(0.5, 0.9)
        if rng.random() < 0.4:
            kept[endpoint, _span(rng, nature.hours, 1, 8)] = 0.0
        if rng.random() < 0.3:
            kept[endpoint, _span(rng, nature.hours, 1, 4)] *= rng.uniform(0.1, 0.6)
    return kept


def _span(rng: np.random.Generator, hours: int, shortest: int, longest: int) -> slice:
    start = int(rng.integers(0, hours - longest))
    return slice(start, start + int(rng.integers(shortest, longest)))


def _can(nature: Nature, endpoint: int, kind: str) -> bool:
    if kind == "cache_collapse":
        return bool(nature.cache_hit[endpoint].mean() >= 0.15)
    if kind == "routing_shift":
        return bool(nature.mix[endpoint, :, DEAREST].mean() <= 0.7)
    return True


def _shape(rng: np.random.Generator, hours: int) -> Floats:
    """The size of an incident over its hours, mostly one: a step, a ramp, a decay or bursts."""
    style = rng.choice(4, p=[0.7, 0.15, 0.08, 0.07])
    at = np.arange(hours)
    if style == 0:
        return np.ones(hours)
    if style == 1:
        return np.minimum(1.0, (at + 1) / rng.integers(2, 25))
    if style == 2:
        return np.exp(-at / max(hours, 12))
    return np.where(at // max(1, int(rng.integers(2, 8))) % 3 < 2, 1.0, 0.2)


def _multiply(name: str, least: float, most: float) -> Callable[[np.random.Generator, Nature, Incident, float], None]:
    def effect(rng: np.random.Generator, nature: Nature, incident: Incident, size: float) -> None:
        rise = size * np.log(rng.uniform(least, most)) * _shape(rng, incident.end - incident.start)
        getattr(nature, name)[incident.endpoint, incident.start : incident.end] *= np.exp(rise)[:, None]

    return effect


def _longer_tokens(rng: np.random.Generator, nature: Nature, incident: Incident, size: float) -> None:
    _multiply("input_factor", 1.1, 1.8)(rng, nature, incident, size)
    _multiply("output_factor", 1.1, 1.8)(rng, nature, incident, size)


def _lose_cache(rng: np.random.Generator, nature: Nature, incident: Incident, size: float) -> None:
    lost = np.minimum(1.0, size * rng.uniform(0.5, 1.0) * _shape(rng, incident.end - incident.start))
    nature.cache_hit[incident.endpoint, incident.start : incident.end] *= 1 - lost


def _move_to_dearest(rng: np.random.Generator, nature: Nature, incident: Incident, size: float) -> None:
    mix = nature.mix[incident.endpoint, incident.start : incident.end]
    share = np.minimum(0.95, size * rng.uniform(0.1, 0.5) * _shape(rng, incident.end - incident.start))
    moved = mix[:, :DEAREST] * share[:, None]
    mix[:, :DEAREST] -= moved
    mix[:, DEAREST] += moved.sum(axis=1)


def _retry(rng: np.random.Generator, nature: Nature, incident: Incident, size: float) -> None:
    extra = size * rng.uniform(0.15, 1.8) * _shape(rng, incident.end - incident.start)
    nature.retries[incident.endpoint, incident.start : incident.end] += extra


def _grow_slowly(rng: np.random.Generator, nature: Nature, incident: Incident, size: float) -> None:
    days = np.arange(incident.end - incident.start) / 24
    both = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 0.3], [0.3, 1.0]])[rng.integers(4)]
    rates = size * rng.uniform(0.01, 0.045) * both
    for factor, rate in zip((nature.input_factor, nature.output_factor), rates, strict=True):
        factor[incident.endpoint, incident.start : incident.end] *= np.exp(rate * days)[:, None]


_EFFECTS: dict[str, Callable[[np.random.Generator, Nature, Incident, float], None]] = {
    "prompt_bloat": _multiply("input_factor", 1.12, 2.0),
    "output_bloat": _multiply("output_factor", 1.15, 2.4),
    "token_bloat": _longer_tokens,
    "cache_collapse": _lose_cache,
    "routing_shift": _move_to_dearest,
    "retry_storm": _retry,
    "slow_drift": _grow_slowly,
}
