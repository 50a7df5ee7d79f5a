"""Spans that describe one call become one row that knows what any of them knew.

All token counts of a row are those of one span, the one that knows most: counts of two senders need not fit.

Only rows that began within APART of each other are told to be one call. What a row becomes thereby depends on
what lies within REACH of it and on nothing further, however much was read.
"""

from __future__ import annotations

import polars as pl

APART_NS = 120_000_000_000
# Twice: a wrapper and the other calls below it; then by trace and by response id alone each a row and its twin,
# the twin's own twin, and rows that make that one's id ambiguous, which are looked for twice as far away.
REACH_NS = (2 + 4 + 4) * APART_NS

# Instrumentations that are expected to report one call.
_TWINS_MAX = 4

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
# What belongs to the counts.
_USAGE = (*_COUNTS, "usage_note", "has_usage")


def merged(calls: pl.DataFrame, links: pl.DataFrame) -> pl.DataFrame:
    """Calls without the rows that `links` (row, kept) names, each of which tells `kept` what it knows."""
    grouped = calls.join(links, on="row", how="left", maintain_order="left").with_columns(
        pl.coalesce("kept", "row").alias("group")
    )
    is_alone = pl.len().over("group") == 1
    alone = grouped.filter(is_alone, pl.col("kept").is_null()).select(calls.columns)
    together = grouped.filter(~is_alone).sort("group", pl.col("kept").is_not_null(), "row")
    texts = [name for name in _TEXTS if name in calls.columns]
    rest = [name for name in calls.columns if name not in {*texts, *_USAGE}]
    one_each = (
        together.group_by("group", maintain_order=True)
        .agg(
            *(pl.col(name).filter(pl.col(name) != "").first().fill_null("") for name in texts),
            pl.struct(_USAGE).sort_by(_known_counts(), descending=True, maintain_order=True).first().alias("usage"),
            pl.col(rest).first(),
        )
        .unnest("usage")
    )
    return pl.concat([alone, one_each.select(calls.columns)]).sort("row")


def _known_counts() -> list[pl.Expr]:
    both = pl.col("input_tokens").is_not_null() & pl.col("output_tokens").is_not_null()
    return [both, pl.sum_horizontal(pl.col(name).is_not_null() for name in _COUNTS)]


def with_twins_merged(calls: pl.DataFrame) -> pl.DataFrame:
    """One row for calls that name the same response, seen by different instrumentations.

    The traces may differ: a native span without a parent starts its own. Where an instrumentation gives one id
    to several calls, only rows of one trace can be told to be twins. Tenants never share a response.
    """
    in_trace, anywhere = ["response_id", "trace_key"], ["response_id", "key_tenant"]
    named = calls.filter(pl.col("response_id") != "", ~pl.col("response_cache_hit"))
    unambiguous = named.filter(_is_only_one_of_its_scope(anywhere))["row"]
    calls = merged(calls, _response_links(named.filter(_is_only_one_of_its_scope(in_trace)), in_trace))
    return merged(calls, _response_links(calls.filter(pl.col("row").is_in(unambiguous.implode())), anywhere))


def _response_links(named: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """Rows and the row that each is a twin of: the best of those beside it, where that one is nobody's twin."""
    named = named.filter(pl.len().over(key) > 1)
    columns = ["row", "scope_name", "start_ns", "duration_ns", "input_tokens", "output_tokens", "is_endpoint_guessed"]
    here = named.select(columns)
    nothing = pl.DataFrame(schema={"row": pl.Int64, "kept": pl.Int64})
    pairs = [_pairs(here, named.select(pl.col(columns).shift(-step).over(key))) for step in range(1, _TWINS_MAX)]
    linked = pl.concat([nothing, *pairs])
    is_nobodys = ~pl.col("kept").is_in(linked["row"].implode())
    return linked.filter(is_nobodys).group_by("row").agg(pl.col("kept").min()).sort("row")


def _is_only_one_of_its_scope(key: list[str]) -> pl.Expr:
    start = pl.col("start_ns")
    before, after = (start.shift(step).over(*key, "scope_name") for step in (1, -1))
    is_far = [((start - other).abs() > 2 * APART_NS).fill_null(value=True) for other in (before, after)]
    return is_far[0] & is_far[1]


def _pairs(here: pl.DataFrame, later: pl.DataFrame) -> pl.DataFrame:
    """Rows beside each other that are twins: the worse one and the better one."""
    both = pl.concat([here, later.select(pl.all().name.prefix("later_"))], how="horizontal")
    apart = pl.col("later_start_ns") - pl.col("start_ns")
    overlap = apart <= pl.col("duration_ns").cast(pl.Int64)
    found = both.filter(
        pl.col("scope_name") != pl.col("later_scope_name"), apart <= APART_NS, overlap | _counts_agree()
    )
    is_worse = _worth("") < _worth("later_")
    return found.select(
        pl.when(is_worse).then("row").otherwise("later_row").alias("row"),
        pl.when(is_worse).then("later_row").otherwise("row").alias("kept"),
    )


def _counts_agree() -> pl.Expr:
    equal = [pl.col(name) == pl.col(f"later_{name}") for name in ("input_tokens", "output_tokens")]
    return pl.all_horizontal(one.fill_null(value=True) for one in equal) & pl.any_horizontal(
        one.is_not_null() for one in equal
    )


def _worth(prefix: str) -> pl.Expr:
    """A row that knows its endpoint is worth more than one that knows its counts."""
    known = pl.sum_horizontal(pl.col(f"{prefix}{name}").is_not_null() for name in ("input_tokens", "output_tokens"))
    return known.cast(pl.Int64) + 4 * (~pl.col(f"{prefix}is_endpoint_guessed")).cast(pl.Int64)


def with_possible_duplicates(calls: pl.DataFrame) -> pl.DataFrame:
    """Mark a call that another instrumentation may have reported too: same trace, hour and counts, no shared id."""
    key = ["trace_key", "hour_number", "input_tokens", "output_tokens", "response_cache_hit"]
    is_known = pl.col("input_tokens").is_not_null() & pl.col("output_tokens").is_not_null()
    other_scope = pl.col("scope_name") != pl.col("scope_name").first().over(key)
    without_id = (pl.col("response_id") == "").any().over(key)
    return calls.with_columns((is_known & other_scope & without_id).alias("possible_duplicate"))
