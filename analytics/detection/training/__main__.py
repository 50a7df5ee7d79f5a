"""Learn the detector's weights: python -m analytics.detection.training --out weights.json [--workloads 30].

Draws workloads from fixed seeds, looks at the hours near the rule, and fits gradient-boosted trees (scikit-learn) that
tell hours of incidents from quiet ones. The same arguments and library versions give the same file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from analytics.detection.training.fit import Examples, examples, fit, stored
from analytics.detection.training.incidents import Recipe
from analytics.detection.training.workload import draw_workload


def main() -> None:
    """Draw, fit, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workloads", type=int, default=30, help="drawn workloads of 200 endpoints and 10 weeks")
    options.add_argument("--first-seed", type=int, default=0)
    options.add_argument("--without", default="", help="an incident kind to leave out of the training")
    options.add_argument("--size", type=float, default=1.0, help="multiplies the size of the incidents")
    options.add_argument("--out", type=Path, required=True, help="where the weights are written")
    given = options.parse_args()
    recipe = Recipe(kinds=tuple(kind for kind in Recipe().kinds if kind != given.without), size=given.size)
    parts: list[Examples] = []
    for seed in range(given.first_seed, given.first_seed + given.workloads):
        parts.append(examples(draw_workload(seed, 200, 10, recipe), seed))
        sys.stderr.write(f"workload {seed}: {len(parts[-1].is_wrong):,} hours\n")
    given.out.write_text(json.dumps(stored(fit(parts)), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
