from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from collector import CollectorSettings, framing
from collector.window import Window
from storage import ServerLocation, otlp
from tests.collector.bodies import KEEPS_CONTENT, NOW, trace_request

ROOT = Path(__file__).parents[2]
NOBODY_CAN_WRITE_HERE = Path("/proc")


def spans_inserted(data: Path, shown_to: str, working_directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.collector.inserting", data, shown_to],
        cwd=working_directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_embedded_engine_writes_nothing_into_the_working_directory(tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    assert spans_inserted(tmp_path / "data", "embedded", here) == "2"
    assert not list(here.iterdir())


@pytest.mark.skipif(not NOBODY_CAN_WRITE_HERE.exists(), reason="needs /proc, where not even root can write")
def test_the_embedded_engine_works_in_a_directory_where_nobody_can_write(tmp_path):
    assert spans_inserted(tmp_path / "data", "embedded", NOBODY_CAN_WRITE_HERE) == "2"


def test_the_text_that_a_server_gets_is_read_as_the_file_is(tmp_path):
    assert "//" not in otlp.schema_settings(ServerLocation("http://127.0.0.1:8123"))["format_schema"]
    assert spans_inserted(tmp_path / "data", "server", tmp_path) == "2"


def test_a_block_sent_again_with_its_token_adds_neither_rows_nor_dirt(store):
    request = trace_request(3)
    window = Window.around(NOW, CollectorSettings())
    body = framing.frame(request, request.SerializeToString(), window, "", KEEPS_CONTENT)
    for _ in range(2):
        otlp.insert_spans(store, b"".join(row.framed() for row in body.rows), "the same")
    counted = store.frame_of(
        "SELECT (SELECT count() FROM spans) AS spans, (SELECT sum(batches) FROM dirty_hours) AS batches"
    )
    assert counted.to_dicts() == [{"spans": 3, "batches": 1}]
