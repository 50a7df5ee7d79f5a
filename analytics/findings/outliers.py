"""Windows whose drivers, taken together, are unlike the weeks before: a robust Mahalanobis distance.

For each series and week a minimum covariance determinant (Rousseeuw 1999, scikit-learn's MinCovDet) is
fitted to the windows of the weeks before that week; squared distances of ordinary windows then follow a
chi-square law. Only windows that cost more per request are outliers here, so that a week without any needs
no fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analytics.findings.facts import HOURS_A_WEEK, SERIES
from analytics.findings.rules import OUTLIER, verdict
from analytics.findings.windows import COST_PER_1K_REQUESTS, UNPRICED_SHARE_CHANGE_MAX, ratio, trailing

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray

    from analytics.findings.settings import FindingsSettings

    Floats = NDArray[np.float64]

DRIVERS = [
    "log_cost_per_request",
    "log_input_per_call",
    "log_output_per_call",
    "log_calls_per_request",
    "cached_share",
]
# Windows overlap, so that one in this many hours says nearly all that the others say.
TRAINING_STEP_HOURS = 3
# A week of windows; fewer do not tell a covariance of five drivers.
TRAINING_WINDOWS_MIN = HOURS_A_WEEK // TRAINING_STEP_HOURS
# A driver that is unknown in more windows than that is not judged.
KNOWN_SHARE_MIN = 0.9
# Movements of this size (in log units, or share of input) are unremarkable however still a series has been;
# it also keeps drivers that move together from making a tiny deviation look enormous.
FLOOR = 0.05
# A driver that hardly moves makes the covariance singular; far below FLOOR, this changes no distance.
DITHER = 0.005
SEED = 0


@dataclass(frozen=True)
class Normal:
    """What windows of a series look like: the drivers that can be judged, their centre and precision."""

    drivers: NDArray[np.int64]
    centre: Floats
    precision: Floats
    requests: float
    limit: float

    def distances(self, vectors: Floats, requests: Floats) -> Floats:
        """Squared distances; NaN where a driver is unknown. Windows with few requests are noisier."""
        offset = vectors[:, self.drivers] - self.centre
        squared: Floats = np.einsum("ij,jk,ik->i", offset, self.precision, offset)
        weighted: Floats = squared * np.minimum(1.0, requests / self.requests)
        return weighted


def outliers(hours: pl.DataFrame, since: datetime, settings: FindingsSettings) -> pl.DataFrame:
    """Verdicts for the hours from `since` on."""
    windows = _vectors(hours, settings.outlier_window_hours)
    judged = [_judge_series(series, since, settings) for series in windows.partition_by(SERIES, maintain_order=True)]
    if not judged:
        return verdict(_no_windows(windows), OUTLIER, COST_PER_1K_REQUESTS.name)
    return verdict(pl.concat(judged), OUTLIER, COST_PER_1K_REQUESTS.name)


def learn(vectors: Floats, requests: Floats, chance_max: float) -> Normal | None:
    """What is normal, from training windows; None where there are too few."""
    # Imported here because it takes seconds, which every command line would wait for.
    from scipy.stats import chi2
    from sklearn.covariance import MinCovDet

    drivers = np.flatnonzero(np.isfinite(vectors).mean(axis=0) > KNOWN_SHARE_MIN)
    sound = np.isfinite(vectors[:, drivers]).all(axis=1)
    if 0 not in drivers or sound.sum() < TRAINING_WINDOWS_MIN:
        return None
    training = vectors[np.ix_(sound, drivers)]
    dithered = training + np.random.default_rng(SEED).normal(0.0, DITHER, training.shape)
    fitted = MinCovDet(random_state=SEED).fit(dithered)
    covariance = fitted.covariance_ + FLOOR**2 * np.eye(len(drivers))
    return Normal(
        drivers=drivers,
        centre=fitted.location_,
        precision=np.linalg.inv(covariance).astype(np.float64),
        requests=float(np.median(requests[sound])),
        limit=float(chi2.isf(chance_max, len(drivers))),
    )


def _vectors(hours: pl.DataFrame, window: int) -> pl.DataFrame:
    sums = ["requests", "calls", "unpriced_calls", "input_tokens", "output_tokens", "cost_usd"]
    sums += ["cache_read_tokens", "cache_reporting_input_tokens"]
    totals = hours.select(*SERIES, "hour", *[trailing(name, window).alias(name) for name in sums])
    per_request = ratio("calls", "requests")
    return totals.select(
        *SERIES,
        "hour",
        "requests",
        ratio("unpriced_calls", "calls").alias("unpriced_share"),
        ratio("cost_usd", "requests").alias("cost_per_request"),
        _log(ratio("cost_usd", "requests")).alias("log_cost_per_request"),
        _log(ratio("input_tokens", "calls")).alias("log_input_per_call"),
        _log(ratio("output_tokens", "calls")).alias("log_output_per_call"),
        _log(per_request).alias("log_calls_per_request"),
        ratio("cache_read_tokens", "cache_reporting_input_tokens").alias("cached_share"),
    )


def _log(value: pl.Expr) -> pl.Expr:
    return pl.when(value > 0).then(value.log())


def _judge_series(series: pl.DataFrame, since: datetime, settings: FindingsSettings) -> pl.DataFrame:
    vectors = series.select(pl.col(DRIVERS).fill_null(float("nan"))).to_numpy()
    requests = series["requests"].fill_null(0.0).to_numpy()
    unpriced = series["unpriced_share"].fill_null(0.0).to_numpy()
    hour = series["hour"].dt.epoch("s").to_numpy() // 3600
    first = int(since.timestamp()) // 3600
    expected = np.full(len(hour), np.nan)
    surprise = np.full(len(hour), np.nan)
    for monday in _mondays(first, int(hour[-1])):
        past = (hour < monday) & (hour >= monday - settings.baseline_weeks * HOURS_A_WEEK)
        past &= (hour % TRAINING_STEP_HOURS == 0) & np.isfinite(vectors[:, 0])
        alike = np.abs(unpriced - np.median(unpriced[past])) <= UNPRICED_SHARE_CHANGE_MAX if past.any() else past
        past &= alike
        week = alike & (hour >= max(monday, first)) & (hour < monday + HOURS_A_WEEK)
        if past.sum() < TRAINING_WINDOWS_MIN or not week.any():
            continue
        usual = float(np.median(vectors[past, 0]))
        expected[week], surprise[week] = np.exp(usual), 0.0
        dearer = week & (vectors[:, 0] - usual >= np.log1p(settings.hysteresis * settings.outlier_rise_min))
        normal = learn(vectors[past], requests[past], settings.outlier_chance_max) if dearer.any() else None
        if normal:
            surprise[dearer] = normal.distances(vectors[dearer], requests[dearer]) / normal.limit
    judged = series.with_columns(pl.Series("expected", expected), pl.Series("surprise", surprise))
    return _apply(judged.fill_nan(None).filter(pl.col("hour") >= since), settings)


def _mondays(first_hour: int, last_hour: int) -> range:
    """Hours since 1970 at which weeks begin, from the week of the first hour to that of the last."""
    epoch_monday = 4 * 24  # 1970-01-05
    start = first_hour - (first_hour - epoch_monday) % HOURS_A_WEEK
    return range(start, last_hour + 1, HOURS_A_WEEK)


def _apply(judged: pl.DataFrame, settings: FindingsSettings) -> pl.DataFrame:
    window = settings.outlier_window_hours
    rise = ratio("cost_per_request", "expected") - 1
    excess_usd = (pl.col("cost_per_request") - pl.col("expected")) * pl.col("requests")
    least_usd = float(settings.min_impact_usd_per_day) * window / 24
    enough = pl.col("requests") >= settings.min_requests * window / settings.window_hours
    opens = (pl.col("surprise") >= 1) & (rise >= settings.outlier_rise_min) & (excess_usd >= least_usd)
    # Distances are squared.
    stays = (pl.col("surprise") >= settings.hysteresis**2) & (rise >= settings.hysteresis * settings.outlier_rise_min)
    return judged.with_columns(
        (enough & pl.col("surprise").is_not_null()).alias("known"),
        (enough & opens).alias("opens"),
        stays.alias("stays"),
    )


def _no_windows(windows: pl.DataFrame) -> pl.DataFrame:
    return windows.with_columns(*[pl.lit(value=False).alias(name) for name in ("known", "opens", "stays")])
