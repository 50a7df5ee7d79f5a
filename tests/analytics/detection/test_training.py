"""What the weights are learned from: drawn workloads whose labels say what was planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from analytics.detection.training.fit import examples, fit, stored
from analytics.detection.training.incidents import Recipe
from analytics.detection.training.workload import QUIET, UNSURE, WRONG, draw_workload
from analytics.detection.trees import forest_of

ENDPOINTS, WEEKS = 25, 8


def test_the_same_seed_draws_the_same_workload_and_another_draws_another() -> None:
    first, again, other = (draw_workload(seed, ENDPOINTS, WEEKS, Recipe()) for seed in (1, 1, 2))
    assert first.usage.equals(again.usage)
    assert np.array_equal(first.truth, again.truth)
    assert not first.usage.equals(other.usage)


def test_hours_outside_of_incidents_and_their_grace_are_quiet() -> None:
    drawn = draw_workload(3, ENDPOINTS, WEEKS, Recipe())
    touched = np.zeros(drawn.truth.shape, dtype=np.bool_)
    for incident in drawn.incidents:
        touched[incident.endpoint, incident.start : incident.end + 24] = True
    assert (drawn.truth[~touched] == QUIET).all()
    assert set(np.unique(drawn.truth[touched])) == {UNSURE, WRONG}


def test_a_kind_that_is_left_out_is_not_drawn_and_sizes_scale_what_is_wrong() -> None:
    kinds = tuple(kind for kind in Recipe().kinds if kind != "slow_drift")
    drawn = draw_workload(4, ENDPOINTS, WEEKS, Recipe(kinds=kinds))
    assert {incident.kind for incident in drawn.incidents} <= set(kinds)
    small, large = (draw_workload(4, ENDPOINTS, WEEKS, replace(Recipe(), size=size)) for size in (0.3, 2.0))
    assert (small.truth == WRONG).sum() < (large.truth == WRONG).sum()


@pytest.mark.slow
def test_weights_learned_from_drawn_usage_score_wrong_hours_above_quiet_ones() -> None:
    parts = [examples(draw_workload(seed, 60, WEEKS, Recipe()), seed) for seed in (5, 6)]
    forest = forest_of(stored(fit(parts)))
    unseen = examples(draw_workload(7, 60, WEEKS, Recipe()), 7)
    scores = forest.score(unseen.table)
    ranks = pl.Series(scores).rank().to_numpy()
    wrong, quiet = unseen.is_wrong.sum(), (~unseen.is_wrong).sum()
    area_under_curve = (ranks[unseen.is_wrong].sum() - wrong * (wrong + 1) / 2) / (wrong * quiet)
    assert area_under_curve > 0.75
