"""Writes the JSON Schema of the messages: ``python -m pipeline.publish.schema > docs/onpace-messages.schema.json``."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from pipeline.publish.messages import SCHEMA_VERSION, DetectionsMessage, StatusMessage


def message_schema() -> dict[str, Any]:
    """Return one schema that both kinds of message match. Fields that it does not name are allowed: v1 may grow."""
    (union,), components = msgspec.json.schema_components(
        [DetectionsMessage | StatusMessage], ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Onpace message, schema version {SCHEMA_VERSION}",
        **union,
        "$defs": components,
    }


def schema_text() -> str:
    """Return the schema as it is committed."""
    return json.dumps(message_schema(), indent=2) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
