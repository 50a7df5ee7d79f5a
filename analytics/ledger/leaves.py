"""Which spans are calls of a model, and which only repeat a call below them.

A span whose operation calls a model is a candidate, and so is one that says no operation but has usage and a
model. Agents, chains and tools never are, whatever usage they carry. Of candidates that stand below each
other, the lower one is the call; the upper one is a wrapper, a roll-up or a twin of it. Two different response
ids mean two calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analytics.ledger.twins import APART_NS

if TYPE_CHECKING:
    from analytics.ledger.lineage import Lineage


_COUNTS = ("input_tokens", "output_tokens")


def with_roles(spans: pl.DataFrame) -> pl.DataFrame:
    """Spans with response_cache_hit, is_gpu, is_candidate and is_failed."""
    kind = pl.col("pennytrace_kind")
    names_model = pl.col("model") != ""
    unsaid = (pl.col("role") == "unknown") & ((kind == "request") | pl.col("has_usage")) & names_model
    is_engine = (pl.col("role") == "unknown") & (pl.col("name") == "llm_request") & pl.col("has_usage")
    return spans.with_columns(
        ((kind == "cache") & (pl.col("sent_cache_hit").str.to_lowercase() == "true")).alias("response_cache_hit"),
        (kind == "gpu").alias("is_gpu"),
        (((pl.col("role") == "model") | unsaid | is_engine) & ~kind.is_in(["cache", "gpu"])).alias("is_candidate"),
        (pl.col("is_error") | (pl.col("sent_error_type") != "")).alias("is_failed"),
    )


def nested_pairs(spans: pl.DataFrame, lineage: Lineage) -> pl.DataFrame:
    """Every candidate or cache hit `d` below a candidate `a`, with what is needed to tell how they relate."""
    lower = (spans["is_candidate"] | spans["response_cache_hit"]).arg_true().cast(pl.Int64).to_numpy()
    descendants, ancestors = lineage.ancestor_pairs(lower, spans["is_candidate"].to_numpy())
    columns = ["start_ns", "has_usage", "is_failed", "response_cache_hit", "response_id", *_COUNTS]
    facts = spans.select(columns)
    return pl.concat(
        [
            pl.DataFrame({"d": descendants, "a": ancestors}),
            facts[descendants].select(pl.all().name.prefix("d_")),
            facts[ancestors].select(pl.all().name.prefix("a_")),
        ],
        how="horizontal",
    ).filter(_may_be_one_call())


def _may_be_one_call() -> pl.Expr:
    return (pl.col("a_response_id") == "") | (pl.col("d_response_id") == "") | _same_response()


def _same_response() -> pl.Expr:
    return (pl.col("a_response_id") == pl.col("d_response_id")) & (pl.col("a_response_id") != "")


def covered_rows(pairs: pl.DataFrame) -> pl.Series:
    """Rows of candidates that something below them accounts for."""
    below_is_paid = pl.col("d_has_usage") & ~pl.col("d_response_cache_hit")
    below_says_more = (
        pl.col("d_has_usage") | pl.col("d_response_cache_hit") | pl.col("a_is_failed") | ~pl.col("d_is_failed")
    )
    return pairs.filter(pl.when("a_has_usage").then(below_is_paid).otherwise(below_says_more))["a"].unique()


def echoes(pairs: pl.DataFrame, covered: pl.Series) -> pl.DataFrame:
    """Rows that say nothing that the call above them, `kept`, does not say; a failed one may be another attempt."""
    is_silent = ~pl.col("d_has_usage") & ~pl.col("d_response_cache_hit")
    is_same = _same_response() | (~pl.col("d_is_failed") & pl.col("a_has_usage"))
    found = pairs.filter(is_silent & is_same & ~pl.col("a").is_in(covered.implode()))
    return found.group_by(pl.col("d").alias("row")).agg(pl.col("a").min().alias("kept"))


def wrappers(pairs: pl.DataFrame, covered: pl.Series, dropped: pl.Series) -> pl.DataFrame:
    """Covered rows that describe one call with `kept` below them: a response id, usage, or silence says so."""
    near = pairs.filter((pl.col("d_start_ns") - pl.col("a_start_ns")).abs() <= APART_NS)
    same_usage = (
        pl.col("a_has_usage")
        & pl.col("d_has_usage")
        & pl.all_horizontal(pl.col(f"a_{name}").eq_missing(pl.col(f"d_{name}")) for name in _COUNTS)
    )
    wraps_one = ~pl.col("a_has_usage") & (pl.len().over("a") == 1)
    found = near.filter(_same_response() | same_usage | wraps_one).filter(
        ~pl.col("d_response_cache_hit"),
        pl.col("a").is_in(covered.implode()),
        ~pl.col("d").is_in(dropped.implode()),
    )
    return found.group_by(pl.col("a").alias("row")).agg(pl.col("d").min().alias("kept"))
