"""One insert in a process of its own: DATA embedded|server, the location whose schema settings are used.

Prints how many spans are stored then. The engine remembers where it was first used, hence the process.
"""

from __future__ import annotations

import sys
from pathlib import Path

from collector import CollectorSettings, framing
from collector.window import Window
from storage import EmbeddedLocation, ServerLocation, Store, otlp
from tests.collector.bodies import KEEPS_CONTENT, NOW, trace_request

if __name__ == "__main__":
    data, shown_to = Path(sys.argv[1]), sys.argv[2]
    request = trace_request(2)
    window = Window.around(NOW, CollectorSettings())
    body = framing.frame(request, request.SerializeToString(), window, "", KEEPS_CONTENT)
    block = b"".join(row.framed() for row in body.rows)
    store = Store.open(EmbeddedLocation(data))
    if shown_to == "embedded":
        otlp.insert_spans(store, block, "token")
    else:
        settings = otlp.schema_settings(ServerLocation("http://127.0.0.1:8123"))
        store.insert_block(otlp.TABLE, block, "Protobuf", {**settings, "input_format_protobuf_oneof_presence": 1})
    print(store.frame_of("SELECT count() AS spans FROM spans")["spans"][0])  # noqa: T201 (the test reads it)
    store.close()
