"""What survives the end of the process; each test opens its own store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from alerts import AlertSettings, SlackSettings, deliver, update_incidents
from alerts.incidents import read_incidents
from storage import EmbeddedLocation, Store
from tests.alerts.conftest import Findings, MemoryClock, make_finding
from tests.alerts.fake_slack import CHANNEL, TOKEN, FakeSlack, Fault

if TYPE_CHECKING:
    from pathlib import Path

SENDER = """
import sys
from pathlib import Path
from alerts import AlertSettings, SlackSettings, deliver, update_incidents
from storage import EmbeddedLocation, Store
from tests.alerts.conftest import Findings, MemoryClock, make_finding
store = Store.open(EmbeddedLocation(Path(sys.argv[1])))
Findings(store).write(make_finding())
update_incidents(store, AlertSettings(), MemoryClock())
slack = SlackSettings(token=sys.argv[3], channel=sys.argv[4], base_url=sys.argv[2])
deliver(store, AlertSettings(), slack, MemoryClock(), print)
"""


def test_incidents_survive_a_restart_with_their_keys(tmp_path: Path):
    clock, settings = MemoryClock(), AlertSettings()
    store = Store.open(EmbeddedLocation(tmp_path))
    Findings(store).write(make_finding())
    (before,) = update_incidents(store, settings, clock)
    store.close()
    store = Store.open(EmbeddedLocation(tmp_path))
    assert update_incidents(store, settings, clock) == []
    assert read_incidents(store) == [before]
    store.close()


def test_a_sender_killed_after_slack_took_the_message_does_not_send_it_twice(tmp_path: Path):
    with FakeSlack() as slack:
        slack.fail_next(Fault(cut_after_work=True, hang_seconds=60))
        command = [sys.executable, "-c", SENDER, str(tmp_path), slack.base_url, TOKEN, CHANNEL]
        process = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while not slack.messages and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        store = Store.open(EmbeddedLocation(tmp_path))
        settings = SlackSettings(token=TOKEN, channel=CHANNEL, base_url=slack.base_url)
        run = deliver(store, AlertSettings(), settings, MemoryClock(), print)
        store.close()
        assert (run.sent, run.pending) == (1, 0)
        assert len(slack.messages) == 1
