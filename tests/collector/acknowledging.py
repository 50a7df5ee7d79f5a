"""A collector process to be killed: python acknowledging.py DATA prints its HTTP port."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from collector import CollectorSettings, Ingest
from storage import EmbeddedLocation, Store
from tests.collector.serving import serve

if __name__ == "__main__":
    settings = CollectorSettings(commit_delay_ms=5)
    store = Store.open(EmbeddedLocation(Path(sys.argv[1])))
    with serve(Ingest(store, settings, clock=lambda: datetime.now(UTC)), settings) as serving:
        print(serving.http_port, flush=True)  # noqa: T201 (the test reads it)
        time.sleep(600)
