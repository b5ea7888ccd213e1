"""Each message carries the context of its frame's trace, and the spans arrive at a real OTLP receiver."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pipeline.config.load import config_from_mapping
from pipeline.pipeline import Pipeline
from tests.helpers.tiny_onnx import do_nothing_detector

TRACEPARENT = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-(0[01])$")


class Receiver:
    """An OTLP collector on a free port: keeps every span that is sent to it."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    names = {one.key: one.value.string_value for one in resource.resource.attributes}
                    receiver.services.add(names["service.name"])
                    receiver.spans += [span for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver():
    found = Receiver()
    yield found
    found.server.shutdown()
    found.server.server_close()


def published(folder: Path, trace: dict[str, Any]) -> list[dict[str, Any]]:
    """Run twenty pictures through a pipeline; return their messages."""
    model = do_nothing_detector(folder / "nothing.onnx", size=(160, 96))
    out = folder / "out.jsonl"
    data = {
        "streams": [{"id": "a", "url": "pattern:?size=160x96&fps=50&frames=20"}],
        "infer": {"model": str(model), "runtime": "cpu"},
        "publish": {"sinks": [f"jsonl:{out}"]},
        "trace": trace,
    }
    with Pipeline(config_from_mapping(data, origin="test")) as pipeline:
        pipeline.start()
        assert pipeline.wait(30)
    messages = [json.loads(line) for line in out.read_text().splitlines()]
    return [message for message in messages if message["kind"] == "detections"]


def test_every_message_has_its_trace_and_every_trace_arrives(tmp_path, receiver):
    messages = published(tmp_path, {"enabled": True, "otlp": receiver.url})
    assert len(messages) == 20
    assert receiver.services == {"onpace"}
    roots = {span.trace_id.hex(): span for span in receiver.spans if not span.parent_span_id}
    assert len(roots) == len(messages)
    for message in messages:
        trace_id, span_id, flags = TRACEPARENT.match(message["traceparent"]).groups()
        root = roots[trace_id]
        assert (root.span_id.hex(), flags, root.name) == (span_id, "01", "frame")
        seconds = (root.end_time_unix_nano - root.start_time_unix_nano) / 1e9
        assert seconds == pytest.approx(message["age_seconds"], abs=1e-4)
        said = {one.key: one.value for one in root.attributes}
        assert said["onpace.stream_id"].string_value == "a"
        assert said["onpace.frame_index"].int_value == message["frame_index"]
        stages = [span for span in receiver.spans if span.parent_span_id == root.span_id]
        assert {span.name for span in stages} == {
            *("decode", "wait", "preprocess", "infer", "postprocess", "track"),
        }
        for span in stages:
            assert root.start_time_unix_nano - 1e6 <= span.start_time_unix_nano <= span.end_time_unix_nano
            assert span.end_time_unix_nano <= root.end_time_unix_nano + 1e6
            if span.name == "infer":
                took = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
                assert took == pytest.approx(message["stage_seconds"]["infer"], abs=1e-4)


def test_what_is_not_sampled_has_a_context_that_says_so_and_no_spans(tmp_path, receiver):
    messages = published(tmp_path, {"enabled": True, "otlp": receiver.url, "sample": 0.0})
    assert {TRACEPARENT.match(message["traceparent"]).group(3) for message in messages} == {"00"}
    assert not receiver.spans


def test_contexts_alone_need_no_receiver(tmp_path):
    messages = published(tmp_path, {"enabled": True})
    assert len({TRACEPARENT.match(message["traceparent"]).group(1) for message in messages}) == 20


def test_off_means_no_context(tmp_path):
    assert {message["traceparent"] for message in published(tmp_path, {})} == {""}


def test_a_receiver_that_is_not_there_delays_nothing(tmp_path):
    assert len(published(tmp_path, {"enabled": True, "otlp": "http://127.0.0.1:9/v1/traces"})) == 20


def test_nothing_of_the_sdk_is_loaded_unless_spans_are_sent():
    script = "import sys, pipeline.pipeline; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
