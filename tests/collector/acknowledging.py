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
    data = Path(sys.argv[1])
    # Segments as short as can be, so that a kill is likely to come while one is rolled, stored or removed.
    settings = CollectorSettings(segment_seconds=0, segment_bytes_max=8192)
    store = Store.open(EmbeddedLocation(data))
    with serve(Ingest(store, settings, lambda: datetime.now(UTC), data / "journal"), settings) as serving:
        print(serving.http_port, flush=True)  # noqa: T201 (the test reads it)
        time.sleep(600)
