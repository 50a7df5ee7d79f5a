"""How far each driver of an endpoint's cost per request lies above what is usual, over trailing windows.

With b a baseline per model and p the prices of the hour, the rises of a window are logarithms of

    calls   calls per request / its baseline
    mix     sum(share x cost of a call at its baseline) / the same at baseline shares
    input   sum(input tokens x p) / sum(calls x b x p)
    cache   sum(input tokens x p x f(hit ratio)) / sum(input tokens x p x f(b)), f = 1 - hits x (1 - cached price / p)
    output  sum(output tokens x p) / sum(calls x b x p)

and `total` is what they make together: the rise of cost per request at unchanged prices. There are two baselines,
both medians over four weeks: the same hours of the week, and the level of whole weeks. A rise is the smaller of the
two, so that neither a cheap week nor a dear hour of the week looks like one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analytics.detection.usage import Usage

    Floats = NDArray[np.floating[Any]]

CAUSES = ("calls", "mix", "input", "cache", "output")
DRIVERS = (*CAUSES, "total")
WINDOWS_HOURS = (3, 12, 24, 72, 168)
WEEK = 168
BASELINE_WEEKS = 4
# The same hours of earlier weeks are looked at over at least this width, around the window.
SMOOTH_HOURS = 6
# A window is held against a level that ends at least this long before it does.
LEVEL_LAG_HOURS = 24
ZERO, ONE = np.float32(0), np.float32(1)


@dataclass(frozen=True)
class Rises:
    """Log rises of one window by driver, over the same hours of the week and over the level; (endpoints, hours).

    `prompt_share` is the prompts' share of the cost at the level's tokens; `spent_usd` is at the prices of the hour.
    """

    seasonal: dict[str, Floats]
    level: dict[str, Floats]
    prompt_share: Floats
    requests: Floats
    spent_usd: Floats

    @cached_property
    def lesser(self) -> dict[str, Floats]:
        """The smaller of the two rises; NaN where either is unknown."""
        return {driver: np.minimum(self.seasonal[driver], self.level[driver]) for driver in DRIVERS}

    def impact(self, driver: str) -> Floats:
        """What the driver's rise alone does to the logarithm of cost per request, to first order."""
        if driver in ("input", "cache"):
            return self.lesser[driver] * self.prompt_share
        return self.lesser[driver] * (ONE - self.prompt_share) if driver == "output" else self.lesser[driver]


@dataclass(frozen=True)
class Baseline:
    """What is usual, per model row (calls: per endpoint); NaN is unknown."""

    calls: Floats
    share: Floats
    input: Floats
    hits: Floats
    output: Floats


@dataclass
class Windows:
    """Trailing sums of a usage for the hours from `begin` to before `end`; hours before the first are empty."""

    usage: Usage
    begin: int
    end: int
    _baselines: dict[tuple[int, ...], Baseline] = field(default_factory=dict)

    @cached_property
    def sums(self) -> dict[str, NDArray[np.float64]]:
        """Running totals by name; `all_calls` are an endpoint's."""
        return {**self.usage.sums, "all_calls": self.usage.per_endpoint(self.usage.sums["calls"])}

    @cached_property
    def prices(self) -> tuple[Floats, Floats, Floats]:
        """Prices of input, cached input and output in each hour.

        Where only the input's is known, nothing has been cached or answered: cached input is no cheaper. Where only
        the output's is known, nothing has been read.
        """
        prompt, cached, answer = (self._at(table, 0, np.nan).astype(np.float32) for table in self.usage.prices.values())
        read = np.where(np.isnan(prompt) & np.isfinite(answer), ZERO, prompt)
        answered = np.where(np.isfinite(prompt) & np.isnan(answer), ZERO, answer)
        return read, np.where(np.isnan(cached), read, cached), answered

    def total(self, name: str, window: int, lag: int = 0) -> Floats:
        """Sums over the window that ends `lag` hours before each hour's end."""
        sums = self.sums[name]
        total: Floats = (self._at(sums, lag - 1) - self._at(sums, lag - 1 + window)).astype(np.float32)
        return total

    def ratio(self, top: str, bottom: str, window: int, lag: int = 0) -> Floats:
        """One sum over another; +inf where the second is not above zero."""
        return _over(self.total(top, window, lag), self.total(bottom, window, lag))

    def baseline(self, width: int, lags: tuple[int, ...]) -> Baseline:
        """Medians over the windows of that width that end so many hours earlier."""
        key = (width, *lags)
        if key not in self._baselines:
            self._baselines[key] = self._baseline(width, lags)
        return self._baselines[key]

    def _baseline(self, width: int, lags: tuple[int, ...]) -> Baseline:
        calls = [self.total("calls", width, lag) for lag in lags]
        every = [self.total("all_calls", width, lag) for lag in lags]
        tokens = [self.total("input_tokens", width, lag) for lag in lags]
        pairs = list(zip(calls, every, tokens, lags, strict=True))
        return Baseline(
            calls=median_of_weeks([_over(all_, self.total("requests", width, lag)) for _, all_, _, lag in pairs]),
            share=median_of_weeks([_over(own, self.usage.per_model(all_)) for own, all_, _, _ in pairs]),
            input=median_of_weeks([_over(read, own) for own, _, read, _ in pairs]),
            hits=median_of_weeks([_over(self.total("cached_tokens", width, lag), read) for _, _, read, lag in pairs]),
            output=median_of_weeks([_over(self.total("output_tokens", width, lag), own) for own, _, _, lag in pairs]),
        )

    def _at(self, table: NDArray[np.float64], lag: int, before: float = 0.0) -> NDArray[np.float64]:
        """Columns of the hours, `lag` earlier."""
        begin, end = self.begin - lag, self.end - lag
        if begin >= 0:
            return table[:, begin:end]
        empty = np.full((table.shape[0], min(-begin, end - begin)), before)
        return np.concatenate([empty, table[:, : max(end, 0)]], axis=1)


def median_of_weeks(weeks: list[Floats]) -> Floats:
    """Median of four arrays, element by element; +inf says unknown, and all unknown is NaN."""
    a, b, c, d = weeks
    a, b = np.minimum(a, b), np.maximum(a, b)
    c, d = np.minimum(c, d), np.maximum(c, d)
    a, c = np.minimum(a, c), np.maximum(a, c)
    b, d = np.minimum(b, d), np.maximum(b, d)
    b, c = np.minimum(b, c), np.maximum(b, c)
    with np.errstate(invalid="ignore"):
        middle = (np.where(np.isfinite(c), b, a) + np.where(np.isfinite(d), c, b)) * np.float32(0.5)
    return np.where(np.isfinite(b), middle, np.where(np.isfinite(a), a, np.float32(np.nan)))


def rises(windows: Windows, window: int) -> Rises:
    """The rises of one window's length."""
    width = max(window, SMOOTH_HOURS)
    seasonal = tuple(WEEK * back - (width - window) // 2 for back in range(1, BASELINE_WEEKS + 1))
    level = tuple(max(LEVEL_LAG_HOURS, window) + WEEK * back for back in range(BASELINE_WEEKS))
    present = _Present(windows, window)
    of_season, _ = present.against(windows.baseline(width, seasonal))
    of_level, prompt_share = present.against(windows.baseline(WEEK, level))
    return Rises(of_season, of_level, prompt_share, windows.total("requests", window), present.spent_usd)


class _Present:
    """A window's own sums, to be held against baselines."""

    def __init__(self, windows: Windows, window: int) -> None:
        self._usage = windows.usage
        self._price, cached, self._answer = windows.prices
        with np.errstate(divide="ignore", invalid="ignore"):
            self._discount = np.where(self._price > 0, ONE - cached / self._price, self._price * ZERO)
            names = ("calls", "input_tokens", "cached_tokens", "output_tokens")
            self._calls, tokens, hits, out = (windows.total(name, window) for name in names)
            self._calls_a_request = windows.ratio("all_calls", "requests", window)
            self._full_price = tokens * self._price
            self._paid = (tokens - hits * self._discount) * self._price
            self._answered = out * self._answer
        self.spent_usd = self._sum(self._paid + self._answered) * np.float32(1e-6)

    def against(self, base: Baseline) -> tuple[dict[str, Floats], Floats]:
        """Rises over the baseline, and the prompts' share of cost at it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            prompt_price, answer_price = base.input * self._price, base.output * self._answer
            # What is never read or costs nothing has no share of it cached.
            charged = np.where(prompt_price == 0, ONE, ONE - base.hits * self._discount)
            prompts, answers = self._sum(self._calls * prompt_price * charged), self._sum(self._calls * answer_price)
            found = {
                "calls": np.log(self._calls_a_request / base.calls),
                "mix": self._mix(base, prompt_price * charged + answer_price),
                "input": np.log(
                    self._sum_where(self._full_price, prompt_price) / self._sum(self._calls * prompt_price)
                ),
                "cache": np.log(self._sum_where(self._paid, charged) / self._sum(self._full_price * charged)),
                "output": np.log(self._sum_where(self._answered, answer_price) / answers),
            }
            now = np.where(prompts > 0, prompts * np.exp(found["input"] + found["cache"]), ZERO)
            now += np.where(answers > 0, answers * np.exp(found["output"]), ZERO)
            found["total"] = found["calls"] + found["mix"] + np.log(now / (prompts + answers))
            share = prompts / (prompts + answers)
        return {name: np.where(np.isfinite(rise), rise, np.float32(np.nan)) for name, rise in found.items()}, share

    def _mix(self, base: Baseline, usual: Floats) -> Floats:
        """A model without a baseline is a change of mix: what its calls cost now is what they cost."""
        now = _over(self._paid + self._answered, self._calls)
        a_call = np.where(np.isfinite(usual), usual, np.where(np.isfinite(now), now, ZERO))
        share = np.where(np.isfinite(base.share), base.share, ZERO)
        per = self._usage.per_endpoint
        rise: Floats = np.log(per(self._calls * a_call) / per(self._calls) / (per(share * a_call) / per(share)))
        return rise

    def _sum(self, values: Floats) -> Floats:
        return self._usage.per_endpoint(np.where(np.isfinite(values), values, ZERO))

    def _sum_where(self, values: Floats, known: Floats) -> Floats:
        return self._usage.per_endpoint(np.where(np.isfinite(known), values, ZERO))


def _over(top: Floats, bottom: Floats) -> Floats:
    return np.divide(top, bottom, out=np.full_like(top, np.inf), where=bottom > 0)
