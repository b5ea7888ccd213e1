"""The samples for users, run against a real publisher."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from pipeline.publish.zmq_sink import ZmqSink
from tests.publish.examples import free_endpoint, make_publisher, make_result, make_status

SAMPLES = Path(__file__).parents[2] / "samples"
NODE_PACKAGES = SAMPLES / "node" / "node_modules"


def _node() -> list[str]:
    node = shutil.which("node")
    if node is None or not (NODE_PACKAGES / "zeromq").is_dir() or not (NODE_PACKAGES / "@msgpack").is_dir():
        reason = "node or the sample's packages are missing: run 'npm install' in samples/node"
        if os.environ.get("FAIL_WITHOUT_NODE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return [node, str(SAMPLES / "node" / "subscribe.mjs")]


@pytest.mark.parametrize("language", ["python", "node"])
@pytest.mark.parametrize("encoding", ["msgpack", "json"])
def test_the_sample_counts_objects_and_notices_a_gap(language, encoding) -> None:  # type: ignore[no-untyped-def]
    command = [sys.executable, str(SAMPLES / "subscribe.py")] if language == "python" else _node()
    endpoint = free_endpoint()
    sink = ZmqSink(endpoint, encoding)
    publisher, withheld = make_publisher(sink), make_publisher()
    publisher.publish_status(make_status())
    with subprocess.Popen([*command, endpoint, "5"], stdout=subprocess.PIPE, text=True) as child:
        try:
            _wait_for_subscriber(sink)
            for number in range(1, 8):
                message = withheld.publish(make_result(index=number, objects=3), wait_seconds=0.0)
                if number not in (3, 4):
                    sink.send(msgspec.structs.replace(message, publisher=publisher.id))
            output, _ = child.communicate(timeout=20)
        finally:
            child.kill()
    publisher.close()
    lines = output.replace('"', "'").replace(" ", "").splitlines()
    assert "lobby:lost2messagesaftersequence2" in lines
    assert lines[-1].replace("':", "'").replace("'", "") in (
        "lobby{bicycle5,car5,person5}",
        "lobby{person5,bicycle5,car5}",
    )
    assert child.returncode == 0


def test_the_python_sample_is_short() -> None:
    assert len((SAMPLES / "subscribe.py").read_text().splitlines()) <= 40


def _wait_for_subscriber(sink: ZmqSink) -> None:
    deadline = time.monotonic() + 20
    while sink.subscriptions < 2:
        assert time.monotonic() < deadline, "the sample did not subscribe"
        sink.tick()
        time.sleep(0.02)
    sink.tick()
    time.sleep(0.1)
