"""What was used: inclusive input, cache reads and writes, output; NULL where unknown.

Providers and SDKs disagree on whether the input count contains cached tokens. The ledger's does. Which way a
span meant it is decided by what is known of its SDK, then by arithmetic, and the reason is kept in usage_note.
"""

from __future__ import annotations

import polars as pl

# More tokens than any model can take; a larger count is a fault of the sender, and its dollars would not fit.
TOKENS_MAX = 1_000_000_000

_COUNTS = ("sent_input", "sent_output", "cache_read", "cache_write", "cache_write_1h", "reasoning", "sent_total")
_OUT_OF_RANGE = "a token count is out of range"
_ESTIMATED = "usage estimated by the sender, not reported by the provider"
_LANGFUSE = "input sent without cached tokens: langfuse's input"

_written = pl.max_horizontal("cache_write", "cache_write_1h")
_cached = pl.col("cache_read").fill_null(0) + _written.fill_null(0)
_is_openlit = pl.col("scope_name").str.starts_with("openlit") | (pl.col("sdk") == "openlit")
_is_anthropic = pl.col("provider") == "anthropic"


def _exclusive_reason() -> pl.Expr:
    """Why the input was sent without cached tokens; NULL where it contains them."""
    total_adds_up = pl.col("sent_total") == pl.col("sent_input") + _cached + pl.col("sent_output")
    return (
        pl.when(_cached == 0)
        .then(None)
        .when((pl.col("scope_name") == "ai") & (pl.col("ai_sdk_exclusive_input") == pl.col("sent_input")))
        .then(pl.lit("input sent without cached tokens: AI SDK with Anthropic"))
        .when(pl.col("langfuse_exclusive_input") == pl.col("sent_input"))
        .then(pl.lit(_LANGFUSE))
        .when(pl.col("provider_exclusive_input") == pl.col("sent_input"))
        .then(pl.lit("input sent without cached tokens: the provider's own usage in the answer"))
        .when(_is_openlit & _is_anthropic)
        .then(pl.lit("input sent without cached tokens: OpenLIT with Anthropic"))
        .when(pl.col("scope_name").str.starts_with("genkit") & _is_anthropic)
        .then(pl.lit("input sent without cached tokens: Genkit with Anthropic"))
        .when(_cached > pl.col("sent_input"))
        .then(pl.lit("input sent without cached tokens: they exceed it"))
        .when(total_adds_up & ~_is_openlit)
        .then(pl.lit("input sent without cached tokens: the total adds up so"))
    )


def with_usage(spans: pl.DataFrame) -> pl.DataFrame:
    """Spans with canonical token columns, usage_note and has_usage.

    cache_write_tokens is the total of both lifetimes. Input is never less than what of it was cached.
    """
    in_range = [pl.when(pl.col(name) <= TOKENS_MAX).then(pl.col(name)).cast(pl.Int64).alias(name) for name in _COUNTS]
    out_of_range = pl.any_horizontal(pl.col(name).fill_null(0) > TOKENS_MAX for name in _COUNTS)
    # OpenLIT counts a stream's tokens itself when the provider sent none; then it says nothing of caches.
    estimated = (
        _is_openlit
        & (pl.col("is_stream").str.to_lowercase() == "true")
        & pl.col("cache_read").is_null()
        & pl.col("cache_write").is_null()
    )
    spans = spans.with_columns(out_of_range.alias("out_of_range"), estimated.alias("estimated")).with_columns(in_range)
    spans = spans.with_columns(_exclusive_reason().alias("exclusive_reason"))
    is_known = ~pl.col("estimated") & ~pl.col("out_of_range")
    input_tokens = pl.col("sent_input") + pl.when(pl.col("exclusive_reason").is_null()).then(0).otherwise(_cached)
    output_tokens = pl.col("sent_output") + pl.when(_langfuse_output_lacks_reasoning()).then(
        pl.col("reasoning").fill_null(0)
    ).otherwise(0)
    return spans.with_columns(
        pl.when(is_known).then(input_tokens).alias("input_tokens"),
        pl.when(is_known).then(output_tokens).alias("output_tokens"),
        pl.when(is_known).then("cache_read").alias("cache_read_tokens"),
        pl.when(is_known).then(_written).alias("cache_write_tokens"),
        pl.when(is_known).then("cache_write_1h").alias("cache_write_1h_tokens"),
        pl.when(is_known).then("reasoning").alias("reasoning_tokens"),
        _note().alias("usage_note"),
        (is_known & (pl.col("sent_input").is_not_null() | pl.col("sent_output").is_not_null())).alias("has_usage"),
    )


def _langfuse_output_lacks_reasoning() -> pl.Expr:
    """Langfuse's own `input`, `output` and `output_reasoning` add up; a provider's counts nest."""
    return pl.col("langfuse_exclusive_input").is_not_null() & (
        pl.col("langfuse_exclusive_input") == pl.col("sent_input")
    )


def _note() -> pl.Expr:
    return (
        pl.when("out_of_range")
        .then(pl.lit(_OUT_OF_RANGE))
        .when("estimated")
        .then(pl.lit(_ESTIMATED))
        .otherwise(pl.col("exclusive_reason").fill_null(""))
    )
