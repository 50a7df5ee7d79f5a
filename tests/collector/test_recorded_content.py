"""The recorded corpus on its whole way in: nothing that was said is stored, and every call is billed."""

from __future__ import annotations

import importlib.util
import json
import re
import zlib
from datetime import UTC, datetime
from gzip import decompress as gunzip
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from analytics.ledger import recompute
from analytics.report import calls
from analytics.settings import LedgerSettings
from collector import LOGS, METRICS, TRACES, CollectorSettings, Encoding, Ingest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from storage import Store

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus"
SIGNALS = {"traces": TRACES, "metrics": METRICS, "logs": LOGS}
RECORDED = datetime(2026, 11, 24, tzinfo=UTC)
PERIOD = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
TABLES = ("spans", "log_records", "metric_points", "calls", "cost_hourly")

# Prompts hold words in square brackets, which tell the fake provider what to answer; and what it answered.
MARKER = re.compile(rb"\[(?:big|cache|err|once|read|reason|tool|write)[a-z0-9]{0,12}\]")
SAID = re.compile(rb'"(?:content|text|prompt|arguments|response|input|result)" ?: ?\\?"((?:[^"\\]|\\.){6,})')
ALSO_SAID = (b"The answer is", b"weather in", b"weather?", b"Oslo", b"6*7", b"[0.1,0.2")

pytestmark = pytest.mark.skipif(not CORPUS.exists(), reason="needs the shared data folder")


def bodies() -> Iterator[tuple[dict[str, str], str, bytes]]:
    """Headers, signal and unpacked body of every recorded request."""
    for meta in sorted(CORPUS.glob("*/meta.json")):
        for request in json.loads(meta.read_text())["requests"]:
            encoding = request["headers"].get("content-encoding", "") if request["transport"] == "http" else ""
            unpack = {"gzip": gunzip, "deflate": zlib.decompress}.get(encoding, bytes)
            yield request["headers"], request["signal"], unpack((meta.parent / request["body"]).read_bytes())


def sent(ingest: Ingest) -> None:
    for headers, signal, body in bodies():
        encoding = Encoding.JSON if "json" in headers.get("content-type", "") else Encoding.PROTOBUF
        ingest.receive(SIGNALS[signal], body, encoding).result()


def known_texts() -> set[bytes]:
    """What was said in the recording, told by its look and not by the keys under which it stands."""
    texts = set(ALSO_SAID)
    for _, signal, body in bodies():
        if signal != "metrics":
            texts |= set(MARKER.findall(body)) | set(SAID.findall(body))
    return {text.replace(b"\\", b"") for text in texts}


def stored_bytes(store: Store) -> bytes:
    """Every column of every row, without the backslashes of escapes."""
    parts: list[bytes] = []
    for table in TABLES:
        names = store.frame_of(
            "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = {table:String}",
            {"table": table},
        )["name"]
        row = ", ".join(f"ifNull(toString({name}), '')" for name in names)
        rows = store.frame_of(f"SELECT hex(concatWithSeparator('|', {row})) AS text FROM {table}")["text"]
        parts += [bytes.fromhex(text) for text in rows]
    return b"\n".join(parts).replace(b"\\", b"")


def scorer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score_calls", CORPUS / "score_calls.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wrong_cases(store: Store) -> list[dict[str, object]]:
    recompute(store, LedgerSettings(), lambda: RECORDED)
    billed = calls(store, *PERIOD).to_dicts()
    cases = [path.parent for path in CORPUS.glob("*/expected.json") if "calls" in json.loads(path.read_text())]
    assert len(cases) > 40
    results = [scorer().score_case(case, billed) for case in cases]
    return [result for result in results if not result["right"]]


@pytest.mark.parametrize("keep", [False, True], ids=["content dropped", "content kept"])
def test_every_recorded_call_is_billed_and_nothing_said_is_stored_unless_wanted(store, journal, keep):
    settings = CollectorSettings(keep_logs=True, keep_message_content=keep)
    ingest = Ingest(store, settings, lambda: RECORDED, journal)
    store.feeders = (ingest,)
    sent(ingest)
    everything = stored_bytes(store)
    assert wrong_cases(store) == []
    store.feeders = ()
    dropped = sum(one.value for one in ingest.counts() if one.name == "pennytrace_content_dropped_total")
    ingest.close()
    assert len(everything) > 100_000
    leaked = {text for text in known_texts() if text in everything}
    assert (leaked, dropped > 0) == (leaked if keep else set(), not keep)
    assert not keep or len(leaked) > 30
