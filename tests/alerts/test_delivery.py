from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from alerts import (
    SlackRateLimitedError,
    SlackRefusedError,
    SlackSettings,
    SlackUnavailableError,
    acknowledge,
    deliver,
    update_incidents,
)
from alerts.incidents import read_incidents
from tests.alerts.conftest import ONSET, make_finding
from tests.alerts.fake_slack import CHANNEL, CHANNEL_NAME, TOKEN, Fault, rate_limited

HOUR = timedelta(hours=1)
PRINTED = SlackSettings()


@pytest.fixture
def printed():
    return []


@pytest.fixture
def step(store, settings, clock, printed):
    """One turn of the schedule: findings to incidents, incidents to messages."""

    def run(slack_settings):
        update_incidents(store, settings, clock)
        return deliver(store, settings, slack_settings, clock, printed.append)

    return run


@pytest.fixture
def rows(store):
    def read():
        return [(row["sequence"], row["status"], row["attempts"]) for row in store.rows("alert_deliveries")]

    return read


def states(messages):
    return [one["metadata"]["event_payload"]["state"] for one in messages]


def first_lines(messages):
    return [one["text"].splitlines()[0] for one in messages]


def test_an_incident_is_one_message_and_no_repeats_while_it_stays_open(step, findings, slack, bot, clock):
    findings.write(make_finding())
    for _ in range(5):
        run = step(bot)
        clock.move(hours=1)
        findings.write(make_finding(last_hour=clock.now))
    assert (run.sent, run.pending, run.failed) == (0, 0, 0)
    assert states(slack.messages) == ["open"]


def test_a_bot_updates_the_message_in_place_and_answers_in_its_thread_when_it_ends(step, findings, slack, bot, rows):
    findings.write(make_finding())
    step(bot)
    findings.write(make_finding(ended_at=ONSET + 3 * HOUR))
    step(bot)
    (message,), (reply,) = slack.threads, slack.replies
    assert first_lines([message]) == ["[resolved] chat: cost per 1,000 requests $1.20 → $1.70 (+42 %)"]
    assert reply["thread_ts"] == message["ts"]
    assert reply["text"].startswith("[resolved] 2026-07-01 10:00 UTC to 2026-07-01 13:00 UTC (3 h)")
    assert rows() == [(1, "sent", 1), (2, "sent", 1)]


def test_every_message_carries_the_key_the_state_and_the_sequence(step, findings, slack, bot, store):
    findings.write(make_finding())
    step(bot)
    findings.write(make_finding(ended_at=ONSET + HOUR))
    step(bot)
    key = read_incidents(store)[0].incident_key
    for message in slack.messages:
        assert message["metadata"] == {
            "event_type": "pennytrace_incident",
            "event_payload": {"incident_key": key, "state": "resolved", "sequence": 2},
        }


def test_the_state_stands_in_the_first_line_and_in_the_header(step, findings, slack, bot):
    findings.write(make_finding())
    step(bot)
    (message,) = slack.messages
    assert message["text"].splitlines()[0].startswith("[open] ")
    assert message["blocks"][0]["text"]["text"].startswith("[open] ")


def test_a_channel_by_name_is_updated_by_the_id_that_slack_answered(step, findings, slack, bot):
    by_name = bot.model_copy(update={"channel": CHANNEL_NAME})
    findings.write(make_finding())
    step(by_name)
    findings.write(make_finding(ended_at=ONSET + HOUR))
    assert step(by_name).error is None
    assert slack.updates[0]["channel"] == CHANNEL


def test_a_withdrawn_incident_says_so_in_its_thread(step, findings, slack, bot):
    findings.write(make_finding())
    step(bot)
    findings.write(make_finding(is_withdrawn=True))
    step(bot)
    (message,), (reply,) = slack.threads, slack.replies
    assert first_lines([message]) == ["[resolved] chat: cost per 1,000 requests $1.20 → $1.70 (+42 %)"]
    assert "withdrawn: after late or corrected data" in reply["text"]


def test_an_acknowledgement_updates_the_message_without_another_one(step, findings, slack, bot, store, clock):
    findings.write(make_finding())
    step(bot)
    acknowledge(store, read_incidents(store)[0].incident_key, clock)
    step(bot)
    assert states(slack.messages) == ["acknowledged"]


def test_a_reopened_incident_comes_back_in_its_own_thread(step, findings, slack, bot):
    findings.write(make_finding(ended_at=ONSET + HOUR))
    step(bot)
    findings.write(make_finding("f2", started_at=ONSET + 5 * HOUR))
    step(bot)
    assert states(slack.threads) == ["open"]
    assert states(slack.replies) == ["open"]


def test_a_message_that_somebody_deleted_is_posted_again_when_the_state_changes(step, findings, slack, bot):
    findings.write(make_finding())
    step(bot)
    slack.fail_next(Fault(error="message_not_found", method="chat.update"))
    findings.write(make_finding(ended_at=ONSET + HOUR))
    step(bot)
    assert states(slack.threads) == ["open", "resolved"]


def test_a_webhook_says_open_once_and_resolved_once(step, findings, slack, webhook, store, clock):
    findings.write(make_finding())
    step(webhook)
    acknowledge(store, read_incidents(store)[0].incident_key, clock)
    step(webhook)
    step(webhook)
    findings.write(make_finding(ended_at=ONSET + HOUR))
    step(webhook)
    step(webhook)
    assert states(slack.hooked) == ["open", "resolved"]
    assert first_lines(slack.hooked)[1].startswith("[resolved] chat")


def test_without_token_and_webhook_the_message_is_printed_once(step, findings, printed):
    findings.write(make_finding())
    assert step(PRINTED).destination == "console"
    step(PRINTED)
    assert len(printed) == 1
    assert printed[0].splitlines()[0] == "[open] chat: cost per 1,000 requests $1.20 → $1.70 (+42 %)"


def test_an_open_incident_that_was_printed_is_posted_once_slack_is_configured(step, findings, slack, bot):
    findings.write(make_finding("f1"), make_finding("f2", endpoint="old", ended_at=ONSET + HOUR))
    step(PRINTED)
    step(bot)
    assert [line.split(":")[0] for line in first_lines(slack.messages)] == ["[open] chat"]


def test_ancient_history_makes_no_message_but_is_recorded(step, findings, slack, bot, clock, store):
    clock.move(days=30)
    findings.write(make_finding("f1", ended_at=ONSET + HOUR), make_finding("f2", endpoint="lasting"))
    step(bot)
    assert slack.messages == []
    assert [one.state for one in read_incidents(store)] == ["resolved", "resolved"]


def test_an_incident_that_came_and_went_between_two_runs_is_told_once(step, findings, slack, bot):
    findings.write(make_finding(ended_at=ONSET + HOUR))
    step(bot)
    step(bot)
    assert states(slack.messages) == ["resolved"]


def test_what_slack_does_not_take_is_delivered_when_it_is_back(step, findings, slack, bot):
    findings.write(make_finding("f1"), make_finding("f2", endpoint="search"))
    slack.fail_next(Fault(500, "internal_error"))
    run = step(bot)
    assert (run.sent, run.pending) == (0, 2)
    assert isinstance(run.error, SlackUnavailableError)
    assert slack.calls == ["chat.postMessage"]
    run = step(bot)
    assert (run.sent, run.pending, run.error) == (2, 0, None)
    assert len(slack.threads) == 2


def test_an_incident_that_resolves_while_slack_is_down_becomes_one_message(step, findings, slack, bot, rows):
    slack.fail_next(Fault(503, ""))
    findings.write(make_finding())
    step(bot)
    findings.write(make_finding(ended_at=ONSET + HOUR))
    step(bot)
    assert states(slack.messages) == ["resolved"]
    assert rows() == [(1, "sent", 1), (2, "sent", 1)]


def test_a_refused_connection_leaves_the_message_in_the_outbox(step, findings, store):
    nobody = SlackSettings(token=TOKEN, channel=CHANNEL, base_url="http://127.0.0.1:9/api/")
    findings.write(make_finding())
    run = step(nobody)
    assert isinstance(run.error, SlackUnavailableError)
    assert run.pending == 1
    (row,) = store.rows("alert_deliveries")
    assert "refused" in row["error"].lower()


def test_a_slack_that_hangs_is_given_up_and_tried_again(step, findings, slack, bot):
    impatient = bot.model_copy(update={"timeout_seconds": 1})
    slack.fail_next(Fault(hang_seconds=3))
    findings.write(make_finding())
    assert isinstance(step(impatient).error, SlackUnavailableError)
    assert step(impatient).sent == 1
    assert len(slack.messages) == 1


def test_a_short_rate_limit_is_waited_for(step, findings, slack, bot):
    slack.fail_next(rate_limited(0))
    findings.write(make_finding())
    assert step(bot).sent == 1
    assert slack.calls == ["chat.postMessage", "chat.postMessage"]


def test_a_long_rate_limit_is_honoured_over_restarts(step, findings, slack, bot, clock):
    slack.fail_next(rate_limited(90))
    findings.write(make_finding())
    run = step(bot)
    assert isinstance(run.error, SlackRateLimitedError)
    assert run.retry_at == clock.now + timedelta(seconds=90)
    clock.move(seconds=89)
    assert (step(bot).sent, len(slack.calls)) == (0, 1)
    clock.move(seconds=2)
    assert step(bot).sent == 1
    assert slack.calls == ["chat.postMessage", "chat.postMessage"]


def test_a_rate_limited_webhook_is_tried_later(step, findings, slack, webhook, clock):
    slack.fail_next(rate_limited(60))
    findings.write(make_finding())
    assert step(webhook).retry_at == clock.now + timedelta(seconds=60)
    clock.move(seconds=61)
    assert step(webhook).sent == 1


@pytest.mark.parametrize(
    ("changed", "code", "remedy"),
    [
        ({"token": "xoxb-wrong"}, "invalid_auth", "correct PENNYTRACE_SLACK_TOKEN"),
        ({"channel": "#nowhere"}, "channel_not_found", "correct PENNYTRACE_SLACK_CHANNEL"),
    ],
)
def test_a_permanent_error_says_what_to_do_and_the_message_goes_out_once_it_is_corrected(
    step, findings, slack, bot, store, changed, code, remedy
):
    wrong = SlackSettings(**{**bot.model_dump(), "token": TOKEN, **changed})
    findings.write(make_finding("f1"), make_finding("f2", endpoint="search"))
    run = step(wrong)
    assert isinstance(run.error, SlackRefusedError)
    assert (run.error.code, run.sent, run.failed, run.pending) == (code, 0, 1, 1)
    assert len(slack.calls) == 1
    failed = [row for row in store.rows("alert_deliveries") if row["status"] == "failed"]
    assert code in failed[0]["error"]
    assert remedy in failed[0]["error"]
    assert step(bot).sent == 2
    assert len(slack.messages) == 2


def test_a_removed_webhook_says_so(step, findings, slack, webhook):
    slack.fail_next(Fault(404, "no_service"))
    findings.write(make_finding())
    run = step(webhook)
    assert "make a new one and set PENNYTRACE_SLACK_WEBHOOK_URL" in str(run.error)


def test_refused_blocks_are_sent_as_text(step, findings, slack, bot):
    slack.fail_next(Fault(error="invalid_blocks"))
    findings.write(make_finding())
    assert step(bot).error is None
    (message,) = slack.messages
    assert "blocks" not in message


def test_one_refused_message_does_not_hold_up_the_others(step, findings, slack, bot):
    slack.fail_next(Fault(error="metadata_too_large"))
    findings.write(make_finding("f1"), make_finding("f2", endpoint="search"))
    run = step(bot)
    assert (run.sent, run.failed) == (1, 1)


def test_a_message_whose_answer_was_lost_is_found_in_the_channel_and_not_repeated(step, findings, slack, bot):
    slack.fail_next(Fault(cut_after_work=True))
    findings.write(make_finding())
    assert isinstance(step(bot).error, SlackUnavailableError)
    assert step(bot).error is None
    findings.write(make_finding(ended_at=ONSET + HOUR))
    step(bot)
    assert states(slack.threads) == ["resolved"]


@pytest.mark.parametrize("cut", ["chat.update", "chat.postMessage"])
def test_a_reply_whose_answer_was_lost_stands_in_the_thread_once(step, findings, slack, bot, cut):
    findings.write(make_finding())
    step(bot)
    findings.write(make_finding(ended_at=ONSET + HOUR))
    slack.fail_next(Fault(method=cut, cut_after_work=True))
    assert isinstance(step(bot).error, SlackUnavailableError)
    assert step(bot).error is None
    assert states(slack.threads) == states(slack.replies) == ["resolved"]


def test_a_reply_that_was_not_posted_is_posted_by_the_next_run(step, findings, slack, bot):
    findings.write(make_finding())
    step(bot)
    findings.write(make_finding(ended_at=ONSET + HOUR))
    slack.fail_next(Fault(500, "internal_error", method="chat.postMessage"))
    assert step(bot).sent == 0
    assert step(bot).sent == 1
    assert states(slack.replies) == ["resolved"]


def test_a_thread_may_have_a_reply_for_each_state(step, findings, slack, bot):
    findings.write(make_finding())
    step(bot)
    findings.write(make_finding(ended_at=ONSET + HOUR))
    step(bot)
    findings.write(make_finding())
    slack.fail_next(Fault(method="chat.postMessage", cut_after_work=True))
    step(bot)
    step(bot)
    assert states(slack.replies) == ["resolved", "open"]


def test_a_deleted_message_whose_successor_may_stand_is_not_posted_a_third_time(step, findings, slack, bot):
    findings.write(make_finding())
    step(bot)
    slack.messages.clear()
    findings.write(make_finding(ended_at=ONSET + HOUR))
    slack.fail_next(Fault(method="chat.postMessage", cut_after_work=True))
    step(bot)
    assert step(bot).error is None
    assert states(slack.messages) == ["resolved"]


def test_a_lost_answer_is_posted_again_where_the_bot_may_not_read_the_channel(step, findings, slack, bot):
    slack.is_history_allowed = False
    slack.fail_next(Fault(cut_after_work=True))
    findings.write(make_finding())
    step(bot)
    assert step(bot).sent == 1
    assert len(slack.messages) == 2


def test_a_backlog_is_sent_a_bounded_number_at_a_time_oldest_first(store, settings, clock, findings, slack, bot):
    few = settings.model_copy(update={"messages_per_run_max": 2})
    findings.write(*(make_finding(f"f{n}", endpoint=f"e{n}", started_at=ONSET - n * HOUR) for n in range(5)))
    update_incidents(store, few, clock)
    sent = [deliver(store, few, bot, clock, print).sent for _ in range(4)]
    assert sent == [2, 2, 1, 0]
    assert [line.split(":")[0] for line in first_lines(slack.messages)] == [f"[open] e{n}" for n in (4, 3, 2, 1, 0)]


def test_no_secret_reaches_the_log_or_the_error(step, findings, slack, bot, webhook, caplog, store):
    caplog.set_level(logging.DEBUG)
    findings.write(make_finding())
    slack.fail_next(Fault(500, ""), Fault(404, "no_service"))
    errors = [str(step(webhook).error), str(step(webhook).error), str(step(bot).error)]
    said = caplog.text + "".join(errors) + repr((bot, webhook)) + str(store.rows("alert_deliveries"))
    assert "hooksecret" not in said
    assert TOKEN not in said
    assert "messages sent" in caplog.text
