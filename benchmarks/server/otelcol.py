"""The OpenTelemetry Collector under the same load: OTLP over HTTP into its file exporter."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import TYPE_CHECKING

from server.end_to_end import SPANS_A_BODY, send_closed_loop
from server.process import process_usage

if TYPE_CHECKING:
    from pathlib import Path

START_S = 30
CONFIG = """
receivers: {{otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}}}
exporters: {{file: {{path: "{folder}/spans.bin", format: proto}}}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}}}
"""


def measure_otelcol(binary: Path, folder: Path, seconds: float) -> dict[str, float]:
    """CPU a span of its process and spans a second. It keeps no journal, decodes and writes one file."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
    config = folder / "otelcol.yaml"
    config.write_text(CONFIG.format(port=port, folder=folder))
    process = subprocess.Popen([binary, "--config", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        send_closed_loop(port, 0.5)
        before, started = process_usage(process.pid).cpu_s, time.monotonic()
        spans = len(send_closed_loop(port, seconds)) * SPANS_A_BODY
        cpu, took = process_usage(process.pid).cpu_s - before, time.monotonic() - started
    finally:
        process.terminate()
        process.wait()
    return {"otelcol_cpu_us": round(cpu * 1e6 / spans, 2), "otelcol_spans_per_second": round(spans / took)}


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("expected a Collector with the otlp receiver and the file exporter") from error
            time.sleep(0.1)
        else:
            return
