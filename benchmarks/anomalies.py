"""How fast the detector is, as JSON: python benchmarks/anomalies.py [--endpoints 10000] [--weeks 10].

Drawn usage is written to a Parquet file; `backfill` runs `backtest` over it, once over a quarter of the endpoints and
once over all. `increment` judges one more hour of all endpoints, with the summaries of the days before at hand. Run it
on two cores: taskset -c 0,1 python benchmarks/anomalies.py. `peak_memory_bytes` is the process's largest resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from analytics.detection import DetectionSettings, backtest
from analytics.detection.background import Days
from analytics.detection.features import look, summarise_all
from analytics.detection.training.incidents import Recipe
from analytics.detection.training.workload import draw_workload
from analytics.detection.usage import Piece, Usage, checked, hours_of, pieces
from analytics.detection.verdicts import judge

DRAWN_ENDPOINTS = 250
BLOCK_ENDPOINTS = 2000


def write_usage(path: Path, endpoints: int, weeks: int) -> int:
    """Drawn endpoints, again under other names until there are enough; returns the rows."""
    drawn = draw_workload(0, min(DRAWN_ENDPOINTS, endpoints), weeks, Recipe()).usage
    rows = 0
    writer: pq.ParquetWriter | None = None
    for copy in range(-(-endpoints // DRAWN_ENDPOINTS)):
        table = drawn.with_columns(pl.lit(f"copy-{copy:04d}/").add(pl.col("endpoint")).alias("endpoint")).to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
        rows += table.num_rows
    if writer:
        writer.close()
    return rows


def backfill(path: Path, endpoints: int) -> dict[str, float]:
    """Seconds and alarms over the first so many endpoints."""
    copies = -(-endpoints // DRAWN_ENDPOINTS)
    source = pl.scan_parquet(path).filter(pl.col("endpoint") < f"copy-{copies:04d}/")
    began, cpu = time.monotonic(), time.process_time()
    done = backtest(source, DetectionSettings())
    return {
        "endpoints": done.endpoints,
        "alarms": done.notifications,
        "seconds": round(time.monotonic() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
    }


def increment(path: Path, endpoints: int) -> dict[str, float]:
    """Seconds to judge one hour of all endpoints; a block of them stands for the others, to spare memory."""
    block = min(endpoints, BLOCK_ENDPOINTS)
    source = pl.scan_parquet(path).filter(pl.col("endpoint") < f"copy-{block // DRAWN_ENDPOINTS:04d}/")
    rows, span = checked(source.collect()), hours_of(source)
    days = [summarise_all(look(one, 0, one.hours).rises, one.first_hour % 24) for one in map(dense, pieces(rows, span))]
    (usage,) = [piece.dense() for piece in pieces(rows, span, BLOCK_ENDPOINTS)]
    summaries = {
        window: {driver: joined([part[window][driver] for part in days]) for driver in days[0][window]}
        for window in days[0]
    }
    began, cpu = time.monotonic(), time.process_time()

    def judge_hour(_block: int) -> None:
        judge(look(usage, usage.hours - 1, usage.hours, summaries), DetectionSettings())

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(judge_hour, range(-(-endpoints // block))))
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu
    return {"endpoints": endpoints, "seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2)}


def dense(piece: Piece) -> Usage:
    """The piece as arrays."""
    return piece.dense()


def joined(parts: list[Days]) -> Days:
    """Summaries of several pieces' endpoints as one."""
    return Days(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("seasonal", "level", "largest")))


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--endpoints", type=int, default=10_000)
    options.add_argument("--weeks", type=int, default=10)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "usage.parquet"
        rows = write_usage(path, given.endpoints, given.weeks)
        figures = {
            "cores": len(os.sched_getaffinity(0)),
            "rows": rows,
            "backfill_quarter": backfill(path, given.endpoints // 4),
            "backfill": backfill(path, given.endpoints),
            "increment": increment(path, given.endpoints),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
    print(json.dumps({"anomalies": figures}, indent=2))


if __name__ == "__main__":
    main()
