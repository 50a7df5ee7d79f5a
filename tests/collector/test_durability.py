from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from storage import EmbeddedLocation, Store
from tests.collector.bodies import sent_ids, span_ids, trace_request

ROOT = Path(__file__).parents[2]
ACKNOWLEDGED_BEFORE_THE_KILL = 40


def send_until_it_dies(port: int, acknowledged: list[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    start_ns = time.time_ns()
    try:
        while True:
            request = trace_request(5, start_ns=start_ns)
            connection.request(
                "POST", "/v1/traces", request.SerializeToString(), {"content-type": "application/x-protobuf"}
            )
            answer = connection.getresponse()
            if answer.read() == b"" and answer.status == 200:
                acknowledged.extend(sent_ids(request))
    except (OSError, http.client.HTTPException):
        return
    finally:
        connection.close()


@pytest.mark.parametrize("attempt", range(2))
def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path, attempt):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.collector.acknowledging", tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process:
        port = int(process.stdout.readline())
        acknowledged: list[str] = []
        senders = [threading.Thread(target=send_until_it_dies, args=(port, acknowledged)) for _ in range(4)]
        for sender in senders:
            sender.start()
        while len(acknowledged) < ACKNOWLEDGED_BEFORE_THE_KILL * (attempt + 1):
            time.sleep(0.001)
        process.kill()
        for sender in senders:
            sender.join()
    store = Store.open(EmbeddedLocation(tmp_path))
    stored = span_ids(store)
    store.close()
    assert set(acknowledged) <= stored
