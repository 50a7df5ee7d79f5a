"""What a span costs on its way in, as JSON: python benchmarks/ingest.py [--bodies 40] [--rounds 3] [--seconds 20].

All figures are from one run, the ways in measured in turn, so that they can be compared with each other; CPU is of all
threads of the process, medians over the rounds, in microseconds a span. Bodies are 500 spans of 12 attributes.

end_to_end_cpu_us   the whole server, from the socket until the rows are stored, over loopback HTTP, uncompressed
python_decode_...   walking the spans in Python, columnar insert; nothing else
official_parser_... parsing alone
floor_...           the engine inserting the same rows from a Native file, 40 bodies at once
ack_...             at half of spans_per_second in an open loop; in company: the job, a panel and a full
                    recomputation run in the same process all the while
bytes_per_span      from benchmarks/disk.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from disk import measure as measure_disk
from server.bodies import template
from server.end_to_end import SPANS_A_BODY, measure_end_to_end
from server.otelcol import measure_otelcol
from server.paths import measure_paths


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=40, help="bodies a round (default 40)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--seconds", type=float, default=20, help="length of each load (default 20)")
    parser.add_argument(
        "--traces", type=int, default=60_000, help="traces of five spans for the sizes (default 60,000)"
    )
    parser.add_argument("--otelcol", type=Path, help="binary of the OpenTelemetry Collector, to be measured as well")
    parser.add_argument("--json", action="store_true", help="accepted for symmetry: the output is always JSON")
    arguments = parser.parse_args()
    body = template(SPANS_A_BODY)
    results: dict[str, Any] = {"spans_a_body": SPANS_A_BODY, "body_bytes": len(body)}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        results |= measure_paths(here / "paths", body, SPANS_A_BODY, arguments.bodies, arguments.rounds)
        results |= measure_end_to_end(here / "served", arguments.seconds)
        if arguments.otelcol:
            results |= measure_otelcol(arguments.otelcol, here, arguments.seconds)
    sizes = measure_disk(arguments.traces)
    results |= {name: sizes[name] for name in ("bytes_per_span", "exporter_schema_bytes_per_span")}
    print(json.dumps(results | {"ratios": ratios(results)}, indent=1))


def ratios(results: dict[str, Any]) -> dict[str, float]:
    """What the figures are compared by."""
    cpu = results["end_to_end_cpu_us"]
    return {
        "end_to_end_to_floor": round(cpu / results["floor_cpu_us"], 2),
        "python_decode_to_end_to_end": round(results["python_decode_cpu_us"] / cpu, 2),
        "bytes_to_exporter_schema": round(results["bytes_per_span"] / results["exporter_schema_bytes_per_span"], 2),
    }


if __name__ == "__main__":
    main()
