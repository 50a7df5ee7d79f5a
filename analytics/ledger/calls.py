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
    echoes = leaves.echo_pairs(pairs, covered)
    links = pl.concat(
        [
            leaves.twin_pairs(pairs, covered).select("d", "a"),
            echoes.select("d", "a"),
            twins.response_links(spans),
        ]
    )
    is_covered = pl.col("row").is_in(pl.concat([covered, echoes["d"]]).implode())
    spans = spans.with_columns(
        is_covered.alias("is_covered"), pl.Series("twin_group", twins.twin_groups(links, len(spans)))
    )
    rows = (spans["is_candidate"] | spans["response_cache_hit"]).arg_true().cast(pl.Int64).to_numpy()
    calls = with_dimensions(spans, lineage, rows).join(_gpu_use(spans, lineage), on="row", how="left")
    calls = twins.with_possible_duplicates(twins.merged(calls))
    return _finished(calls)


def _is_first_of_request() -> pl.Expr:
    """A trace that rests on an endpoint for over an hour makes another request: what is further off is not read."""
    before = pl.col("hour_number").shift(1).over("trace_key", "endpoint")
    return before.is_null() | (before < pl.col("hour_number") - 1)


def _gpu_use(spans: pl.DataFrame, lineage: Lineage) -> pl.DataFrame:
    """GPU-seconds and joules that the GPU spans below each candidate add up to."""
    gpu_rows = spans["is_gpu"].arg_true().cast(pl.Int64).to_numpy()
    owners = lineage.nearest(gpu_rows, spans["is_candidate"].to_numpy())
    return (
        spans[gpu_rows]
        .select(
            pl.Series("row", owners),
            pl.col("sent_gpu_seconds").alias("gpu_seconds"),
            pl.col("sent_gpu_energy_joules").alias("gpu_energy_joules"),
        )
        .group_by("row")
        .agg(_sum_of_known("gpu_seconds"), _sum_of_known("gpu_energy_joules"))
    )


def _sum_of_known(name: str) -> pl.Expr:
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
