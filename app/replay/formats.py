"""Readers of published traces. Each turns a file into requests: when, on which endpoint, how many tokens.

| format   | what the file is | source |
|----------|------------------|--------|
| azure    | TIMESTAMP, ContextTokens, GeneratedTokens | Azure LLM inference traces 2023 (Splitwise, ISCA 2024) |
| mooncake | timestamp (ms), input_length, output_length | Mooncake (FAST 2025) |
| servegen | model, client, hour, requests; token means beside it | ServeGen (2025): rates, so requests are drawn |
| otlp     | recorded OTLP export requests | see app/replay/recorded.py |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from app.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECOND_NS = 1_000_000_000
HOUR_NS = 3600 * SECOND_NS
# Latency is not in these traces. These figures (time to first token, seconds per output token) are typical
# of hosted models and only give spans a plausible length; prices do not depend on them.
FIRST_TOKEN_S = 0.4
OUTPUT_TOKEN_S = 0.02
# ServeGen has rates for billions of requests, so only a sample of them can be replayed.
SERVEGEN_SAMPLE_MAX = 100_000


@dataclass(frozen=True)
class Trace:
    """Requests in time order, with columns start_ns, endpoint, model, input_tokens and output_tokens.

    An empty model is for the caller to choose. `is_dated` tells whether start_ns counts from 1970 or from the
    trace's own beginning. `note` is for the person who replays it.
    """

    requests: pl.DataFrame
    is_dated: bool
    note: str = ""


def read_trace(path: Path, file_format: str) -> Trace:
    """Read a file of one of the tabular formats. Raises CommandError when it is not what it should be."""
    if file_format not in READERS:
        raise CommandError(f"expected --format to be one of {', '.join([*READERS, 'otlp'])}, got {file_format!r}")
    return _guarded(READERS[file_format], path)


def _read_table(path: Path, columns: list[str], what: str) -> pl.DataFrame:
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": pl.read_parquet,
        ".csv": pl.read_csv,
        ".jsonl": pl.read_ndjson,
        ".ndjson": pl.read_ndjson,
    }
    if path.suffix not in readers:
        raise CommandError(f"expected a file ending in {', '.join(readers)}, got {path}")
    try:
        frame = readers[path.suffix](path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise CommandError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise CommandError(
            f"{path} is not {what}: expected columns {', '.join(columns)}, got {', '.join(frame.columns)}"
        )
    return frame


def _requests(path: Path, frame: pl.DataFrame, **columns: pl.Expr) -> pl.DataFrame:
    """The columns of a Trace in time order. Raises CommandError for a value that is missing or negative."""
    requests = frame.select(
        start_ns=columns["start_ns"],
        endpoint=pl.lit(path.stem),
        model=pl.lit(""),
        input_tokens=columns["input_tokens"].cast(pl.Int64),
        output_tokens=columns["output_tokens"].cast(pl.Int64),
    )
    numbers = requests.select("start_ns", "input_tokens", "output_tokens")
    if numbers.null_count().sum_horizontal().item() or (numbers.min_horizontal() < 0).any():
        raise CommandError(f"{path} has a time or a token count that is missing or negative")
    return requests.sort("start_ns", maintain_order=True)


def _azure(path: Path) -> Trace:
    frame = _read_table(path, ["TIMESTAMP", "ContextTokens", "GeneratedTokens"], "an Azure LLM inference trace")
    times = pl.col("TIMESTAMP").cast(pl.String).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns")
    requests = _requests(
        path,
        frame,
        start_ns=times.dt.epoch("ns"),
        input_tokens=pl.col("ContextTokens"),
        output_tokens=pl.col("GeneratedTokens"),
    )
    return Trace(requests, is_dated=True)


def _mooncake(path: Path) -> Trace:
    frame = _read_table(path, ["timestamp", "input_length", "output_length"], "a Mooncake trace")
    requests = _requests(
        path,
        frame,
        start_ns=pl.col("timestamp").cast(pl.Int64) * 1_000_000,
        input_tokens=pl.col("input_length"),
        output_tokens=pl.col("output_length"),
    )
    return Trace(requests, is_dated=False)


def _servegen(path: Path) -> Trace:
    hourly = _read_table(path, ["model", "client", "hour", "requests"], "a ServeGen table of hourly requests").filter(
        pl.col("requests") > 0
    )
    tokens_path = path.with_name(path.name.replace("hourly_requests", "6h_tokens"))
    if tokens_path == path or not tokens_path.exists():
        raise CommandError(f"expected the token table beside {path}, named like it with 6h_tokens for hourly_requests")
    means = ["input_tokens_mean", "input_tokens_std", "output_tokens_mean", "output_tokens_std"]
    tokens = _read_table(tokens_path, ["model", "client", "hour", *means], "a ServeGen table of token counts")
    known = tokens.drop_nulls(means).select("model", "client", pl.col("hour").cast(pl.Int64), *means).sort("hour")
    hours = hourly.select("model", "client", "hour", "requests").cast({"client": pl.Int64, "hour": pl.Int64})
    cells = (
        hours.sort("hour")
        .join_asof(known, on="hour", by=["model", "client"], strategy="nearest", check_sortedness=False)
        .drop_nulls(means)
    )
    total = int(cells["requests"].cast(pl.Int64).sum())
    sample = min(total, SERVEGEN_SAMPLE_MAX)
    note = f"ServeGen publishes rates: drew {sample:,} of {total:,} requests, tokens from each client's mean and spread"
    return Trace(_draw(cells, sample, total), is_dated=False, note=note)


def _draw(cells: pl.DataFrame, sample: int, total: int) -> pl.DataFrame:
    """Draw requests from hourly rates: log-normal tokens with each cell's mean and standard deviation."""
    chance = np.random.default_rng(0)
    counts = chance.multinomial(sample, cells["requests"].cast(pl.Float64).to_numpy() / total)
    drawn = cells[np.repeat(np.arange(cells.height), counts).tolist()]
    offset_ns = (chance.random(sample) * HOUR_NS).astype(np.int64)
    return drawn.select(
        start_ns=pl.col("hour") * HOUR_NS + pl.Series(offset_ns),
        endpoint=pl.format("{}/client-{}", "model", "client"),
        model=pl.lit(""),
        input_tokens=_lognormal(drawn, "input_tokens", chance),
        output_tokens=_lognormal(drawn, "output_tokens", chance),
    ).sort("start_ns", maintain_order=True)


def _lognormal(cells: pl.DataFrame, what: str, chance: np.random.Generator) -> pl.Series:
    mean = np.maximum(cells[f"{what}_mean"].to_numpy().astype(float), 1.0)
    variance = np.log1p((cells[f"{what}_std"].to_numpy().astype(float) / mean) ** 2)
    drawn = np.exp(np.log(mean) - variance / 2 + np.sqrt(variance) * chance.standard_normal(len(mean)))
    return pl.Series(np.maximum(drawn.round(), 1).astype(np.int64))


def _guarded(read: Callable[[Path], Trace], path: Path) -> Trace:
    try:
        return read(path)
    except pl.exceptions.PolarsError as error:
        raise CommandError(f"{path} has a value that does not fit: {str(error).splitlines()[0]}") from error


READERS: dict[str, Callable[[Path], Trace]] = {"azure": _azure, "mooncake": _mooncake, "servegen": _servegen}
