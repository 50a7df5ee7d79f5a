"""How well the detector does on drawn workloads, as JSON: python benchmarks/detector.py [--workloads 3].

`shipped` are the weights that come with the package, `rule` is the detector without them, and `without KIND` are
weights that never saw that kind of incident (fitted here from `--train` workloads). Sizes halve and double every
planted rise. The workloads' seeds are not those of the training. `recall` is by kind of the planted incidents whose
rise is at least 10 %; `false_alarms` are alarms in quiet hours per endpoint-week of all judged hours.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from analytics.detection import DetectionSettings
from analytics.detection.alarms import ringing
from analytics.detection.features import Outlook, look
from analytics.detection.training.fit import examples, fit, stored
from analytics.detection.training.incidents import Recipe
from analytics.detection.training.workload import FIRST_HOUR, QUIET, WRONG, Workload, draw_workload
from analytics.detection.trees import Forest, forest_of, shipped_forest
from analytics.detection.usage import checked, dense
from analytics.detection.verdicts import judge

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST_SEED = 9000
ENDPOINTS, WEEKS = 150, 10
LATE_HOURS = 6

Case = tuple[Workload, Outlook]


def draw(seeds: Iterable[int], recipe: Recipe) -> list[Case]:
    """Workloads with the outlook on all of their hours."""
    cases: list[Case] = []
    for seed in seeds:
        workload = draw_workload(seed, ENDPOINTS, WEEKS, recipe)
        usage = dense(checked(workload.usage), FIRST_HOUR, workload.truth.shape[1])
        cases.append((workload, look(usage, 0, usage.hours)))
    return cases


def measure(cases: list[Case], forest: Forest | None) -> dict[str, object]:
    """Recall by kind and false alarms of one judge; None is the rule."""
    settings = DetectionSettings(learned_enabled=forest is not None)
    planted: Counter[str] = Counter()
    found: Counter[str] = Counter()
    false, weeks = 0, 0.0
    for workload, outlook in cases:
        verdicts = judge(outlook, settings, forest)
        rings = np.zeros(workload.truth.shape, dtype=np.bool_)
        for alarm in ringing(verdicts.opens, verdicts.stays, settings):
            rings[alarm.endpoint, list(alarm.hours)] = True
            false += workload.truth[alarm.endpoint, alarm.confirmed] == QUIET
        weeks += float(verdicts.is_known.sum()) / 168
        for one in workload.incidents:
            if (workload.truth[one.endpoint, one.start : one.end] == WRONG).any():
                planted[one.kind] += 1
                found[one.kind] += int(rings[one.endpoint, one.start : one.end + LATE_HOURS].any())
    recall = {kind: round(int(found[kind]) / planted[kind], 3) for kind in sorted(planted)}
    whole = round(int(found.total()) / max(planted.total(), 1), 3)
    return {"false_alarms": round(int(false) / weeks, 4), "recall": whole, "recall_by_kind": recall}


def trained(train: int, left_out: str) -> Forest:
    """Weights that never saw one kind of incident."""
    recipe = Recipe(kinds=tuple(kind for kind in Recipe().kinds if kind != left_out))
    parts = [examples(draw_workload(seed, 200, WEEKS, recipe), seed) for seed in range(train)]
    return forest_of(json.loads(json.dumps(stored(fit(parts)))))


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workloads", type=int, default=3)
    options.add_argument("--train", type=int, default=0, help="workloads to train on without each kind; 0: leave out")
    given = options.parse_args()
    seeds = range(FIRST_SEED, FIRST_SEED + given.workloads)
    figures: dict[str, object] = {}
    for size in (0.5, 1.0, 2.0):
        cases = draw(seeds, replace(Recipe(), size=size))
        figures[f"size {size}"] = {"shipped": measure(cases, shipped_forest()), "rule": measure(cases, None)}
    if given.train:
        cases = draw(seeds, Recipe())
        for kind in Recipe().kinds:
            figures[f"without {kind}"] = measure(cases, trained(given.train, kind))
    print(json.dumps({"detector": figures}, indent=2))


if __name__ == "__main__":
    main()
