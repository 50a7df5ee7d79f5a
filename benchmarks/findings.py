"""How good the detector is on drawn traffic, as JSON: python benchmarks/findings.py [--draws 14].

A draw is five weeks of nine endpoints at 20 requests an hour on average, priced in memory: seven clean ones (among
them a spike, a holiday, missing hours and a new endpoint), a prompt that grows by 80 % and a prompt cache that breaks.
Draws end on every day of the week in turn. `missed` counts planted incidents without any finding, and
`false_findings` findings on clean endpoints; `dated_within_6_hours` is a share of the planted incidents' findings.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from analytics.findings import FindingsSettings
from analytics.findings.detection import judge
from analytics.findings.episodes import Episode, episodes
from analytics.findings.facts import typed
from tests.analytics.findings.traffic import START, WEEK, Change, Endpoint, as_read, facts

HOUR = timedelta(hours=1)


def endpoints(hours: int) -> tuple[list[Endpoint], dict[str, int]]:
    """The endpoints of a draw of so many hours, and the onsets that are planted in it."""
    onsets = {"/summarize": hours - 70, "/chat": hours - 45}
    grew, broke = Change(onsets["/summarize"], input=1.8), Change(onsets["/chat"], prompt_cache=0.07)
    return [
        Endpoint("/summarize", changes=(grew,)),
        Endpoint("/chat", model="large", prompt_cache=0.74, changes=(broke,)),
        Endpoint("/classify", input_median=400, output_median=150),
        Endpoint("/search", prompt_cache=0.6),
        Endpoint("/answer", response_cache=0.4, model="large"),
        Endpoint("/spike", changes=(Change(hours - 60, hours - 40, traffic=5),)),
        Endpoint("/holiday", changes=(Change(hours - 200, hours - 50, traffic=0.4),)),
        Endpoint("/missing", changes=(Change(hours - 60, hours - 52, traffic=0),)),
        Endpoint("/new", first_hour=hours - 90),
    ], onsets


def draw(seed: int) -> tuple[list[Episode], dict[str, int]]:
    """Every episode of the last two weeks of a draw, and the planted onsets."""
    hours = 5 * WEEK + seed % 7 * 24
    drawn, onsets = endpoints(hours)
    settings, until = FindingsSettings(), START + hours * HOUR
    judged = judge(typed(as_read(facts(drawn, hours, seed))), until - 2 * WEEK * HOUR, until, settings)
    return episodes(judged.verdicts, judged.hours, settings), onsets


def measure(draws: int) -> dict[str, float]:
    """Counts over the draws."""
    missed = false = found = near = 0
    for seed in range(draws):
        episodes_of_draw, onsets = draw(seed)
        planted = [one for one in episodes_of_draw if one.series.endpoint in onsets]
        late = [abs((one.started_at - START) / HOUR - onsets[one.series.endpoint]) for one in planted]
        found, near = found + len(planted), near + sum(hours <= 6 for hours in late)
        missed += len(onsets) - len({one.series.endpoint for one in planted})
        false += len(episodes_of_draw) - len(planted)
    return {
        "draws": draws,
        "planted": 2 * draws,
        "missed": missed,
        "false_findings": false,
        "dated_within_6_hours": round(near / found, 3) if found else 0.0,
    }


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--draws", type=int, default=14)
    print(json.dumps({"findings": measure(options.parse_args().draws)}, indent=2))


if __name__ == "__main__":
    main()
