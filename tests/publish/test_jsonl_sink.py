"""JSON Lines into real files, pipes and full disks."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import UrlError
from pipeline.publish.jsonl_sink import MOST_PENDING_BYTES, JsonLinesSink
from pipeline.publish.sink import open_sink
from tests.publish.examples import make_publisher, make_result, make_status


def test_every_message_is_one_line_and_a_second_run_appends(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    ids = []
    for _ in range(2):
        publisher = make_publisher(open_sink(f"jsonl:{path}"))
        ids.append(publisher.id)
        publisher.publish(make_result(), wait_seconds=0.0)
        publisher.publish_status(make_status())
        publisher.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["kind"], line["publisher"]) for line in lines] == [
        (kind, run) for run in ids for kind in ("detections", "status")
    ]


def test_a_tick_makes_lines_visible(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    publisher = make_publisher(JsonLinesSink(str(path)))
    publisher.publish(make_result(), wait_seconds=0.0)
    publisher.tick()
    assert len(path.read_text().splitlines()) == 1
    publisher.close()


def test_half_a_line_of_a_killed_run_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"kind": "detec')
    publisher = make_publisher(JsonLinesSink(str(path)))
    publisher.publish(make_result(), wait_seconds=0.0)
    publisher.close()
    torn, whole = path.read_text().splitlines()
    assert torn == '{"kind": "detec'
    assert json.loads(whole)["sequence"] == 1


@pytest.mark.parametrize("path", ["missing/out.jsonl", "."])
def test_a_path_that_cannot_be_written_is_refused(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UrlError, match="Give a file that can be written, or - for stdout"):
        JsonLinesSink(path)


def test_a_fifo_that_nobody_reads_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UrlError, match="start its reader first"):
        JsonLinesSink(str(tmp_path / "fifo"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_never_stops_publishing_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    sink = JsonLinesSink("/dev/full")
    publisher = make_publisher(sink)
    with caplog.at_level(logging.WARNING):
        for index in range(30):
            publisher.publish(make_result(index=index), wait_seconds=0.0)
            publisher.tick()
        publisher.close()
    assert sink.lost == 30
    assert len(caplog.records) == 1


def test_a_file_that_may_not_grow_loses_what_does_not_fit_counted(tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pipeline.publish.jsonl_sink import JsonLinesSink
from tests.publish.examples import make_publisher, make_result
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
sink = JsonLinesSink(sys.argv[1])
publisher = make_publisher(sink)
for index in range(100):
    publisher.publish(make_result(index=index), wait_seconds=0.0)
publisher.close()
print(sink.lost)
"""
    path = tmp_path / "out.jsonl"
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    whole_lines = path.read_bytes().count(b"\n")
    assert whole_lines > 0
    assert whole_lines + int(done.stdout) == 100


def test_a_reader_that_goes_away_never_stops_publishing(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    sink = JsonLinesSink(str(fifo))
    publisher = make_publisher(sink)
    publisher.publish(make_result(), wait_seconds=0.0)
    publisher.tick()
    os.close(reader)
    for index in range(1, 11):
        publisher.publish(make_result(index=index), wait_seconds=0.0)
        publisher.tick()
    publisher.close()
    assert sink.lost == 10


def test_a_reader_that_stops_reading_never_makes_the_pipeline_wait(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    sink = JsonLinesSink(str(fifo))
    publisher = make_publisher(sink)
    sent = 0
    started = time.monotonic()
    while sink.lost < 10:
        publisher.publish(make_result(index=sent, objects=300), wait_seconds=0.0)
        sent += 1
        assert sent * 10_000 < 20 * MOST_PENDING_BYTES
    assert time.monotonic() - started < 20

    # What was kept arrives whole once it reads again.
    received = bytearray()
    for _ in range(10_000):
        publisher.tick()
        try:
            received += os.read(reader, 1 << 16)
        except BlockingIOError:
            break
    publisher.close()
    os.close(reader)
    numbers = [json.loads(line)["sequence"] for line in received.splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) + sink.lost == sent


def test_stdout_as_a_pipe_that_closes_early_ends_quietly() -> None:
    script = """
import sys
from pipeline.publish.sink import open_sink
from tests.publish.examples import make_publisher, make_result
sink = open_sink("jsonl:-")
publisher = make_publisher(sink)
for index in range(2000):
    publisher.publish(make_result(index=index), wait_seconds=0.0)
    publisher.tick()
publisher.close()
print(sink.lost > 0, file=sys.stderr)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert json.loads(child.stdout.readline())["sequence"] == 1
        child.stdout.close()
        assert child.stderr.read().strip().endswith("True")
        assert child.wait(10) == 0
