from __future__ import annotations

import http.client
import os
import random
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from collector import CollectorSettings, Ingest
from storage import EmbeddedLocation, Store
from tests.collector.bodies import sent_ids, span_ids, trace_request

ROOT = Path(__file__).parents[2]
SPANS_A_BODY = 5
KILLS = int(os.environ.get("PENNYTRACE_TEST_KILLS", "4"))


def send_until_it_dies(port: int, acknowledged: list[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    start_ns = time.time_ns()
    try:
        while True:
            request = trace_request(SPANS_A_BODY, start_ns=start_ns)
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


def run_and_kill(data: Path, acknowledged: list[str], wait_s: float) -> None:
    """Send to a collector over `data`, and kill it so long after it first answered."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.collector.acknowledging", data], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with process:
        port = int(process.stdout.readline())
        senders = [threading.Thread(target=send_until_it_dies, args=(port, acknowledged)) for _ in range(4)]
        answered = len(acknowledged)
        for sender in senders:
            sender.start()
        while len(acknowledged) == answered:
            time.sleep(0.001)
        time.sleep(wait_s)
        process.kill()
        for sender in senders:
            sender.join()


@pytest.mark.slow
def test_after_any_number_of_kills_what_was_acknowledged_is_stored_exactly_once(tmp_path):
    acknowledged: list[str] = []
    for _ in range(KILLS):
        run_and_kill(tmp_path, acknowledged, wait_s=random.uniform(0, 0.7))
    store = Store.open(EmbeddedLocation(tmp_path))
    ingest = Ingest(store, CollectorSettings(), lambda: datetime.now(UTC), tmp_path / "journal")
    assert ingest.flush(60)
    stored = span_ids(store)
    rows = store.frame_of("SELECT count() AS rows FROM spans")["rows"][0]
    ingest.close()
    store.close()
    assert set(acknowledged) <= stored
    assert rows == len(stored), "a span is stored twice"
    assert list((tmp_path / "journal" / "damaged" / "traces").glob("*.journal")) == []
