"""OpenTelemetry's exporters for JavaScript: HTTP with JSON, HTTP with protobuf, gRPC, with gzip and without.

package.json and its lock are in npm/; what they name is installed once into pytest's cache.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.interop.stored import stored

SOURCES = Path(__file__).parent / "npm"
INSTALL_S = 240


@pytest.fixture(scope="session")
def script(request) -> Path:
    """export.mjs beside the packages that it imports."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs node and npm")
    lock = (SOURCES / "package-lock.json").read_bytes()
    folder: Path = request.config.cache.mkdir(f"npm-{hashlib.sha256(lock).hexdigest()[:16]}")
    if not (folder / "installed").exists():
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCES / name, folder)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        if installed.returncode:
            pytest.skip(f"needs the npm registry: {installed.stderr.strip().splitlines()[-1:]}")
        (folder / "installed").touch()
    return Path(shutil.copy(SOURCES / "export.mjs", folder))


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("transport", ["http", "proto", "grpc"])
def test_the_npm_exporters_get_their_spans_and_points_stored(server, script, transport, compression):
    url = f"http://{server.addresses()['gRPC']}" if transport == "grpc" else server.url("http")
    command = ["node", script, transport, compression, url, "30"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    check_spans(stored(server.store, SPANS, rows=30))
    points = stored(server.store, POINTS, rows=2)
    assert [(point["metric"], point["unit"], point["value"], point["count"]) for point in points] == [
        ("seconds", "s", None, 1),
        ("tokens", "{token}", 7.0, None),
    ]


SPANS = """
SELECT lower(hex(span_id)) AS span_id, lower(hex(parent_span_id)) AS parent_span_id, name, attributes,
  length(events) AS events, CAST(attribute_types, 'Array(String)') AS types
FROM spans FINAL WHERE service = 'npm' ORDER BY toUInt32OrZero(attributes['gen_ai.usage.input_tokens'])
"""
POINTS = "SELECT metric, unit, value, count FROM metric_points FINAL WHERE service = 'npm' ORDER BY metric"


def check_spans(rows: list[dict[str, object]]) -> None:
    [root] = [row for row in rows if row["name"] == "request"]
    children = [row for row in rows if row["name"] == "chat"]
    assert {row["parent_span_id"] for row in children} == {root["span_id"]}
    for tokens, row in enumerate(children):
        attributes = dict(row["attributes"])
        assert attributes["gen_ai.usage.input_tokens"] == str(tokens)
        assert attributes["gen_ai.response.time_to_first_chunk"] == str(tokens + 0.25)
        assert attributes["gen_ai.request.stream"] == "true"
        assert "naïve 日本" in attributes["gen_ai.response.finish_reasons"]
        assert dict(zip(attributes, row["types"], strict=True))["gen_ai.response.finish_reasons"] == "a"
        assert row["events"] == 1
