"""``onpace run --trace``: every published frame is found on its way, and slots that overlap are seen to."""

from __future__ import annotations

import itertools

import pytest

from pipeline.timeline.timeline import begin_timeline
from tests.helpers.onpace_process import onpace, run_with_summary
from tests.helpers.tiny_onnx import working_detector
from tests.helpers.trace_events import overlapping, read_trace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

FRAMES = 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A detector whose runs take long enough that more than one slot is fed."""
    return working_detector(tmp_path_factory.mktemp("model") / "working.onnx", layers=24)


def traced(folder, model, runtime="cpu", *arguments):
    """Run two patterns to their end; return the summary and the trace."""
    config = folder / "onpace.yaml"
    config.write_text(
        f"streams: [{{id: a, url: 'pattern:?frames={FRAMES}'}}, {{id: b, url: 'pattern:?frames={FRAMES}'}}]\n"
        f"infer: {{model: {model}, runtime: {runtime}, prefer: throughput, threads: 2}}\n"
        f"engine: {{build: wait, optimisation_level: 0, store: {folder / 'plans'}}}\n"
        f"track: {{tracker: bytetrack}}\npublish: {{sinks: ['jsonl:{folder / 'out.jsonl'}']}}\n"
    )
    summary = run_with_summary(config, "--trace", folder / "trace.json", *arguments)
    return summary, read_trace(folder / "trace.json")


def check(summary, trace):
    published = {f"{stream}/{index}" for stream in "ab" for index in range(FRAMES)}
    assert sum(stream["published"] for stream in summary["streams"]) == len(published)
    assert set(trace.flows) == published
    for steps in trace.flows.values():
        assert [phase for phase, _, _ in steps] == ["s", "t", "f"]
        (_, first), (_, second), (_, third) = (track for _, track, _ in steps)
        assert first.startswith("decode ") and second.startswith("infer-") and third == "publish"
    for stream in "ab":
        assert [span.frames for span in trace.track(f"decode {stream}")] == [(f"{stream}/{n}",) for n in range(FRAMES)]
    assert {span.name for span in trace.track("infer-0")} >= {"preprocess", "infer", "postprocess"}
    assert {frame for span in trace.track("publish") for frame in span.frames} == published
    assert {frame for span in trace.track("track") for frame in span.frames} == published
    assert {name for name, _ in trace.counters.items()} == {"frames queued", "frames in flight"}
    assert all(set(series) == {"a", "b"} for series in trace.counters["frames queued"])


def test_every_published_frame_is_followed_from_decoding_to_publishing_and_slots_overlap(tmp_path, model):
    summary, trace = traced(tmp_path, model)
    check(summary, trace)
    slots = [spans for (_, name), spans in trace.tracks.items() if name.startswith("infer-")]
    assert len(slots) > 1
    runs = [[span for span in spans if span.name == "infer"] for spans in slots]
    assert any(overlapping(*pair) for pair in itertools.combinations(runs, 2))


@pytest.mark.cuda
@pytest.mark.parametrize(
    "runtime", [pytest.param(name, marks=pytest.mark.runtime(name)) for name in ("cuda", "tensorrt")]
)
def test_on_a_gpu_each_slot_has_a_second_track_on_the_same_clock(tmp_path, model, runtime):
    summary, trace = traced(tmp_path, model, runtime)
    check(summary, trace)
    on_gpu = {name: spans for (group, name), spans in trace.tracks.items() if group.startswith("GPU 0")}
    assert set(on_gpu) & {"infer-0", "infer-1"}
    on_host = {name: spans for (group, name), spans in trace.tracks.items() if group == "onpace"}
    for name, spans in on_gpu.items():
        assert [span.name for span in spans[:5]] == ["upload", "preprocess", "inference", "heads", "download"]
        waits = [span for span in on_host[name] if span.name == "infer"]
        runs = [span for span in spans if span.name == "inference"]
        assert len(waits) == len(runs)
        for wait, run in zip(waits, runs, strict=True):  # the GPU works while the host waits: both clocks agree
            assert wait.begin - 500 <= run.begin <= run.end <= wait.end + 500


def test_several_workers_share_one_file_and_their_clock(tmp_path, model):
    summary, trace = traced(tmp_path, model, "cpu", "--workers", "2")
    published = {f"{stream}/{index}" for stream in "ab" for index in range(FRAMES)}
    assert sum(stream["published"] for stream in summary["streams"]) == len(published)
    assert set(trace.flows) == published
    groups = {f"worker {number}": stream for number, stream in ((1, "a"), (2, "b"))}
    assert {group for group, _ in trace.tracks} == set(groups)
    for group, stream in groups.items():
        own = [f"{stream}/{index}" for index in range(FRAMES)]
        assert [frame for span in trace.tracks[group, f"decode {stream}"] for frame in span.frames] == own
        assert {frame for span in trace.tracks[group, "publish"] for frame in span.frames} == set(own)
    first, second = (trace.tracks[group, f"decode {stream}"] for group, stream in groups.items())
    assert first[0].begin < second[-1].end and second[0].begin < first[-1].end  # they play at the same time


def test_a_file_that_cannot_be_written_is_said_before_the_first_frame(tmp_path, model):
    done = onpace("run", "pattern:?frames=5", "--model", model, "--trace", tmp_path / "missing" / "trace.json")
    assert done.wait() == 2
    assert "--trace" in done.stderr and "cannot be written: No such file or directory" in done.stderr


def test_a_trace_ends_after_its_time_and_while_it_is_written_it_can_be_read_as_far_as_it_goes(tmp_path):
    file = tmp_path / "trace.json"
    timeline = begin_timeline(file, seconds=0.5)
    track = timeline.track("stage")
    begun = timeline._begun.at
    track.span("work", begun, begun + 0.1)
    while '"work"' not in file.read_text():
        pass
    assert file.read_text().endswith(",\n")  # each event stands whole on its line
    timeline._thread.join(10)
    track.span("too late", begun, begun + 1)
    timeline.close()
    timeline.close()
    (spans,) = read_trace(file).tracks.values()
    assert [span.name for span in spans] == ["work"]
