"""Which smaller inputs there are, and what is said where there are none: real files, open and fixed in size."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from engines.inspect_model import read_model_spec
from engines.runtime import RuntimeOptions, open_runtime
from pipeline.accuracy.picture import read_picture
from pipeline.config.load import load_mapping
from pipeline.errors import ConfigError, StreamError
from pipeline.infer.batch import Batch
from pipeline.infer.input_sizes import default_sizes
from pipeline.infer.open_step import open_step
from pipeline.infer.resolution import Resolution
from pipeline.infer.run_pace import RunPace
from pipeline.infer.sized_runtime import SizedRuntime
from pipeline.infer.smaller_inputs import SmallerInputs
from pipeline.keepup.load import BusyClock
from pipeline.pipeline import Pipeline
from tests.helpers.resized_onnx import open_size_yolox, resized_yolov8
from tests.helpers.test_data import test_data
from tests.helpers.tiny_onnx import colour_detector, do_nothing_detector, working_detector


def config_of(model: Path, **infer: object):
    return load_mapping(
        {
            "streams": [{"id": "a", "url": "pattern:?size=320x240&fps=10", "realtime": True, "adapt": "resolution"}],
            "infer": {"model": str(model), "runtime": "cpu", "prefer": "throughput", "threads": 2, **infer},
            "dashboard": {"listen": None},
        }
    ).config


def refused(model: Path, **infer: object) -> str:
    with pytest.raises(ConfigError) as caught:
        Pipeline(config_of(model, **infer))
    return str(caught.value)


def test_a_model_of_fixed_size_says_what_to_do(tmp_path):
    said = refused(do_nothing_detector(tmp_path / "nothing.onnx", (160, 96)))
    assert "model nothing takes 160x96 and nothing smaller" in said
    assert "dynamic height and width" in said
    assert "infer.smaller" in said


def test_sizes_of_a_model_of_fixed_size_are_refused(tmp_path):
    said = refused(do_nothing_detector(tmp_path / "nothing.onnx", (160, 96)), smaller=[96])
    assert "infer.smaller: 96: the file of model nothing takes 160x96 only" in said


def test_another_model_is_no_smaller_input(tmp_path):
    full = colour_detector(tmp_path / "full.onnx", (320, 320))
    other = do_nothing_detector(tmp_path / "other.onnx", (160, 160), classes=4)
    assert "its classes are '0', not 'red'" in refused(full, smaller=[str(other)])
    others = do_nothing_detector(tmp_path / "others.onnx", (160, 160), layout="yolox", classes=80)
    assert "its family are yolox, not yolov8" in refused(full, smaller=[str(others)])


def test_each_input_must_be_smaller_than_the_one_before(tmp_path):
    full, *rest = (
        colour_detector(tmp_path / f"{side}.onnx", (side, side), dynamic_batch=False) for side in (320, 160, 224)
    )
    assert "224 at 224x224 is not smaller than 160 at 160x160 before it" in refused(
        full, smaller=[str(path) for path in rest]
    )


def test_problems_of_the_file_are_found_before_anything_starts(tmp_path):
    full = str(colour_detector(tmp_path / "full.onnx", (320, 320)))
    absent = str(tmp_path / "absent.onnx")
    for entry, said in ((absent, "no such file"), (7, "32 to 16384"), ([96, 64, 32], "width, height")):
        with pytest.raises(ConfigError, match=said):
            config_of(Path(full), smaller=[entry])


@pytest.mark.parametrize(
    ("size", "steps"),
    [(640, [(480, 480), (384, 384), (320, 320)]), (416, [(320, 320), (256, 256), (192, 192)]), (96, [(64, 64)])],
)
def test_default_steps_are_multiples_of_the_coarsest_grid(size, steps, tmp_path):
    model = do_nothing_detector(tmp_path / "nothing.onnx", (size, size))
    assert default_sizes(read_model_spec(model)) == steps


def test_a_stream_that_wants_what_this_run_has_not_is_refused(tmp_path):
    full = colour_detector(tmp_path / "full.onnx", (320, 320))
    config = config_of(full)
    plain = config.model_copy(update={"streams": [config.streams[0].model_copy(update={"adapt": "stride"})]})
    with Pipeline(plain) as pipeline, pytest.raises(StreamError, match="no smaller inputs were opened at the start"):
        pipeline.streams.add(config.streams[0].model_copy(update={"id": "b"}))


class Fixed(Resolution):
    """A size that stays as it is set; streams called ``full...`` keep the full one."""

    def __init__(self, runtime) -> None:
        super().__init__({}, 2.0, runtime)
        self.at = 0

    @property
    def level(self) -> int:
        return self.at

    def shrinks(self, frame) -> bool:
        return not frame.stream_id.startswith("full")

    def ran(self, frames) -> None:
        pass


def frame_of(pixels, path: Path):
    """A BGR picture as a frame of the stream that the file is called after."""
    cv2.imwrite(str(path), pixels)
    return read_picture(path)


def step_of(config, model: Path):
    """What runs batches at any size, and the size in use."""
    spec = read_model_spec(model, config.infer.facts)
    options = RuntimeOptions(prefer="throughput", threads=1, max_batch=config.infer.batch_size)
    runtime = SmallerInputs(config, model, spec).open_beside(open_runtime("cpu", model, spec, options), options)
    assert isinstance(runtime, SizedRuntime)
    size, pace = Fixed(runtime), RunPace(just_in_time=lambda: False)
    busy = BusyClock()
    post = config.postprocess
    return runtime, size, open_step(spec, runtime.slots[0], post, busy, busy, pace, lambda stream_id: None, size)


def test_boxes_are_in_source_pixels_at_every_size_and_in_a_mixed_batch(tmp_path):
    sides = (320, 160, 96)
    full, *smaller = (str(colour_detector(tmp_path / f"c{side}.onnx", (side, side))) for side in sides)
    config = config_of(Path(full), smaller=smaller, batch_size=4)
    runtime, size, step = step_of(config, Path(full))
    picture = np.zeros((480, 640, 3), np.uint8)
    picture[120:240, 200:360] = (0, 0, 255)
    frames = [frame_of(picture, tmp_path / f"{name}.png") for name in ("full", "a", "full2", "b")]
    with runtime:
        for level, side in enumerate(sides):
            size.at = level
            done = step(Batch(0, frames, 0.0))
            found = {result.frame.stream_id: result for result in done.inferred}
            assert not done.failed
            assert {name: result.input_size for name, result in found.items()} == {
                "full": (320, 320),
                "full2": (320, 320),
                "a": (side, side),
                "b": (side, side),
            }
            for result in found.values():
                pixel = 640 / result.input_size[0]
                np.testing.assert_allclose(result.detections.xyxy[0], [200, 120, 360, 240], atol=1.5 * pixel)


@pytest.mark.parametrize("kind", ["open size", "files"])
def test_real_detectors_find_the_same_objects_smaller(kind, tmp_path):
    data = test_data()
    if kind == "open size":
        full = open_size_yolox(data / "models" / "yolox_nano_416.onnx", tmp_path / "nano.onnx")
        config = config_of(full, facts={"classes": "coco", "input_size": 416})
    else:
        exported = data / "models" / "yolov8n_640_dequant_AGPL.onnx"
        full, *files = (resized_yolov8(exported, tmp_path / f"v8n-{side}.onnx", (side, side)) for side in (640, 416))
        config = config_of(full, smaller=[str(file) for file in files])
    runtime, size, step = step_of(config, full)
    found = []
    with runtime, av.open(str(data / "videos" / "restaurant_720p.mp4")) as video:
        frame = frame_of(next(video.decode(video=0)).to_ndarray(format="bgr24"), tmp_path / "a.png")
        for size.at in range(len(runtime.specs)):
            (result,) = step(Batch(0, [frame], 0.0)).inferred
            found.append(result)
    assert [result.input_size for result in found] == [(spec.input_width, spec.input_height) for spec in runtime.specs]
    assert runtime.costs[0] == 1.0
    assert runtime.costs[-1] < 0.8
    full_size, *others = (result.detections for result in found)
    sure = [box for box, score in zip(full_size.xyxy, full_size.scores, strict=True) if score > 0.6]
    assert len(sure) >= 5
    for detections in others[:2]:
        again = [box for box in sure if best_overlap(box, detections.xyxy) > 0.6]
        assert len(again) >= 0.6 * len(sure)


def best_overlap(box, others) -> float:
    """The largest intersection over union of ``box`` with any of ``others``, ``[N, 4]``."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    both = np.prod(np.clip(sides, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return float((both / (areas - both)).max(initial=0.0))


@pytest.mark.parametrize(
    ("prefer", "threads", "side"),
    [("auto", 2, 96), ("auto", 3, 96), ("auto", 2, 640), ("latency", 2, 96), ("throughput", 3, 96), ("auto", 1, 96)],
)
def test_every_slot_has_every_size_however_the_cores_are_shared_out(prefer, threads, side, tmp_path):
    """Runs that are very short, or very long, are given other numbers of slots than the rest."""
    sides = (side, 32)
    full, small = (working_detector(tmp_path / f"{one}.onnx", (one, one), layers=2) for one in sides)
    config = config_of(full, smaller=[str(small)], prefer=prefer, threads=threads)
    spec = read_model_spec(full)
    options = RuntimeOptions(prefer=prefer, threads=threads, streams=2)
    with SmallerInputs(config, full, spec).open_beside(open_runtime("cpu", full, spec, options), options) as runtime:
        assert runtime.slots
        assert {len(slot.sizes) for slot in runtime.slots} == {2}
        for slot in runtime.slots:
            for _, sized in slot.sizes:
                assert sized.run(1)
