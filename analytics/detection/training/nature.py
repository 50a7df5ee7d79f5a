"""What endpoints do by themselves: traffic, tokens, cache hits, model mix and retries, hour by hour.

The sizes and time scales of natural drift were chosen by hand so that six-hourly token levels move as widely, as
unevenly and with as little memory as those of public serving traces (ServeGen): about half of the variance recurs
every week, neighbouring six-hour buckets correlate by 0.3, and large moves are more frequent than a normal law says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

WEEK = 168
BUCKET_HOURS = 6
BUCKETS_A_WEEK = WEEK // BUCKET_HOURS
MODELS = 3
DEAREST = 2
# The least and largest standard deviation of an endpoint's log tokens.
DRIFT_MIN, DRIFT_MAX = 0.02, 0.9
REQUESTS_MIN, REQUESTS_MAX = 1.5, 8000.0
# Hourly and per-model noise grows with the drift up to here.
NOISE_DRIFT_MAX = 0.3
TAIL_FREEDOM = 4.0


@dataclass
class Nature:
    """Drivers per endpoint and hour (first two axes), and what does not change."""

    requests: Floats
    input_factor: Floats
    output_factor: Floats
    cache_hit: Floats
    mix: Floats
    retries: Floats
    live_from: NDArray[np.int64]
    tokens: Floats  # (endpoints, 2, models)
    spread: Floats  # the same, coefficients of variation
    prices: Floats  # (endpoints, models, 3) dollars per token

    @property
    def hours(self) -> int:
        """How many hours there are."""
        return int(self.requests.shape[1])

    @property
    def count(self) -> int:
        """How many endpoints there are."""
        return int(self.requests.shape[0])


def draw_nature(rng: np.random.Generator, count: int, weeks: int) -> Nature:
    """Endpoints without any incident."""
    hours = weeks * WEEK
    requests = _traffic(rng, count, hours)
    drift = np.exp(rng.uniform(np.log(DRIFT_MIN), np.log(DRIFT_MAX), count))
    inputs, outputs = _token_factors(rng, drift, hours)
    late = rng.random(count) < 0.1
    live_from = np.where(late, rng.integers(WEEK, 6 * WEEK, count), 0)
    requests[np.arange(hours) < live_from[:, None]] = 0
    return Nature(
        requests=requests,
        input_factor=inputs,
        output_factor=outputs,
        cache_hit=_cache_hits(rng, requests),
        mix=_mix(rng, count, hours),
        retries=np.repeat(rng.uniform(0.0, 0.05, (count, 1)), hours, axis=1),
        live_from=live_from,
        tokens=np.exp(_level(rng, count) + rng.normal(0, 0.3, (count, 2, MODELS))),
        spread=np.exp(rng.uniform(np.log(0.2), np.log(2.2), (count, 2, MODELS))),
        prices=_prices(rng, count),
    )


def _level(rng: np.random.Generator, count: int) -> Floats:
    """Log tokens of a request: some 700 in, 180 out, widely spread."""
    return rng.normal([[[6.5], [5.2]]], [[[1.0], [0.9]]], (count, 2, 1))


def autoregressive(rng: np.random.Generator, shape: tuple[int, ...], memory: Floats | float, std: Floats) -> Floats:
    """Stationary first-order noise along axis 1; memory and std are per endpoint."""
    wide = (shape[0], *([1] * (len(shape) - 2)))
    keep = np.broadcast_to(np.asarray(memory, dtype=np.float64).reshape(-1, *([1] * (len(shape) - 2))), wide)
    noise = rng.standard_normal(shape)
    for hour in range(1, shape[1]):
        noise[:, hour] = keep * noise[:, hour - 1] + np.sqrt(1 - keep**2) * noise[:, hour]
    scaled: Floats = noise * np.asarray(std).reshape(-1, *([1] * (len(shape) - 1)))
    return scaled


def _traffic(rng: np.random.Generator, count: int, hours: int) -> Floats:
    hour = np.arange(hours)
    swing, phase = rng.uniform(0.1, 0.9, (count, 1)), rng.uniform(0, 24, (count, 1))
    weekend = np.where(hour // 24 % 7 >= 5, rng.uniform(0.3, 1.1, (count, 1)), 1.0)
    noise = autoregressive(rng, (count, hours), 0.8, rng.uniform(0.05, 0.3, count))
    growth = np.repeat(np.cumsum(rng.normal(0.01, 0.05, (count, hours // WEEK)), axis=1), WEEK, axis=1)
    shape = np.exp(swing * np.sin((hour - phase) / 24 * 2 * np.pi) + noise + growth) * weekend
    level = np.exp(rng.uniform(np.log(REQUESTS_MIN), np.log(REQUESTS_MAX), (count, 1)))
    traffic: Floats = level * shape / shape.mean(axis=1, keepdims=True)
    return traffic


def _token_factors(rng: np.random.Generator, drift: Floats, hours: int) -> tuple[Floats, Floats]:
    """Factors of input and output tokens: (endpoints, hours, models) each."""
    count = len(drift)
    together = rng.uniform(-0.3, 0.95, (count, 1))
    shared, own = _wander(rng, count, hours), _wander(rng, count, hours)
    first = shared
    second = together * shared + np.sqrt(1 - together**2) * own
    second_size = np.clip(drift * np.exp(rng.normal(0, 0.4, count)), DRIFT_MIN, DRIFT_MAX)
    factors: list[Floats] = []
    for moves, size in ((first, drift), (second, second_size)):
        noise_size = np.minimum(size, NOISE_DRIFT_MAX)
        hourly = autoregressive(rng, (count, hours), 0.6, rng.uniform(0.15, 0.45, count) * noise_size)
        models = autoregressive(rng, (count, hours, MODELS), 0.98, rng.uniform(0.1, 0.5, count) * noise_size)
        factors.append(np.exp((moves * size[:, None] + hourly)[:, :, None] + models))
    return factors[0], factors[1]


def _wander(rng: np.random.Generator, count: int, hours: int) -> Floats:
    """Drift of standard deviation one: a weekly profile, weekly departures from it and a level of each week."""
    weeks = hours // WEEK + 1
    memory = rng.uniform(0.0, 0.8, count)
    profile = np.tile(_heavy(rng, (count, BUCKETS_A_WEEK), memory), (1, weeks))
    departure = _heavy(rng, (count, BUCKETS_A_WEEK * weeks), memory)
    level = np.repeat(rng.standard_normal((count, weeks)), BUCKETS_A_WEEK, axis=1)
    recurring, of_level = rng.uniform(0.25, 0.85, (count, 1)), rng.uniform(0.0, 0.35, (count, 1))
    buckets = np.sqrt(recurring) * profile + np.sqrt(1 - recurring) * (
        np.sqrt(1 - of_level) * departure + np.sqrt(of_level) * level
    )
    at = (np.arange(hours) - 3 + rng.integers(0, WEEK)) / BUCKET_HOURS % (buckets.shape[1] - 1)
    low = at.astype(np.int64)
    between: Floats = buckets[:, low] * (1 - at + low) + buckets[:, low + 1] * (at - low)
    return between


def _heavy(rng: np.random.Generator, shape: tuple[int, int], memory: Floats) -> Floats:
    """Autoregressive noise whose size itself varies, clipped at three standard deviations."""
    noise = autoregressive(rng, shape, memory, np.ones(shape[0]))
    size = np.sqrt(TAIL_FREEDOM / rng.chisquare(TAIL_FREEDOM, shape)) * np.sqrt((TAIL_FREEDOM - 2) / TAIL_FREEDOM)
    clipped: Floats = np.clip(noise * size, -3, 3)
    return clipped


def _cache_hits(rng: np.random.Generator, requests: Floats) -> Floats:
    count = len(requests)
    level = np.where(rng.random(count) < 0.65, rng.uniform(0.1, 0.9, count), 0.0)[:, None]
    busy = np.log(np.maximum(requests, 1e-3) / requests.mean(axis=1, keepdims=True)).clip(-2, 2)
    noise = autoregressive(rng, requests.shape, 0.8, rng.uniform(0.03, 0.25, count))
    odds = np.maximum(level, 1e-9) / (1 - level) * np.exp(rng.uniform(0, 0.3, (count, 1)) * busy + noise)
    return np.where(level > 0, odds / (1 + odds), 0.0)


def _mix(rng: np.random.Generator, count: int, hours: int) -> Floats:
    style = rng.choice(3, count, p=[0.45, 0.4, 0.15])
    small = rng.uniform(0.6, 0.97, count)
    pair = np.stack([small, np.zeros(count), 1 - small], axis=1)
    single = np.eye(MODELS)[rng.integers(0, MODELS, count)]
    level = np.where(
        (style == 0)[:, None], single, np.where((style == 1)[:, None], pair, rng.dirichlet([6, 3, 1.5], count))
    )
    wobble = np.exp(autoregressive(rng, (count, hours, MODELS), 0.9, rng.uniform(0.03, 0.15, count)))
    mix = level[:, None] * wobble
    shares: Floats = mix / mix.sum(axis=2, keepdims=True)
    return shares


def _prices(rng: np.random.Generator, count: int) -> Floats:
    prompt = np.sort(np.exp(rng.uniform(np.log(0.05), np.log(6.0), (count, MODELS))), axis=1) / 1e6
    cached = prompt * rng.uniform(0.08, 0.55, (count, MODELS))
    return np.stack([prompt, cached, prompt * rng.uniform(2.5, 6.0, (count, MODELS))], axis=2)
