"""A score for every hour of every endpoint: by the learned weights where they know such data, else by the rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analytics.detection.features import CANDIDATE_MARGIN, Outlook, Vectors
from analytics.detection.trees import Forest, shipped_forest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from analytics.detection.settings import DetectionSettings

    Floats = NDArray[np.floating[Any]]
    Bools = NDArray[np.bool_]

# A rule's margin is as far above its threshold as a score of that many log-odds for each whole of it.
LOG_ODDS_A_MARGIN = 4.0
QUIET = -20.0
# Younger endpoints are not judged: their baseline and its usual movement are not known yet.
AGE_HOURS_MIN = 2 * 168
# How far below its threshold an alarm that rang still holds, in log-odds.
HYSTERESIS = 2.0
DOLLAR_WINDOWS = (3, 12, 24)


@dataclass(frozen=True)
class Verdicts:
    """Per endpoint and hour: the score above its threshold (0 rings, QUIET where nothing is near), and who judged."""

    score: Floats
    is_learned: Bools
    margin: Floats
    is_known: Bools

    @property
    def opens(self) -> Bools:
        """Hours in which an alarm may begin to ring."""
        return self.score >= 0

    @property
    def stays(self) -> Bools:
        """Hours in which an alarm that rang still holds."""
        return self.score >= -HYSTERESIS


def judge(outlook: Outlook, settings: DetectionSettings, forest: Forest | None = None) -> Verdicts:
    """Verdicts on the outlook's hours; another forest may be given in place of the shipped one."""
    with np.errstate(divide="ignore", invalid="ignore"):
        near, margin = outlook.margins()
        is_known = np.isfinite(near) & _is_old_enough(outlook) & _is_priced(outlook)
        matters = _excess_usd_per_day(outlook) >= float(settings.min_impact_usd_per_day)
    by_rule = (margin - np.float32(settings.rule_margin_min)) * np.float32(LOG_ODDS_A_MARGIN)
    candidate = is_known & matters & (near >= CANDIDATE_MARGIN)
    score = np.where(candidate, by_rule, np.float32(QUIET)).astype(np.float32)
    is_learned = np.zeros(score.shape, dtype=np.bool_)
    if settings.learned_enabled:
        cells = np.array(np.nonzero(candidate))
        forest = forest or shipped_forest()
        vectors = Vectors(outlook, cells)
        if forest.features != tuple(vectors.columns):
            raise ValueError("expected weights of the features that this version makes, got others; train them again")
        familiar = forest.is_familiar(vectors.columns)
        place = tuple(cells[:, familiar])
        score[place] = forest.score(vectors.table()[familiar]) - np.float32(settings.learned_score_min)
        is_learned[place] = True
    return Verdicts(score, is_learned, margin, is_known)


def _is_old_enough(outlook: Outlook) -> Bools:
    hour = np.arange(outlook.usual_requests.shape[1]) + outlook.begin
    return hour[None, :] - outlook.usage.born[:, None] >= AGE_HOURS_MIN


def _is_priced(outlook: Outlook) -> Bools:
    """Whether any price of any of the endpoint's models is known."""
    hours = slice(outlook.begin, outlook.begin + outlook.usual_requests.shape[1])
    known = np.logical_or.reduce([np.isfinite(table[:, hours]) for table in outlook.usage.prices.values()])
    priced: Bools = outlook.usage.per_endpoint(known.astype(np.float32)) > 0
    return priced


def _excess_usd_per_day(outlook: Outlook) -> Floats:
    """What the rise costs a day, over the window in which it costs most."""
    found = np.zeros(outlook.usual_requests.shape, dtype=np.float32)
    for window in DOLLAR_WINDOWS:
        rise = outlook.rises[window]
        excess = rise.spent_usd * (1 - np.exp(-rise.lesser["total"])) * np.float32(24 / window)
        found = np.fmax(found, excess)
    return found
