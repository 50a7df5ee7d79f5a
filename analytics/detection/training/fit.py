"""From workloads to weights: which hours are learned from, what they weigh, the fit, and its JSON form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analytics.detection.features import CANDIDATE_MARGIN, Vectors, look
from analytics.detection.training.workload import FIRST_HOUR, UNSURE, WRONG, Workload
from analytics.detection.trees import LEAVES_MAX
from analytics.detection.usage import checked, dense
from analytics.detection.verdicts import AGE_HOURS_MIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

# Half of the quiet hours are enough, at double weight.
QUIET_SHARE = 0.5
# Incidents of this many hours weigh as much as their hours; longer ones less an hour, shorter ones more.
TYPICAL_HOURS = 60
LENGTH_POWER = 0.7
TREES = 100
LEAVES = 24
# Hours whose traits lie beyond the outermost thousandth of the training are unlike it.
OUTERMOST = 0.001
TRAITS = ("total_size_24h", "total_size_168h", "log_requests")


@dataclass(frozen=True)
class Examples:
    """Vectors of hours, whether something is wrong in them, and what they weigh."""

    names: tuple[str, ...]
    table: Floats
    is_wrong: NDArray[np.bool_]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A fitted classifier and what it was fitted to."""

    names: tuple[str, ...]
    classifier: Any
    bounds: dict[str, tuple[float, float]]


def examples(workload: Workload, seed: int) -> Examples:
    """The hours near the rule of a workload, without those that are neither quiet nor surely wrong."""
    usage = dense(checked(workload.usage), FIRST_HOUR, workload.truth.shape[1])
    outlook = look(usage, 0, usage.hours)
    with np.errstate(divide="ignore", invalid="ignore"):
        near = outlook.margins()[0] >= CANDIDATE_MARGIN
    truth = workload.truth
    wanted = near & (truth != UNSURE) & (np.arange(usage.hours) >= usage.born[:, None] + AGE_HOURS_MIN)
    drawn = np.random.default_rng(seed).random(truth.shape) < QUIET_SHARE
    cells = np.array(np.nonzero(wanted & (drawn | (truth == WRONG))))
    is_wrong = truth[cells[0], cells[1]] == WRONG
    vectors = Vectors(outlook, cells)
    return Examples(tuple(vectors.columns), vectors.table(), is_wrong, _weights(workload, cells, is_wrong))


def fit(parts: Sequence[Examples]) -> Fit:
    """Fit trees to all examples."""
    # Imported here because it takes seconds.
    from sklearn.ensemble import HistGradientBoostingClassifier

    table = np.concatenate([part.table for part in parts])
    classifier: Any = HistGradientBoostingClassifier(
        max_iter=TREES,
        learning_rate=0.1,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=200,
        l2_regularization=1.0,
        max_bins=64,
        early_stopping=False,  # pyright: ignore[reportArgumentType] - scikit-learn takes a bool, too
        random_state=0,
    ).fit(table, np.concatenate([p.is_wrong for p in parts]), np.concatenate([p.weights for p in parts]))
    names = parts[0].names
    return Fit(names, classifier, {name: _range(table[:, names.index(name)]) for name in TRAITS})


def stored(fitted: Fit) -> dict[str, Any]:
    """The fit as the JSON object that `trees.forest_of` reads."""
    predictors = [stage[0] for stage in fitted.classifier._predictors]  # noqa: SLF001 - no public form
    return {
        "features": list(fitted.names),
        "intercept": round(float(fitted.classifier._baseline_prediction[0, 0]), 6),  # noqa: SLF001
        "bounds": fitted.bounds,
        "trees": [_tree(predictor.nodes) for predictor in predictors],
    }


def _weights(workload: Workload, cells: NDArray[np.int64], is_wrong: NDArray[np.bool_]) -> NDArray[np.float64]:
    weights = np.where(is_wrong, 1.0, 1 / QUIET_SHARE)
    for incident in workload.incidents:
        own = (cells[0] == incident.endpoint) & (cells[1] >= incident.start) & (cells[1] < incident.end) & is_wrong
        if own.any():
            weights[own] = (TYPICAL_HOURS / own.sum()) ** LENGTH_POWER
    return weights


def _range(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [OUTERMOST, 1 - OUTERMOST])
    return round(float(low), 6), round(float(high), 6)


def _not_above(threshold: float) -> float:
    """The largest 32-bit number that is not above, so that 32-bit features fall on the side that training saw."""
    near = np.float32(threshold)
    return float(f"{near if near <= threshold else np.nextafter(near, np.float32(-np.inf)):.9g}")


def _tree(nodes: NDArray[Any]) -> dict[str, Any]:
    splits: list[tuple[int, float, int]] = []
    values: list[float] = []

    def walk(place: int) -> int:
        """Visit from left to right; returns the set of the node's leaves."""
        node = nodes[place]
        if node["is_leaf"]:
            values.append(round(float(node["value"]), 5))
            return 1 << len(values) - 1
        left = walk(int(node["left"]))
        right = walk(int(node["right"]))
        splits.append(
            (int(node["feature_idx"]), _not_above(float(node["num_threshold"])), (1 << LEAVES_MAX) - 1 - left)
        )
        return left | right

    walk(0)
    return {"splits": [list(column) for column in zip(*splits, strict=True)], "values": values}
