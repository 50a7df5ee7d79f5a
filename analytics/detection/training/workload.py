"""Drawn workloads: usage of some endpoints over some weeks, and for every hour whether an alarm is right there."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analytics.detection.training.incidents import Incident, Recipe, distract, plant
from analytics.detection.training.nature import MODELS, Nature, draw_nature
from analytics.detection.usage import COUNTS, PRICES, hour_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FIRST_HOUR = 490_896  # 2026-01-01T00:00Z
# A rise below this is neither to be found nor wrong to find; nor are the hours in which a window still sees it.
MATERIAL_RISE = 0.10
GRACE_HOURS = 24
RETRY_OUTPUT_SHARE = 0.15
QUIET, UNSURE, WRONG = 0, 1, 2


@dataclass(frozen=True)
class Workload:
    """`truth` is QUIET, UNSURE or WRONG per endpoint and hour; endpoints are in the frame's order."""

    usage: pl.DataFrame
    truth: NDArray[np.int8]
    incidents: list[Incident]


def draw_workload(seed: int, count: int, weeks: int, recipe: Recipe) -> Workload:
    """A workload; the same arguments give the same one."""
    rng = np.random.default_rng([20260101, seed])
    nature = draw_nature(rng, count, weeks)
    kept = distract(rng, nature)
    normal = cost_per_request(nature)
    changed = copy.deepcopy(nature)
    incidents = plant(rng, changed, recipe)
    truth = _truth(incidents, cost_per_request(changed) / normal - 1)
    return Workload(_usage(_count(rng, changed, kept), changed), truth, incidents)


def cost_per_request(nature: Nature) -> Floats:
    """Expected dollars of a request per endpoint and hour."""
    hit, retries = nature.cache_hit[:, :, None], nature.retries[:, :, None]
    price = nature.prices[:, None]
    a_token = (1 - hit) * price[..., 0] + hit * price[..., 1]
    prompts = nature.tokens[:, None, 0] * nature.input_factor * a_token * (1 + retries)
    answers = nature.tokens[:, None, 1] * nature.output_factor * price[..., 2] * (1 + RETRY_OUTPUT_SHARE * retries)
    cost: Floats = (nature.mix * (prompts + answers)).sum(axis=2)
    return cost


def _truth(incidents: list[Incident], rise: Floats) -> NDArray[np.int8]:
    truth = np.full(rise.shape, QUIET, dtype=np.int8)
    for incident in incidents:
        own = rise[incident.endpoint, incident.start : incident.end]
        drifts = incident.kind == "slow_drift"
        material = (own.max() if drifts else own.mean()) >= MATERIAL_RISE
        truth[incident.endpoint, incident.start : incident.end + GRACE_HOURS] = UNSURE
        if material:
            wrong = own >= (MATERIAL_RISE if drifts else MATERIAL_RISE / 2)
            truth[incident.endpoint, incident.start : incident.end][wrong] = WRONG
    return truth


def _count(rng: np.random.Generator, nature: Nature, kept: Floats) -> dict[str, NDArray[np.int64]]:
    """What a meter counts: (endpoints, hours, models)."""
    arrived = rng.poisson(nature.requests * kept * rng.gamma(60, 1 / 60, kept.shape))
    requests = rng.multinomial(arrived, nature.mix)
    retries = rng.poisson(requests * nature.retries[:, :, None])
    calls = requests + retries

    def tokens(i: int, counted: Floats, factor: Floats) -> NDArray[np.int64]:
        variance = nature.spread[:, None, i] ** 2
        drawn = rng.gamma(np.maximum(counted, 1e-9) / variance, nature.tokens[:, None, i] * factor * variance)
        return np.rint(np.where(requests > 0, np.maximum(drawn, counted), 0)).astype(np.int64)

    inputs = tokens(0, calls.astype(np.float64), nature.input_factor)
    outputs = tokens(1, requests + RETRY_OUTPUT_SHARE * retries, nature.output_factor)
    hit = np.broadcast_to(nature.cache_hit[:, :, None], requests.shape)
    weight = np.maximum(calls * 0.8, 0.5)
    share = rng.beta(np.maximum(hit * weight, 1e-3), np.maximum((1 - hit) * weight, 1e-3))
    cached = np.floor(np.where(hit > 1e-3, share, 0) * inputs).astype(np.int64)
    return dict(zip(COUNTS, (requests, calls, inputs, cached, outputs), strict=True))


def _usage(counts: dict[str, NDArray[np.int64]], nature: Nature) -> pl.DataFrame:
    endpoint, hour, model = np.nonzero(counts["requests"])
    names = np.array([f"endpoint-{place:05d}" for place in range(nature.count)])
    return pl.DataFrame(
        {
            "endpoint": names[endpoint],
            "hour_start": hour_numbers(FIRST_HOUR, hour),
            "model": np.array([f"model-{place}" for place in range(MODELS)])[model],
            **{name: values[endpoint, hour, model] for name, values in counts.items()},
            **{name: nature.prices[endpoint, model, place] * 1e6 for place, name in enumerate(PRICES)},
        }
    )
