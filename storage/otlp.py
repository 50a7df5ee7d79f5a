"""The engine's side of OTLP: a block of framed ResourceSpans messages goes in, rows of `spans` come out.

The engine decodes; storage/schema/otlp_spans.proto tells it how and 0001_spans.sql what becomes of it.
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from storage.location import EmbeddedLocation

if TYPE_CHECKING:
    from storage.location import Location
    from storage.store import Store

TABLE = "otlp_spans"
MESSAGE = "R"
# The fields of MESSAGE that Pennytrace writes itself.
SERVICE_FIELD, RESOURCE_FIELD, TENANT_FIELD, RECEIVED_FIELD = 1001, 1002, 1003, 1004


def insert_spans(store: Store, block: bytes, token: str) -> None:
    """Insert length-prefixed messages as one atomic block; a token used before makes this do nothing.

    A token therefore names exactly these bytes. Raises QueryError with the engine's code when a message in
    the block is not what the schema says: then nothing of the block was stored, and the engine does not say
    which message it was.
    """
    settings = {
        **schema_settings(store.location),
        "input_format_protobuf_oneof_presence": 1,
        "async_insert": 0,  # the answer to the client follows the commit
        "insert_deduplication_token": token,
        "deduplicate_blocks_in_dependent_materialized_views": 1,
    }
    store.insert_block(TABLE, block, "Protobuf", settings)


def schema_settings(location: Location) -> dict[str, str]:
    """Settings that show the engine the protobuf schema.

    A server gets the text. The embedded engine would save a text as a file under the working directory, which
    may be read-only or somebody else's, so it gets the path of the packaged file; ':' in a path would be read
    as the end of it, so such a path is passed as text after all.
    """
    source = files("storage").joinpath("schema", "otlp_spans.proto")
    if isinstance(location, EmbeddedLocation) and isinstance(source, Path) and ":" not in str(source):
        return {"format_schema_source": "file", "format_schema": f"{source}:{MESSAGE}"}
    text = re.sub(r"//.*", "", source.read_text())
    return {
        "format_schema_source": "string",
        "format_schema": " ".join(text.split()),
        "format_schema_message_name": MESSAGE,
    }
