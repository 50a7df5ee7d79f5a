"""Learned weights: boosted trees in a JSON file, read and evaluated with numpy alone.

A tree's splits stand in any order. A row that goes right at a split cannot end in the leaves left of it, so those
bits are cleared from the row's set of leaves; the first leaf that remains is the row's (the QuickScorer of Lucchese
and others, 2015). No tree has more leaves than a word has bits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

LEAVES_MAX = 32
# So many rows at a time stay in a processor's cache.
ROWS_A_BLOCK = 4096
EVERY_LEAF = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True)
class Tree:
    """Splits (feature, threshold, leaves that remain on the right) and the leaves' values from left to right."""

    splits: tuple[tuple[int, float, int], ...]
    values: Floats


@dataclass(frozen=True)
class Forest:
    """`score` is a log-odds; `bounds` are the least and largest values of some features in training."""

    features: tuple[str, ...]
    intercept: float
    trees: tuple[Tree, ...]
    bounds: dict[str, tuple[float, float]]

    def score(self, table: Floats) -> Floats:
        """A log-odds for each row of the features, in their order."""
        blocks = [self._score(table[at : at + ROWS_A_BLOCK]) for at in range(0, len(table), ROWS_A_BLOCK)]
        return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)

    def is_familiar(self, columns: Mapping[str, Floats]) -> NDArray[np.bool_]:
        """Whether each row lies within what training saw."""
        inside = [(columns[name] >= low) & (columns[name] <= high) for name, (low, high) in self.bounds.items()]
        familiar: NDArray[np.bool_] = np.logical_and.reduce(inside)
        return familiar

    def _score(self, rows: Floats) -> Floats:
        by_feature = np.ascontiguousarray(rows.T)
        total = np.full(len(rows), self.intercept, dtype=np.float32)
        for tree in self.trees:
            leaves = np.full(len(rows), EVERY_LEAF)
            for feature, threshold, remaining in tree.splits:
                leaves &= np.where(by_feature[feature] > np.float32(threshold), np.uint32(remaining), EVERY_LEAF)
            first = np.log2((leaves & (~leaves + np.uint32(1))).astype(np.float32)).astype(np.int64)
            total += tree.values[first]
        return total


def forest_of(stored: Mapping[str, Any]) -> Forest:
    """A forest from its JSON object."""
    return Forest(
        features=tuple(stored["features"]),
        intercept=float(stored["intercept"]),
        trees=tuple(
            Tree(
                tuple((int(f), float(t), int(r)) for f, t, r in zip(*tree["splits"], strict=True)),
                np.array(tree["values"], dtype=np.float32),
            )
            for tree in stored["trees"]
        ),
        bounds={name: (float(low), float(high)) for name, (low, high) in stored["bounds"].items()},
    )


@cache
def shipped_forest() -> Forest:
    """The weights that come with this package; `training` says how they were made."""
    return forest_of(json.loads(resources.files("analytics.detection").joinpath("weights.json").read_text()))
