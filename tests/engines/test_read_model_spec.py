"""What is read off an ONNX file, and what is said about files that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelError
from engines.inspect_model import read_model_spec
from engines.model_spec import PixelSpec
from tests.helpers.test_data import test_data
from tests.helpers.tiny_onnx import colour_detector, do_nothing_detector

BGR_255 = PixelSpec(order="bgr", scale=1.0, placement="top_left")


def write(path: Path, inputs: dict, outputs: dict, metadata: dict[str, str] | None = None, dtype: int = 1) -> Path:
    """Write a model of these shapes that computes nothing of sense: only its interface is read."""
    infos = [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()]
    outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    nodes = [helper.make_node("Opaque", [next(iter(inputs))], [name]) for name in outputs]
    model = helper.make_model(helper.make_graph(nodes, "g", infos, outs), ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("layout", ["yolov8", "yolov8_rows", "yolox"])
@pytest.mark.parametrize("size", [(416, 416), (640, 384)])
def test_spine_families_are_recognised(tmp_path, layout, dynamic, dtype, size):
    model = do_nothing_detector(tmp_path / "m.onnx", size, 80, layout=layout, dynamic_batch=dynamic, dtype=dtype)
    spec = read_model_spec(model)
    assert spec.family == ("yolox" if layout == "yolox" else "yolov8")
    assert (spec.input_width, spec.input_height) == size
    assert spec.max_batch == (None if dynamic else 1)
    assert spec.image_input.dtype == dtype
    assert len(spec.class_names) == 80
    assert spec.pixels == (BGR_255 if layout == "yolox" else PixelSpec())
    assert spec.head_options.get("rows", "candidates") == ("channels" if layout == "yolov8" else "candidates")


def test_names_size_and_their_origins_come_from_the_metadata(tmp_path):
    spec = read_model_spec(colour_detector(tmp_path / "colours.onnx", (320, 256)))
    assert spec.name == "colours"
    assert spec.class_names == ("red", "green", "blue", "white")
    assert spec.origins["classes"] == "metadata"
    assert spec.origins["input_size"] == "shape"
    assert spec.origins["pixels.order"] == "default"
    assert len(spec.sha256) == 64


def test_classes_without_names_are_numbered_unless_coco_is_named(tmp_path):
    model = do_nothing_detector(tmp_path / "m.onnx", layout="yolox")
    assert read_model_spec(model).class_names[:2] == ("0", "1")
    named = read_model_spec(model, {"classes": "coco"})
    assert (named.class_names[0], named.class_names[79]) == ("person", "toothbrush")
    assert named.origins["classes"] == "override"


def test_class_names_come_from_a_file_beside_the_model(tmp_path):
    model = do_nothing_detector(tmp_path / "m.onnx", classes=2, metadata=False)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    assert read_model_spec(model, {"classes": "names.txt"}).class_names == ("cat", "dog")


def test_wrong_number_of_class_names_is_refused(tmp_path):
    model = do_nothing_detector(tmp_path / "m.onnx", classes=3, metadata=False)
    with pytest.raises(ModelError, match=r"holds 3 classes \(family yolov8, rows: channels\), but 2 are named"):
        read_model_spec(model, {"classes": ["cat", "dog"]})


def test_yaml_beside_the_model_states_facts_and_arguments_win_over_it(tmp_path):
    model = do_nothing_detector(tmp_path / "m.onnx", layout="yolox")
    (tmp_path / "m.yaml").write_text("classes: coco\npixels:\n  order: rgb\n  pad_value: 0\n")
    spec = read_model_spec(model, {"pixels": {"pad_value": 50}})
    assert (spec.pixels.order, spec.pixels.pad_value, spec.pixels.scale) == ("rgb", 50, 1.0)
    assert spec.class_names[0] == "person"
    assert spec.origins["pixels.order"] == "override"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"familly": "yolov8"}, "familly: unknown key. Did you mean family?"),
        ({"family": "ssd"}, "family: got 'ssd'. Allowed: "),
        ({"pixels": {"order": "grb"}}, "pixels: order: got 'grb'. Allowed: rgb, bgr."),
        ({"pixels": {"mean": [1, 2]}}, "three numbers"),
        ({"pixels": {"deviation": [1, 0, 1]}}, "each above 0"),
        ({"pixels": {"scale": 0}}, "pixels.scale: got 0"),
        ({"pixels": {"pad_value": 300}}, "pixels.pad_value: got 300. Allowed: 0 to 255."),
        ({"input_size": "big"}, "input_size: got 'big'"),
        ({"input_size": 640}, "the file takes 416x416 only"),
        ({"strides": [7]}, "strides: got [7]"),
        ({"classes": 3.5}, "classes: got 3.5"),
        ({"classes": "missing.txt"}, "cannot read names from"),
    ],
)
def test_overrides_are_checked(tmp_path, overrides, message):
    model = do_nothing_detector(tmp_path / "m.onnx")
    with pytest.raises(ModelError) as raised:
        read_model_spec(model, overrides)
    assert message in str(raised.value)


def test_open_input_size_is_read_from_imgsz_height_first(tmp_path):
    model = write(
        tmp_path / "m.onnx",
        {"images": ["batch", 3, "height", "width"]},
        {"output0": ["batch", 84, "anchors"]},
        {"imgsz": "[384, 640]", "names": str({i: str(i) for i in range(80)})},
    )
    spec = read_model_spec(model)
    assert (spec.input_width, spec.input_height) == (640, 384)
    assert spec.origins["input_size"] == "metadata"
    assert spec.family == "yolov8"


def test_open_input_size_is_asked_for_by_name(tmp_path):
    model = write(tmp_path / "m.onnx", {"images": [1, 3, "h", "w"]}, {"output0": [1, 84, 8400]})
    with pytest.raises(ModelError, match=r"input_size cannot be known.*\[1, 3, \?, \?\]"):
        read_model_spec(model)
    assert read_model_spec(model, {"input_size": 640}).input_width == 640


def test_row_of_unclear_meaning_is_asked_for_by_name(tmp_path):
    model = write(tmp_path / "m.onnx", {"images": [1, 3, 416, 416]}, {"output": [1, 3549, 12]})
    with pytest.raises(ModelError, match=r"3549, 12\] holds 8 classes .* or 7 classes beside objectness .*Say classes"):
        read_model_spec(model)
    assert read_model_spec(model, {"classes": 8}).family == "yolov8"
    assert read_model_spec(model, {"classes": 7}).family == "yolox"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.onnx", b"hello, this is not a model\n" * 20, "is not an ONNX file"),
        ("empty.onnx", b"", "is not an ONNX model"),
        ("weights.pt", b"PK\x03\x04" + b"x" * 100, "ZIP archive, as PyTorch's .pt files are, not ONNX"),
        ("pointer.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        ("plan.onnx", b"ftrt" + b"\0" * 50, "a TensorRT plan, not ONNX"),
    ],
)
def test_file_of_another_kind_is_one_clear_error(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError) as raised:
        read_model_spec(tmp_path / name)
    assert message in str(raised.value)


def test_missing_file_and_folder_are_clear_errors(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        read_model_spec(tmp_path / "gone.onnx")
    with pytest.raises(ModelError, match=r"is a folder. Give the .onnx file in it"):
        read_model_spec(tmp_path)


@pytest.mark.parametrize("part", [0.05, 0.5, 0.9, 0.999])
def test_truncated_file_is_a_clear_error(tmp_path, part):
    whole = do_nothing_detector(tmp_path / "m.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ModelError, match="is cut short or damaged"):
        read_model_spec(tmp_path / "cut.onnx")


def test_missing_or_short_external_weights_are_clear_errors(tmp_path):
    model = onnx.load(str(do_nothing_detector(tmp_path / "m.onnx")))
    onnx.save(model, str(tmp_path / "split.onnx"), save_as_external_data=True, location="split.data", size_threshold=0)
    assert read_model_spec(tmp_path / "split.onnx").family == "yolov8"
    weights = tmp_path / "split.data"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"'split.data' is cut short: 100 bytes, needs \d+"):
        read_model_spec(tmp_path / "split.onnx")
    weights.unlink()
    with pytest.raises(ModelError, match=r"keeps its weights in 'split.data', which is not beside it"):
        read_model_spec(tmp_path / "split.onnx")


@pytest.mark.parametrize(
    ("outputs", "metadata", "message"),
    [
        ({"logits": [1, 1000]}, {}, "looks like a classifier"),
        ({"output0": [1, 1000]}, {"task": "classify"}, "metadata: task classify"),
        ({"output0": [1, 116, 8400], "output1": [1, 32, 160, 160]}, {}, "segmentation model (mask prototypes"),
        ({"output0": [1, 116, 8400], "output1": [1, 32, 160, 160]}, {"task": "segment"}, "segmentation"),
        ({"mask": [1, 21, 640, 640]}, {}, "looks like a segmentation model"),
        ({"output0": [1, 56, 8400]}, {"task": "pose"}, "is a pose model"),
        ({"a": [1, 255, 80, 80], "b": [1, 255, 40, 40], "c": [1, 255, 20, 20]}, {}, "without its decoding"),
        ({"odd": [1, 77, 77]}, {}, "its family cannot be worked out"),
    ],
)
def test_models_that_are_no_detectors_are_one_clear_error(tmp_path, outputs, metadata, message):
    model = write(tmp_path / "m.onnx", {"images": [1, 3, 640, 640]}, outputs, metadata)
    with pytest.raises(ModelError) as raised:
        read_model_spec(model)
    assert message in str(raised.value)


def test_channels_last_and_pictureless_inputs_are_clear_errors(tmp_path):
    channels_last = write(tmp_path / "a.onnx", {"x": [1, 416, 416, 3]}, {"y": [1, 3549, 85]})
    with pytest.raises(ModelError, match="channels last"):
        read_model_spec(channels_last)
    with pytest.raises(ModelError, match="is no detector of pictures"):
        read_model_spec(write(tmp_path / "b.onnx", {"x": [1, 10]}, {"y": [1, 3549, 85]}))


def test_graph_that_divides_by_255_itself_takes_0_to_255(tmp_path):
    nodes = [helper.make_node("Div", ["images", "d"], ["x"]), helper.make_node("Opaque", ["x"], ["output0"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 416, 416])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 84, 3549])],
        [numpy_helper.from_array(np.array(255, np.float32), "d")],
    )
    onnx.save(helper.make_model(graph, ir_version=8), str(tmp_path / "m.onnx"))
    spec = read_model_spec(tmp_path / "m.onnx")
    assert (spec.pixels.scale, spec.origins["pixels.scale"]) == (1.0, "structure")


@pytest.mark.parametrize(
    ("name", "family", "first", "batch"),
    [
        ("yolov8n_640_dequant_AGPL", "yolov8", "person", 1),
        ("yolov8n_640_int8_AGPL", "yolov8", "person", 1),
        ("yolox_nano_416", "yolox", "0", 1),
        ("yolox_nano_416_fp16_dynbatch", "yolox", "0", None),
        ("yolox_nano_416_nms_dynbatch", "end_to_end", None, None),
        ("deimv2_atto_320_coco", "detr", None, None),
    ],
)
def test_real_exports_are_recognised(name, family, first, batch):
    spec = read_model_spec(test_data() / "models" / f"{name}.onnx")
    assert (spec.family, spec.max_batch) == (family, batch)
    assert len(spec.class_names) == (80 if first else 0)
    assert not first or spec.class_names[0] == first
    if name.startswith("yolox"):
        assert spec.pixels == BGR_255
    if family == "detr":
        assert spec.size_input is not None
        assert spec.pixels.placement == "stretch"


def test_appearance_model_is_refused():
    with pytest.raises(ModelError, match="channels last"):
        read_model_spec(test_data() / "models" / "person_reid_retail_0248.onnx")


def test_damaged_bytes_are_a_model_error_or_do_not_matter(tmp_path):
    whole = colour_detector(tmp_path / "m.onnx", (96, 96)).read_bytes()
    random = np.random.default_rng(3)
    damaged = tmp_path / "damaged.onnx"
    for _ in range(300):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 4):
            data[place] = random.integers(0, 256)
        # Names, shapes and metadata lie in the last bytes.
        data[len(data) - int(random.integers(1, 400))] = random.integers(0, 256)
        damaged.write_bytes(data)
        try:
            read_model_spec(damaged)
        except ModelError as error:
            assert "damaged.onnx" in str(error) or "class names" in str(error)
