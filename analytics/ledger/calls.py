"""From spans as they were sent to one row per model call and per answer from the application's cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analytics.ledger import leaves, twins
from analytics.ledger.lineage import lineage_of, with_dimensions
from analytics.ledger.normaliser import COUNT_FIELDS, QUERY_NAME
from analytics.ledger.usage import with_usage
from analytics.ledger.vocabulary import with_vocabulary

if TYPE_CHECKING:
    from datetime import datetime

    from analytics.ledger.lineage import Lineage
    from storage import Store

HOUR_NS = 3_600_000_000_000
# The call before within one request, and all that decides what that call is, lie within an hour.
REQUEST_GAP_NS = HOUR_NS - twins.REACH_NS

# Columns that nothing needs once usage and roles are known.
_RAW_COLUMNS = (
    *COUNT_FIELDS,
    "request_model",
    "response_model",
    "is_stream",
    "sdk",
    "role",
    "sent_cache_hit",
    "out_of_range",
    "estimated",
    "exclusive_reason",
)

# What error.type says by convention when the error has no name.
_UNNAMED_ERROR = "_OTHER"


def seconds(nanoseconds: pl.Expr) -> pl.Expr:
    """Seconds to the microsecond: float division may differ in its last digit with a row's place in the frame."""
    return (nanoseconds / 1e9).round(6)


def read_spans(store: Store, since: datetime, until: datetime) -> pl.DataFrame:
    """Spans that started in [since, until) under canonical names, numbered in a stable order."""
    spans = store.frame(QUERY_NAME, since=since, until=until)
    spans = spans.sort("start_ns", "trace_key", "span_key", "service").with_row_index("row")
    spans = spans.with_columns(pl.col("row").cast(pl.Int64), (pl.col("start_ns") // HOUR_NS).alias("hour_number"))
    return leaves.with_roles(with_usage(with_vocabulary(spans))).drop(_RAW_COLUMNS)


def calls_of(spans: pl.DataFrame) -> pl.DataFrame:
    """The calls and cache hits among spans (of read_spans), without prices."""
    lineage = lineage_of(spans)
    pairs = leaves.nested_pairs(spans, lineage)
    covered = leaves.covered_rows(pairs)
    echoes = leaves.echoes(pairs, covered)
    dropped = pl.concat([covered, echoes["row"]])
    links = pl.concat([echoes, leaves.wrappers(pairs, covered, dropped)])
    is_lost = pl.col("row").is_in(dropped.implode()) & ~pl.col("row").is_in(links["row"].implode())
    candidates = spans.filter(pl.col("is_candidate") | pl.col("response_cache_hit"), ~is_lost)
    calls = with_dimensions(spans, lineage, twins.merged(candidates, links))
    calls = twins.with_possible_duplicates(twins.with_twins_merged(calls))
    return _finished(calls.join(_gpu_use(spans, lineage, links, calls), on="row", how="left", maintain_order="left"))


def _is_first_of_request() -> pl.Expr:
    """A trace that rests on an endpoint for long makes another request: what is further off is not read."""
    gap = pl.col("start_ns").diff().over("trace_key", "service", "endpoint")
    return gap.is_null() | (gap > REQUEST_GAP_NS)


def _gpu_use(spans: pl.DataFrame, lineage: Lineage, links: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """GPU-seconds and joules of each call that the GPU spans below it, or below its wrapper, add up to."""
    gpu_rows = spans["is_gpu"].arg_true().cast(pl.Int64).to_numpy()
    owners = pl.Series("row", lineage.nearest(gpu_rows, spans["is_candidate"].to_numpy()))
    used = spans[gpu_rows].select(
        owners,
        pl.col("hour_number").alias("gpu_hour_number"),
        pl.col("sent_gpu_seconds").alias("gpu_seconds"),
        pl.col("sent_gpu_energy_joules").alias("gpu_energy_joules"),
    )
    return (
        used.join(links, on="row", how="left", maintain_order="left")
        .with_columns(pl.coalesce("kept", "row").alias("row"))
        .join(calls.select("row", "hour_number"), on="row", how="inner", maintain_order="left")
        .filter((pl.col("gpu_hour_number") - pl.col("hour_number")).abs() <= 1)
        .group_by("row")
        .agg(sum_of_known("gpu_seconds"), sum_of_known("gpu_energy_joules"))
    )


def sum_of_known(name: str) -> pl.Expr:
    """The sum of a column, NULL where nothing of it is known."""
    return pl.when(pl.col(name).count() > 0).then(pl.col(name).sum().round(6)).alias(name)


def _finished(calls: pl.DataFrame) -> pl.DataFrame:
    """Columns as the table `calls` has them, save prices."""
    written, read = pl.col("cache_write_tokens"), pl.col("cache_read_tokens")
    named_error = pl.when(pl.col("sent_error_type") != "").then("sent_error_type").otherwise(pl.lit(_UNNAMED_ERROR))
    paid = pl.col("input_tokens").is_not_null() | pl.col("output_tokens").is_not_null()
    return calls.with_columns(
        pl.from_epoch(pl.col("start_ns"), time_unit="ns").dt.replace_time_zone("UTC").alias("started_at"),
        pl.when("is_failed").then(named_error).otherwise(pl.lit("")).alias("error_type"),
        (~pl.col("response_cache_hit") & (paid | ~pl.col("is_failed"))).alias("billable"),
        _is_first_of_request().alias("first_of_request"),
        (pl.col("input_tokens") - read.fill_null(0) - written.fill_null(0)).alias("fresh_input_tokens"),
        (written - pl.col("cache_write_1h_tokens").fill_null(0)).alias("cache_write_5m_tokens"),
    ).with_columns(pl.col("started_at").dt.truncate("1h").dt.cast_time_unit("ms").alias("hour"))
