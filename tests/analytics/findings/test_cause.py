"""The words for a cause, and which deploy coincided."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from analytics.findings.cause import Deploy, coinciding, per_day, sentence
from analytics.findings.explanation import explain_cost_per_request
from analytics.findings.facts import Series
from tests.analytics.findings.test_explanation import PLAIN, PRICES, read, usage
from tests.analytics.findings.traffic import START

SERIES = Series("shop", "production", "/a")
ONSET = START + timedelta(weeks=3)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (usage("m", 100, (1830, 915, 200), PRICES), "prompts 83 % longer (+$0.29/day)"),
        (usage("m", 100, (1000, 500, 300), PRICES), "answers 50 % longer (+$0.15/day)"),
        (usage("m", 100, (1500, 0, 200), PRICES), "prompt-cache hits down from 33 % to 0 % (+$0.10/day)"),
        (usage("m", 150, (1000, 500, 200), PRICES, requests=100), "50 % more calls per request (+$0.32/day)"),
        (usage("m", 100, (1000, 500, 200), (6, 2, 30)), "unit prices 100 % higher (+$0.65/day)"),
    ],
)
def test_a_cause_is_said_in_plain_words(changed: dict[str, object], words: str) -> None:
    assert sentence(explain_cost_per_request(read(PLAIN), read(changed)), 24, None) == words


def test_a_cause_names_the_larger_driver_first_and_the_deploy_last() -> None:
    changed = usage("m", 100, (2400, 600, 240), PRICES)
    said = sentence(explain_cost_per_request(read(PLAIN), read(changed)), 24, Deploy("version", "2.4.1", ONSET))
    assert said.index("prompts 100 % longer") == 0
    assert said.endswith(", since version 2.4.1")


def test_reads_that_are_no_longer_reported_are_not_called_misses() -> None:
    silent = usage("m", 100, (1500, 0, 200), PRICES, cache_reporting_input_tokens=0)
    said = sentence(explain_cost_per_request(read(PLAIN), read(silent)), 24, None)
    assert said == "prompt-cache reads no longer reported (+$0.10/day)"


def test_hits_of_the_prompt_cache_are_a_share_of_the_calls_that_report_them() -> None:
    silent = usage("n", 100, (1500, 0, 200), PRICES, cache_reporting_input_tokens=0)
    broken = usage("m", 100, (1500, 0, 200), PRICES)
    said = sentence(explain_cost_per_request(read(PLAIN, silent), read(broken, silent)), 24, None)
    assert said.startswith("prompt-cache hits down from 33 % to 0 % (")


def test_hits_of_the_response_cache_are_a_share_of_the_answers() -> None:
    # Every request asks three times, and two of the answers come from the cache.
    cached = usage("m", 100, (1000, 500, 200), PRICES, response_cache_hits=200)
    broken = usage("m", 300, (1000, 500, 200), PRICES, requests=100)
    said = sentence(explain_cost_per_request(read(cached), read(broken)), 24, None)
    assert said.startswith("response-cache hits down from 67 % to 0 % (")


def test_a_cause_says_when_the_share_of_calls_without_a_price_has_moved() -> None:
    halved = usage("m", 100, (1000, 500, 400), PRICES, unpriced_calls=50)
    said = sentence(explain_cost_per_request(read(PLAIN), read(halved)), 24, None)
    assert said.endswith("; 50 % of calls have no price, 0 % before, so dollars are not comparable")


def test_a_broken_response_cache_is_said_in_plain_words() -> None:
    cached = usage("m", 40, (1000, 500, 200), PRICES, requests=100, response_cache_hits=60)
    said = sentence(explain_cost_per_request(read(cached), read(PLAIN)), 24, None)
    assert said.startswith("response-cache hits down from 60 % to 0 % (")


def test_calls_that_moved_to_a_dearer_model_are_said_in_plain_words() -> None:
    before = read(usage("small", 100, (1000, 0, 100), PRICES))
    after = read(usage("small", 70, (1000, 0, 100), PRICES), usage("large", 30, (1000, 0, 100), (9, 9, 50)))
    said = sentence(explain_cost_per_request(before, after), 24, None)
    assert said.startswith("30 % of calls moved to dearer models (")


def test_no_change_has_no_cause() -> None:
    assert sentence(explain_cost_per_request(read(PLAIN), read(PLAIN)), 24, None) == "no single driver stands out"


@pytest.mark.parametrize(
    ("dollars", "hours", "words"),
    [
        ("412", 24, "+$412.00/day"),
        ("-1", 12, "-$2.00/day"),
        ("0.0001", 24, "+$0.0001/day"),
        ("2000", 24, "+$2,000.00/day"),
    ],
)
def test_dollars_are_given_per_day(dollars: str, hours: int, words: str) -> None:
    assert per_day(Decimal(dollars), hours) == words


def deploys(*rows: tuple[str, str, str, datetime]) -> pl.DataFrame:
    names = ["service_version", "model", "model_version", "first_hour"]
    table = pl.DataFrame(rows, schema=names, orient="row")
    return table.with_columns(
        pl.lit("shop").alias("service"), pl.lit("production").alias("environment"), pl.lit("/a").alias("endpoint")
    )


FIRST = ("1.0", "m", "", START)


def test_a_version_first_seen_near_the_onset_is_the_deploy() -> None:
    table = deploys(FIRST, ("1.1", "m", "", ONSET - timedelta(days=4)), ("1.2", "m", "", ONSET + timedelta(hours=2)))
    assert coinciding(table, SERIES, ONSET, 6) == Deploy("version", "1.2", ONSET + timedelta(hours=2))


def test_a_model_first_seen_near_the_onset_is_the_deploy_when_no_version_is() -> None:
    table = deploys(FIRST, ("1.0", "n", "n-2026-03", ONSET))
    assert coinciding(table, SERIES, ONSET, 6) == Deploy("model", "n-2026-03", ONSET)


def test_a_version_outside_the_window_or_of_another_endpoint_is_not_the_deploy() -> None:
    table = deploys(FIRST, ("1.1", "m", "", ONSET - timedelta(hours=7)))
    assert coinciding(table, SERIES, ONSET, 6) is None
    assert coinciding(table, SERIES._replace(endpoint="/b"), ONSET - timedelta(hours=7), 6) is None


def test_what_was_there_from_the_start_is_not_a_deploy() -> None:
    assert coinciding(deploys(FIRST), SERIES, START, 6) is None


def test_another_model_under_the_version_of_before_does_not_make_that_version_new() -> None:
    table = deploys(FIRST, ("1.0", "n", "", ONSET))
    assert coinciding(table, SERIES, ONSET, 6) == Deploy("model", "n", ONSET)
