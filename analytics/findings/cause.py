"""A finding's cause in one plain sentence, and the deploy that coincided with its onset."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analytics.findings.explanation import OTHER
from analytics.findings.windows import UNPRICED_SHARE_CHANGE_MAX

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from analytics.findings.explanation import Explanation, Factors
    from analytics.findings.facts import Series

# A driver is named when it made at least this share of the change, and at most so many are.
NAMED_SHARE_MIN = Decimal("0.15")
NAMED_MAX = 3
CENT = Decimal("0.01")
HOURS_A_DAY = Decimal(24)


@dataclass(frozen=True)
class Deploy:
    """A version of the service or of a model, first seen on an endpoint at `first_hour`."""

    kind: str
    name: str
    first_hour: datetime


def sentence(explanation: Explanation, hours: int, deploy: Deploy | None) -> str:
    """Such as 'prompts 83 % longer (+$3.10/day), prompt-cache hits down from 70 % to 5 % (+$0.40/day), since
    version 2.4.1'."""
    named = _named_drivers(explanation)
    if not named:
        said = "no single driver stands out"
    else:
        said = ", ".join(
            f"{_movement(name, explanation)} ({per_day(explanation.parts_usd[name], hours)})" for name in named
        )
    since = f", since {deploy.kind} {deploy.name}" if deploy else ""
    return f"{said}{since}{_caveat(explanation)}"


def _caveat(explanation: Explanation) -> str:
    then, now = (float(side["unpriced_share"][0]) for side in (explanation.before, explanation.after))
    if abs(now - then) <= UNPRICED_SHARE_CHANGE_MAX:
        return ""
    return f"; {now * 100:.0f} % of calls have no price, {then * 100:.0f} % before, so dollars are not comparable"


def per_day(dollars: Decimal, hours: int) -> str:
    """Dollars over so many hours as '+$3.10/day'."""
    daily = dollars * HOURS_A_DAY / max(hours, 1)
    quantum = CENT if abs(daily) >= CENT else Decimal("0.0001")
    return f"{'-' if daily < 0 else '+'}${abs(daily.quantize(quantum)):,}/day"


def coinciding(deploys: pl.DataFrame, series: Series, onset: datetime, window_hours: int) -> Deploy | None:
    """The version first seen nearest to the onset, within the window; a service's before a model's.

    What was there in the endpoint's first hour is no deploy.
    """
    own = deploys.filter(service=series.service, environment=series.environment, endpoint=series.endpoint)
    near = timedelta(hours=window_hours)
    found = [
        (kind != "version", abs(deploy.first_hour - onset), deploy)
        for kind in ("version", "model")
        for deploy in _new_names(own, kind)
        if abs(deploy.first_hour - onset) <= near
    ]
    return min(found, key=lambda candidate: candidate[:2])[2] if found else None


def _new_names(own: pl.DataFrame, kind: str) -> list[Deploy]:
    model = pl.when(pl.col("model_version") == "").then("model").otherwise("model_version")
    name = pl.col("service_version") if kind == "version" else model
    firsts = own.group_by(name.alias("name")).agg(pl.col("first_hour").min()).filter(pl.col("name") != "")
    started = pl.lit(own["first_hour"]).min()
    fresh = firsts.filter(pl.col("first_hour") > started).sort("first_hour", "name")
    return [Deploy(kind, str(row["name"]), row["first_hour"]) for row in fresh.iter_rows(named=True)]


def _named_drivers(explanation: Explanation) -> list[str]:
    change = explanation.change_usd
    if not change:
        return []
    share = {name: part / change for name, part in explanation.parts_usd.items()}
    big = [name for name in share if share[name] >= NAMED_SHARE_MIN]
    return sorted(big, key=lambda name: -share[name])[:NAMED_MAX]


def _movement(driver: str, explanation: Explanation) -> str:
    return _WORDS[driver](explanation.before, explanation.after)


def _longer(noun: str, factor: str) -> Callable[[Factors, Factors], str]:
    def words(before: Factors, after: Factors) -> str:
        return f"{noun} {_percent(_at_new_mix(before, after, factor), 'longer', 'shorter')}"

    return words


def _at_new_mix(before: Factors, after: Factors, factor: str) -> float:
    """How many times larger a per-call factor is, calls distributed over models as they are now."""
    share = after["call_share"]
    return _times(float((share * after[factor]).sum()), float((share * before[factor]).sum()))


def _times(now: float, then: float) -> float:
    return now / then if then > 0 else float("nan")


def _percent(times: float, up: str, down: str) -> str:
    if np.isnan(times):
        return f"{up} than none"
    return f"{abs(times - 1) * 100:.0f} % {up if times >= 1 else down}"


def _prompt_cache(before: Factors, after: Factors) -> str:
    then, now = (_hit_ratio(side) for side in (before, after))
    if np.isnan(now):
        return "prompt-cache reads no longer reported"
    if np.isnan(then):
        return "prompt-cache reads reported only now"
    if abs(now - then) < 0.01:  # reads are as before: writes have changed
        return "more tokens written to the prompt cache"
    return f"prompt-cache hits {_from_to(then, now)}"


def _hit_ratio(side: Factors) -> float:
    tokens = side["call_share"] * side["input_tokens"]
    return _times(float((tokens * side["read_share"]).sum()), float((tokens * side["reporting_share"]).sum()))


def _response_cache(before: Factors, after: Factors) -> str:
    then, now = (1 - float(side["called_share"][0]) for side in (before, after))
    return f"response-cache hits {_from_to(then, now)}"


def _from_to(then: float, now: float) -> str:
    return f"{'up' if now > then else 'down'} from {then * 100:.0f} % to {now * 100:.0f} %"


def _retries(before: Factors, after: Factors) -> str:
    times = _times(float(after["answers_per_request"][0]), float(before["answers_per_request"][0]))
    return f"{_percent(times, 'more', 'fewer')} calls per request"


def _mix(before: Factors, after: Factors) -> str:
    moved = np.abs(after["call_share"] - before["call_share"]).sum() / 2
    return f"{moved * 100:.0f} % of calls moved to dearer models"


def _prices(before: Factors, after: Factors) -> str:
    old = {**after, **{name: before[name] for name in _PRICES}}
    return f"unit prices {_percent(_times(_per_call(after), _per_call(old)), 'higher', 'lower')}"


_PRICES = ("fresh_price", "read_price", "write_price", "output_price", "fees_per_call")


def _per_call(at: Factors) -> float:
    prompt = at["input_tokens"] * sum(at[f"{kind}_share"] * at[f"{kind}_price"] for kind in ("fresh", "read", "write"))
    answer = at["output_tokens"] * at["output_price"] + at["fees_per_call"]
    return float((at["call_share"] * (prompt + answer)).sum())


def _gpu(before: Factors, after: Factors) -> str:
    return f"GPU cost per call {_percent(_at_new_mix(before, after, 'gpu_per_call'), 'higher', 'lower')}"


def _other(_before: Factors, _after: Factors) -> str:
    return "cost outside of model calls"


def _traffic(before: Factors, after: Factors) -> str:
    return f"{_percent(_times(float(after['requests'][0]), float(before['requests'][0])), 'more', 'fewer')} requests"


_WORDS: dict[str, Callable[[Factors, Factors], str]] = {
    "traffic": _traffic,
    "response_cache": _response_cache,
    "retries": _retries,
    "model_mix": _mix,
    "input_tokens": _longer("prompts", "input_tokens"),
    "prompt_cache": _prompt_cache,
    "output_tokens": _longer("answers", "output_tokens"),
    "unit_price": _prices,
    "gpu_utilisation": _gpu,
    OTHER: _other,
}
