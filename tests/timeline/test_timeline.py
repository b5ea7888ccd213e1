"""A timeline keeps to its format and its bounds, and never harms the run."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.clock import monotonic
from pipeline.errors import ConfigError
from pipeline.frame import Colour, Frame
from pipeline.timeline import timeline as module
from pipeline.timeline.timeline import Begun, begin_timeline, join_timeline
from tests.helpers.trace_events import read_trace


def frame_of(stream_id: str, index: int) -> Frame:
    planes = (np.zeros((2, 2), np.uint8),) * 3
    return Frame(stream_id, 1, index, planes, Colour(), 0, 0.0, 0.0, 0.0, 0.0, "file", 0.0)


def test_threads_write_side_by_side_and_every_span_arrives(tmp_path):
    file = tmp_path / "trace.json"
    timeline = begin_timeline(file)
    timeline.watch(lambda: {"frames queued": {'odd "name"': 3}})

    def work(number: int) -> None:
        track = timeline.track(f"thread {number}")
        begun = monotonic()
        for index in range(500):
            track.span(
                "step", begun + index * 1e-3, begun + (index + 0.5) * 1e-3, (frame_of(f"s{number}", index),), "s"
            )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(0.25)
    timeline.close()
    timeline.close()
    trace = read_trace(file)
    for number in range(4):
        spans = trace.track(f"thread {number}")
        assert [span.frames for span in spans] == [(f"s{number}/{index}",) for index in range(500)]
        assert all(span.end - span.begin == pytest.approx(500, abs=0.01) for span in spans)
    assert len(trace.flows) == 2000
    assert trace.counters["frames queued"][0] == {'odd "name"': 3}


def test_a_frame_is_not_kept_by_the_timeline(tmp_path):
    class Planes(tuple):
        gone = threading.Event()

        def __del__(self) -> None:
            Planes.gone.set()

    timeline = begin_timeline(tmp_path / "trace.json")
    frame = frame_of("s", 0)
    frame.planes = Planes(frame.planes)  # type: ignore[assignment]
    timeline.track("x").span("step", 0.0, 1.0, (frame,))
    del frame
    assert Planes.gone.is_set()
    timeline.close()


def test_a_file_that_has_grown_large_ends_whole(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "_MOST_BYTES", 20_000)
    file = tmp_path / "trace.json"
    timeline = begin_timeline(file)
    track = timeline.track("stage")
    until = monotonic() + 20.0
    while not timeline._done.is_set() and monotonic() < until:
        begun = monotonic()
        track.span("step", begun, begun + 0.0005)
        time.sleep(0.001)
    timeline.close()
    assert 20_000 <= file.stat().st_size < 200_000
    assert read_trace(file).track("stage")
    assert "ends here" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_disk_that_is_full_ends_the_timeline_and_nothing_else(caplog):
    caplog.set_level(logging.WARNING)
    timeline = begin_timeline(Path("/dev/full"))
    track = timeline.track("stage")
    until = monotonic() + 20.0
    while "the run goes on without it" not in caplog.text and monotonic() < until:
        track.span("step", 0.0, 1.0)
        time.sleep(0.02)
    timeline.close()
    assert "the run goes on without it" in caplog.text


def test_a_file_in_no_folder_is_refused_in_words(tmp_path):
    with pytest.raises(ConfigError, match=r"--trace .*: cannot be written: No such file or directory"):
        begin_timeline(tmp_path / "none" / "trace.json")


def test_a_file_that_is_gone_or_over_is_not_joined_and_nothing_fails_of_it(tmp_path, caplog):
    begun = Begun(tmp_path / "none" / "trace.json", monotonic(), 60.0)
    assert join_timeline(begun, "worker 1") is None
    assert join_timeline(Begun(tmp_path / "trace.json", monotonic() - 60.0, 60.0), "worker 1") is None  # it is over
    assert not (tmp_path / "trace.json").exists()
    assert "worker 1 cannot write to it (No such file or directory): it goes on without" in caplog.text


def test_processes_that_join_write_whole_lines_between_each_others(tmp_path):
    file = tmp_path / "trace.json"
    timeline = begin_timeline(file)
    begun = timeline.share()
    program = (
        "import sys, pickle, time\n"
        "from pipeline.timeline.timeline import join_timeline\n"
        "begun, name = pickle.loads(bytes.fromhex(sys.argv[1])), sys.argv[2]\n"
        "joined = join_timeline(begun, name)\n"
        "track, gpu = joined.track('stage'), joined.track('stage', 'GPU 0')\n"
        "for index in range(3000):\n"
        "    track.span(f'{name} {index} ' + 'x' * 300, begun.at + index, begun.at + index + 0.5)\n"
        "    if index % 300 == 0:\n"
        "        gpu.span('run', begun.at + index, begun.at + index + 0.5)\n"
        "        time.sleep(0.05)\n"
        "joined.close()\n"
    )
    told = pickle.dumps(begun).hex()
    writers = [subprocess.Popen([sys.executable, "-c", program, told, f"worker {number}"]) for number in (1, 2, 3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    timeline.close()
    trace = read_trace(file)
    for number in (1, 2, 3):
        spans = trace.tracks[f"worker {number}", "stage"]
        assert [span.name.split()[2] for span in spans] == [str(index) for index in range(3000)]
        assert len(trace.tracks[f"GPU 0, worker {number}", "stage"]) == 10
