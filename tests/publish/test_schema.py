"""The committed JSON Schema is current, and real messages match it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from pipeline.publish.schema import message_schema, schema_text
from tests.golden.make_golden import golden_messages
from tests.publish.examples import make_publisher, make_result, make_status

COMMITTED = Path(__file__).parents[2] / "docs" / "onpace-messages.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(message_schema())


def test_the_committed_schema_is_current() -> None:
    assert COMMITTED.read_text() == schema_text(), "run: python -m pipeline.publish.schema > docs/" + COMMITTED.name
    jsonschema.Draft202012Validator.check_schema(message_schema())


def test_real_and_golden_messages_match_the_schema() -> None:
    publisher = make_publisher()
    real = [publisher.publish(make_result(objects=3), wait_seconds=0.0), publisher.publish_status(make_status())]
    for message in [*real, *golden_messages().values()]:
        VALIDATOR.validate(json.loads(msgspec.json.encode(message)))


@pytest.mark.parametrize("change", [{"kind": "other"}, {"sequence": "1"}, {"objects": [{"xyxy": [1, 2, 3]}]}])
def test_what_is_no_message_does_not_match(change: dict[str, object]) -> None:
    message = json.loads(msgspec.json.encode(golden_messages()["detections_full"]))
    assert not VALIDATOR.is_valid({**message, **change})
