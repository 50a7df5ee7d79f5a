"""The end of a process, in real processes."""

import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import os, signal, sys, time
import pennytrace

{before}
options = dict(gpu=False, export_interval_s=60, exit_timeout_s={exit_timeout_s})
pennytrace.configure(service="s", endpoint_url=sys.argv[1], **options)
{after}

@pennytrace.observe(endpoint="/chat")
def chat():
    pennytrace.record_usage(input_tokens=1)

for _ in range(1000):
    chat()
print("ready", flush=True)
{end}
"""


# On a busy machine a flush may take longer than the default of two seconds; one that hangs still fails.
PATIENT_S = 15


def start(sink, end, before="", after="", exit_timeout_s=PATIENT_S):
    code = PROGRAM.format(before=before, after=after, end=end, exit_timeout_s=exit_timeout_s)
    process = subprocess.Popen([sys.executable, "-c", code, sink.url], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process):
    with process:
        return process.wait(20), process.stdout.read()


def test_nothing_queued_is_lost_at_a_normal_exit(sink):
    assert finish(start(sink, "")) == (0, "")
    assert len(sink.spans()) == 1000


def test_sigterm_with_the_default_action_sends_everything_and_still_kills(sink):
    process = start(sink, "time.sleep(30)")
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (-signal.SIGTERM, "")
    assert len(sink.spans()) == 1000


def test_sigterm_while_the_exit_sends_waits_for_it(sink):
    sink.hold.clear()
    process = start(sink, "")
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    sink.hold.set()
    assert finish(process) == (-signal.SIGTERM, "")
    assert len(sink.spans()) == 1000


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_applications_own_sigterm_handler_stays(sink, place):
    handler = 'signal.signal(signal.SIGTERM, lambda *_: (print("mine", flush=True), sys.exit(7)))'
    process = start(sink, "time.sleep(30)", **{place: handler})
    process.send_signal(signal.SIGTERM)
    assert finish(process) == (7, "mine\n")
    assert len(sink.spans()) == 1000


def test_a_child_that_multiprocessing_forked_sends_its_spans_when_it_ends(sink):
    end = """
from multiprocessing import get_context
child = get_context("fork").Process(target=lambda: [chat() for _ in range(100)])
child.start()
child.join()
"""
    assert finish(start(sink, end)) == (0, "")
    assert len(sink.spans()) == 1100


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_a_hanging_backend_holds_the_exit_for_two_seconds_at_most(sink, end):
    sink.hold.clear()
    process = start(sink, end, exit_timeout_s=2.0)
    started = time.monotonic()
    finish(process)
    assert 1 < time.monotonic() - started < 5
