"""Spans that describe one call become one row that knows what any of them knew."""

from __future__ import annotations

import numpy as np
import polars as pl

# Fields that a twin may know and the row that is kept may not.
_TEXTS = ("response_id", "tier", "provider", "model", "operation", "model_version", "tenant", "variant", "replica")
_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
)
_MEASURES = ("gpu_seconds", "gpu_energy_joules")


def response_links(spans: pl.DataFrame) -> pl.DataFrame:
    """Pairs (d, a) of candidates that name the same response, seen by different instrumentations.

    The traces may differ: a native span without a parent starts its own.
    """
    candidates = (
        spans.filter("is_candidate", pl.col("response_id") != "")
        .select("row", "response_id", "scope_name", "hour_number")
        .filter(pl.col("response_id").is_duplicated())
    )
    before = pl.all().exclude("response_id").shift(1).over("response_id").name.prefix("before_")
    return (
        candidates.with_columns(before, pl.col("scope_name").n_unique().over("response_id").alias("scopes"))
        .filter(pl.col("scopes") > 1, pl.col("before_hour_number") >= pl.col("hour_number") - 1)
        .select(pl.col("row").alias("d"), pl.col("before_row").alias("a"))
    )


def twin_groups(links: pl.DataFrame, rows: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A group number for each of `rows`; rows that are linked, directly or not, share theirs."""
    # Imported here because it takes long, which every command line would wait for.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(links), dtype=np.int8)
    graph = coo_array((ones, (links["d"].to_numpy(), links["a"].to_numpy())), shape=(rows, rows))
    _, groups = connected_components(graph, directed=False)
    return np.asarray(groups, dtype=np.int64)


def merged(calls: pl.DataFrame) -> pl.DataFrame:
    """One row per twin_group: one that knows its endpoint and most else, with what the others know besides.

    Rows marked is_covered are kept only as a source of knowledge.
    """
    unknown = pl.sum_horizontal(pl.col(name).is_null() for name in _COUNTS)
    size = pl.len().over("twin_group")
    calls = calls.with_columns(size.alias("twins"))
    alone = calls.filter(pl.col("twins") == 1, ~pl.col("is_covered"))
    together = calls.filter(pl.col("twins") > 1).sort("twin_group", "is_covered", "is_endpoint_guessed", unknown, "row")
    first_text = [pl.col(name).filter(pl.col(name) != "").first().fill_null("") for name in _TEXTS]
    first_known = [pl.col(name).drop_nulls().first() for name in (*_COUNTS, *_MEASURES)]
    rest = [name for name in calls.columns if name not in {"twin_group", *_TEXTS, *_COUNTS, *_MEASURES}]
    one_each = (
        together.group_by("twin_group", maintain_order=True)
        .agg(*first_text, *first_known, pl.col(rest).first())
        .filter(~pl.col("is_covered"))
    )
    return pl.concat([alone, one_each.select(alone.columns)]).sort("row")


def with_possible_duplicates(calls: pl.DataFrame) -> pl.DataFrame:
    """Mark a call that another instrumentation may have reported too: same trace, same counts, no shared id."""
    key = ["trace_key", "input_tokens", "output_tokens", "response_cache_hit"]
    is_known = pl.col("input_tokens").is_not_null() & pl.col("output_tokens").is_not_null()
    other_scope = pl.col("scope_name") != pl.col("scope_name").first().over(key)
    without_id = (pl.col("response_id") == "").any().over(key)
    return calls.with_columns((is_known & other_scope & without_id).alias("possible_duplicate"))
