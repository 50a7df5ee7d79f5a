"""Surprises of the univariate fallback: python benchmarks/nab.py SERIES.parquet --out SCORES.parquet.

SERIES has the columns series, timestamp and value; SCORES has series, timestamp and score, a row for every value, as
the scorer of the Numenta Anomaly Benchmark reads them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import polars as pl

from analytics.detection.univariate import surprises

SECONDS_A_DAY = 86_400


def scored(series: pl.DataFrame) -> pl.DataFrame:
    """One series with its scores; a day has as many rows as the median step says."""
    step = series["timestamp"].diff().dt.total_seconds().median()
    rows_a_day = max(1, round(SECONDS_A_DAY / step)) if isinstance(step, int | float) and step > 0 else 1
    score = surprises(series["value"].cast(pl.Float64).to_numpy(), rows_a_day)
    return series.select("series", "timestamp").with_columns(pl.Series("score", score))


def main() -> None:
    """Write the scores."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("series", type=Path)
    options.add_argument("--out", type=Path, required=True)
    given = options.parse_args()
    table = pl.read_parquet(given.series).with_columns(pl.col("series").cast(pl.String))
    parts = table.partition_by("series", maintain_order=True)
    pl.concat([scored(part) for part in parts]).write_parquet(given.out)


if __name__ == "__main__":
    main()
