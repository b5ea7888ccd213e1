"""The people counter: its rule on made-up walks, and its counts on a real scene against ground truth."""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pipeline.publish.messages import DetectionsMessage
from pipeline.subscriber import Gap, Subscriber
from tests.helpers.onpace_process import OnpaceProcess
from tests.helpers.test_data import test_data
from tests.publish.examples import free_endpoint
from tests.track.mot_metrics import Boxes, evaluate

SAMPLE = Path(__file__).parents[2] / "samples" / "count_people.py"
TRUTH_FRAMES = 500
FRAMES_PER_SECOND = 10.0
LINES = {  # each is crossed by 15 people or more
    "left of the lamp": "0.4,0,0.4,1",
    "middle": "0.5,0,0.5,1",
    "right": "0.65,0,0.65,1",
    "across": "0,180,480,180",
    "slanting": "0.3,0.9,0.7,0.1",
}


def load_sample() -> ModuleType:
    spec = importlib.util.spec_from_file_location("count_people", SAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["count_people"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


sample = load_sample()


def person(x: float, y: float = 200.0) -> tuple[float, float, float, float]:
    """A person 100 pixels high whose feet stand at ``x, y``."""
    return (x - 20.0, y - 100.0, x + 20.0, y)


def walk(line: tuple[float, ...], path: list[tuple[int, float, float]]) -> dict[str, int]:
    """Counts of a line when one person walks ``path``: track id, x and y, ten a second; id 0: not seen."""
    counter = sample.LineCounter(line)
    for number, (key, x, y) in enumerate(path):
        counter.update({key: person(x, y)} if key else {}, number / 10)
    counts: dict[str, int] = counter.counts
    return counts


DOWNWARDS = (300.0, 0.0, 300.0, 400.0)  # who looks along it has the picture's left side on the right


def test_a_crossing_has_a_direction() -> None:
    there = [(1, x, 200.0) for x in range(200, 400, 10)]
    assert walk(DOWNWARDS, there) == {"in": 0, "out": 1}
    assert walk(DOWNWARDS, there[::-1]) == {"in": 1, "out": 0}
    assert walk(DOWNWARDS, there + there[::-1]) == {"in": 1, "out": 1}


def test_whoever_sways_on_the_line_is_counted_once() -> None:
    path = [*range(200, 300, 10), 310, 290, 315, 285, 310, *range(300, 400, 10)]
    assert walk(DOWNWARDS, [(1, x, 200.0) for x in path]) == {"in": 0, "out": 1}


def test_whoever_passes_beyond_the_lines_end_is_not_counted() -> None:
    assert walk((300.0, 0.0, 300.0, 150.0), [(1, x, 200.0) for x in range(200, 400, 10)]) == {"in": 0, "out": 0}


def test_a_track_that_breaks_off_at_the_line_is_counted_once() -> None:
    before, hidden = [(1, x, 200.0) for x in range(200, 300, 10)], [(0, 0.0, 0.0)] * 5
    after = [(2, x, 200.0) for x in range(320, 400, 10)]
    assert walk(DOWNWARDS, before + hidden + after) == {"in": 0, "out": 1}
    elsewhere = [(2, x, 400.0) for x in range(320, 400, 10)]
    assert walk(DOWNWARDS, before + hidden + elsewhere) == {"in": 0, "out": 0}


def test_a_line_in_shares_becomes_pixels() -> None:
    assert sample.in_pixels((0.5, 0.0, 0.5, 1.0), 480, 360) == (240.0, 0.0, 240.0, 360.0)
    assert sample.in_pixels((240.0, 0.0, 240.0, 360.0), 480, 360) == (240.0, 0.0, 240.0, 360.0)


def test_the_sample_is_short() -> None:
    assert len(SAMPLE.read_text().splitlines()) <= 120


@dataclass(frozen=True)
class Outcome:
    """What one run brought, over the frames that the ground truth covers."""

    truth: list[Boxes]
    tracks: list[Boxes]
    counted: dict[str, dict[str, int]]
    """Name of the line -> what the sample counted."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Run the pipeline over the scene, with a sample for each line on the other side of a socket."""
    folder = test_data() / "mot" / "PETS09-S2L1"
    if not folder.is_dir():
        pytest.skip(f"no tracking sequence at {folder}; set ONPACE_TEST_DATA to the folder that holds mot/")
    endpoint = free_endpoint()
    config = tmp_path_factory.mktemp("count") / "pets.yaml"
    config.write_text(
        f"streams: [{{id: pets, url: {folder / 'vtest_480x360.mp4'}}}]\n"
        f"infer: {{model: {test_data() / 'models' / 'yolox_nano_416.onnx'}}}\n"
        "postprocess: {classes: [0]}\n"
        "track: {tracker: bytetrack}\n"
        f"publish: {{sinks: ['zmq:{endpoint}']}}\n"
    )
    with ExitStack() as stack:
        printed = {name: stack.enter_context(_counter(line, endpoint)) for name, line in LINES.items()}
        subscriber = stack.enter_context(Subscriber(endpoint))
        process = stack.enter_context(OnpaceProcess("run", config))
        tracks = [_tracks(subscriber) for _ in range(TRUTH_FRAMES)]
        process.signal(signal.SIGINT)
        counted = {name: _counts(one.communicate(timeout=30)[0]) for name, one in printed.items()}
    return Outcome(_read_truth(folder), tracks, counted)


@pytest.mark.e2e
@pytest.mark.parametrize("name", list(LINES))
def test_people_are_counted_within_ten_percent_of_the_truth(outcome: Outcome, name: str) -> None:
    line = sample.in_pixels(tuple(float(word) for word in LINES[name].split(",")), 480, 360)
    truth = sample.LineCounter(line)
    for number, people in enumerate(outcome.truth):
        truth.update(dict(zip(people.ids.tolist(), people.xyxy.tolist(), strict=True)), number / FRAMES_PER_SECOND)
    crossings = sum(truth.counts.values())
    assert crossings >= 15
    assert abs(sum(outcome.counted[name].values()) - crossings) <= 0.1 * crossings
    assert all(abs(outcome.counted[name][way] - truth.counts[way]) <= 1 for way in truth.counts)


@pytest.mark.e2e
def test_published_tracks_keep_the_measured_quality(outcome: Outcome) -> None:
    got = evaluate(outcome.truth, outcome.tracks)
    print(got)
    assert got.hota >= 48.0  # measured: 50.4
    assert got.mota >= 72.0  # measured: 74.0
    assert got.idf1 >= 66.0  # measured: 68.1


def _counter(line: str, endpoint: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, SAMPLE, endpoint, "--line", line], stdout=subprocess.PIPE, text=True)


def _tracks(subscriber: Subscriber) -> Boxes:
    """The confirmed tracks of the next frame; every frame must come."""
    while not isinstance(event := subscriber.receive(60.0), DetectionsMessage):
        assert event is not None and not isinstance(event, Gap), event
    objects = [one for one in event.objects if one.track_id is not None]
    return Boxes(
        np.array([one.track_id for one in objects], np.int64),
        np.array([one.xyxy for one in objects], np.float64).reshape(-1, 4),
    )


def _counts(text: str) -> dict[str, int]:
    """What a sample printed of the frames with ground truth."""
    crossings = re.findall(r"^pets frame (\d+): track \d+ (in|out) ", text, re.MULTILINE)
    ways = [way for frame, way in crossings if int(frame) < TRUTH_FRAMES]
    return {way: ways.count(way) for way in ("in", "out")}


def _read_truth(folder: Path) -> list[Boxes]:
    rows = np.loadtxt(folder / "gt" / "gt_480x360.txt", delimiter=",")
    rows = rows[rows[:, 6] > 0]
    frames = [rows[rows[:, 0] == number] for number in range(1, TRUTH_FRAMES + 1)]
    corners = [np.concatenate([one[:, 2:4], one[:, 2:4] + one[:, 4:6]], axis=1) for one in frames]
    return [Boxes(one[:, 1].astype(np.int64), xyxy) for one, xyxy in zip(frames, corners, strict=True)]
