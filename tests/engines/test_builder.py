"""Plans built by the real TensorRT for RTX, whose builder needs no GPU; its errors in our words."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from engines.errors import (
    DeviceMemoryError,
    ModelError,
    PlanBuildError,
    PlanError,
    PlanMissingError,
    RuntimeMissingError,
)
from engines.inspect_model import read_model_spec
from engines.plan_building import PlanBuilder
from engines.precision.kept import kept_model, made_seconds
from engines.precision.typed_model import Calibration, typed_model
from engines.runtime import PlanOptions, RuntimeOptions
from engines.shape_profile import ShapeProfile
from engines.trt.builder import (
    allow_precisions,
    build_plan,
    looks_like_no_memory,
    memory_told,
    remedy_for_memory,
    smaller_batch,
)
from engines.trt.engine import TrtEngine
from engines.trt.library import load_library
from engines.trt.options import BuildOptions
from engines.trt.progress import Progress
from pipeline.accuracy.calibration import calibration_from
from pipeline.samples import find_sample
from tests.helpers.conv_onnx import conv_detector
from tests.helpers.test_data import test_data
from tests.helpers.tiny_onnx import colour_detector, do_nothing_detector, working_detector

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra: test)")


@pytest.fixture(scope="module")
def rtx():
    return load_library("tensorrt_rtx")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_plan_is_built_without_a_gpu_and_progress_only_grows(tmp_path, rtx, precision):
    model = working_detector(tmp_path / "m.onnx", (96, 96), layers=2)
    spec = read_model_spec(model)
    typed = typed_model(model, spec, precision, None, tmp_path / "typed.onnx").path
    shares = []
    progress = Progress(lambda share, phase: shares.append(share))
    plan, _ = build_plan(rtx, typed, spec, ShapeProfile(1, 2, 4), BuildOptions(), progress=progress)
    assert len(plan) > 10_000
    assert shares == sorted(shares)
    assert 0.5 < shares[-1] < 1


def test_unsupported_operator_is_named_with_a_way_on(tmp_path, rtx):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    spec = read_model_spec(model)
    proto = onnx.load(str(model))
    proto.graph.node.insert(0, helper.make_node("Bernoulli", ["images"], ["noise"], name="odd"))
    proto.graph.node.append(helper.make_node("NoSuchThing", ["noise"], ["strange"], domain="odd", name="odder"))
    proto.opset_import.append(helper.make_opsetid("odd", 1))
    onnx.save(proto, str(model))
    with pytest.raises(ModelError, match=r"tensorrt_rtx .* cannot take it: .*(Bernoulli|NoSuchThing).*cuda or cpu"):
        build_plan(rtx, model, spec, ShapeProfile(), BuildOptions())


def test_model_that_is_taken_and_then_not_built_is_an_error_with_a_way_on(rtx):
    model = test_data() / "models" / "yolox_nano_416_nms_dynbatch.onnx"
    with pytest.raises(PlanBuildError, match=r"cannot build it: .*without NMS.*or take runtime cuda or cpu\."):
        build_plan(rtx, model, read_model_spec(model), ShapeProfile(), BuildOptions())


def test_plans_for_later_versions_are_refused_where_the_library_has_none(tmp_path, rtx):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    with pytest.raises(RuntimeMissingError, match="--version-compatible"):
        build_plan(rtx, model, read_model_spec(model), ShapeProfile(), BuildOptions(version_compatible=True))


def test_cancelled_build_says_so(tmp_path, rtx):
    model = working_detector(tmp_path / "m.onnx", (96, 96), layers=2)
    progress = Progress(lambda share, phase: None)
    progress.cancel()
    with pytest.raises(Exception, match="building was cancelled"):
        build_plan(rtx, model, read_model_spec(model), ShapeProfile(), BuildOptions(), progress=progress)


def test_plan_is_found_again_and_built_anew_for_another_precision(tmp_path, rtx):
    model = colour_detector(tmp_path / "m.onnx", (96, 96))
    spec = read_model_spec(model)
    digests = []
    for precision in (None, None, "fp16"):
        options = RuntimeOptions(precision=precision, plans=PlanOptions(store=tmp_path / "plans"))
        builder = PlanBuilder.open(model, spec, options, to_run=False)
        digests.append(builder.find_or_build().digest)
    assert digests[0] == digests[1] != digests[2]


def test_plan_of_a_later_library_is_not_found_by_an_older_one(tmp_path, rtx):
    model = colour_detector(tmp_path / "m.onnx", (96, 96))
    options = RuntimeOptions(plans=PlanOptions(tmp_path / "plans", build=BuildOptions(version_compatible=True)))
    opened = PlanBuilder.open(model, read_model_spec(model), options, to_run=False)
    later = replace(opened, library=replace(rtx, version="99.1"))
    stored = opened.store.add(opened.key, b"plan", model_name="m", build_seconds=1.0, version="99.1")
    assert later.find() == stored
    assert opened.find() is None


@pytest.mark.parametrize(
    ("precision", "libraries"),
    [(None, set()), ("fp32", set()), ("fp16", {"onnx"}), ("int8", {"onnx", "onnxruntime"})],
)
def test_a_plan_is_of_the_libraries_that_made_its_precision(tmp_path, monkeypatch, precision, libraries):
    model = colour_detector(tmp_path / "m.onnx", (96, 96))
    options = RuntimeOptions(precision=precision, plans=PlanOptions(tmp_path / "plans"))

    def digest():
        return PlanBuilder.open(model, read_model_spec(model), options, to_run=False).key.digest

    before, changed = digest(), set()
    for library, (name, other) in {
        "onnx": ("onnx.__version__", "1.0.0"),
        "onnxruntime": ("engines.precision.kept._version_of_onnxruntime", lambda: "1.0.0"),
    }.items():
        with monkeypatch.context() as patched:
            patched.setattr(name, other)
            changed |= {library} if digest() != before else set()
    assert changed == libraries


@pytest.mark.parametrize("text", ["4:2", "0", "1:2:3:4", "a", "1:4:257"])
def test_bad_batches_are_explained(text):
    with pytest.raises(ModelError, match=r"batch.*(1:4:8|largest batch)"):
        ShapeProfile.parse(text)


@pytest.mark.parametrize(
    "words",
    ["[virtualMemoryBuffer.cpp] Error Code 1: Cuda Runtime (out of memory)", "OutOfMemory: insufficient memory"],
)
def test_complaints_about_memory_are_recognised(words):
    assert looks_like_no_memory(words)


@pytest.mark.parametrize("damage", [lambda plan: b"", lambda plan: plan[:-1000], lambda plan: b"x" + plan[1:]])
def test_plan_that_is_none_is_one_error_with_a_way_on(tmp_path, rtx, damage):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    plan, _ = build_plan(rtx, model, read_model_spec(model), ShapeProfile(), BuildOptions())
    with pytest.raises(
        PlanError, match=r"plan abc cannot be loaded by .*another GPU\. Build it again here: onpace build --rebuild"
    ):
        TrtEngine(rtx, damage(plan), "abc")


@pytest.mark.parametrize("shapes", [ShapeProfile(1, 8, 8), ShapeProfile(1, 1, 1)])
def test_build_that_its_own_limit_leaves_no_memory_blames_the_limit_alone(tmp_path, rtx, shapes):
    model = working_detector(tmp_path / "m.onnx", (96, 96), layers=2)
    too_little = rf"batches {shapes}: .*limit.*\. --workspace 0\.5 MiB .* is too little: raise it, or leave it out\.$"
    with pytest.raises(DeviceMemoryError, match=too_little) as error:
        build_plan(rtx, model, read_model_spec(model), shapes, BuildOptions(workspace_bytes=1 << 19))
    assert "batch 1 would fit" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("no tactics to implement the operation within workspace limit", "is too little"),
        ("Tactic Device request: 3280MB Available: 64MB. Device memory is insufficient.", "is too little"),
        (
            "Could not find any implementation for node a | insufficient memory on requested size of 9",
            "may be too little",
        ),
        ("Tactic Device request: 60MB Available: 15MB. Device memory is insufficient.", "batch 1 may fit"),
        ("Tactic Device request: 3280MB Available: 19MB. Device memory is insufficient.", "Not even batch 1 would fit"),
        ("Cuda Runtime (out of memory)", "Batch 4 may fit"),
    ],
)
def test_the_limit_is_blamed_only_where_it_may_be_what_was_too_low(tmp_path, words, told):
    spec = read_model_spec(colour_detector(tmp_path / "m.onnx", (96, 96)))
    shapes = ShapeProfile(1, 8, 8)
    remedy = remedy_for_memory(BuildOptions(workspace_bytes=64 << 20), spec, shapes, words)
    assert told in remedy
    assert remedy.startswith("--workspace 64 MiB (engine.workspace_mib in a configuration)") == ("too little" in told)
    assert ("batch" in remedy.lower()) == (told != "is too little")
    assert "workspace" not in remedy_for_memory(BuildOptions(), spec, shapes, words)


def test_a_smaller_batch_than_the_file_fixes_takes_another_file(tmp_path):
    spec = replace(read_model_spec(colour_detector(tmp_path / "m.onnx", (96, 96))), max_batch=8)
    remedy = smaller_batch(spec, ShapeProfile(8, 8, 8))
    assert remedy.startswith("The file fixes its batch at 8: export it with a smaller one")
    assert "--batch" not in remedy


def test_batch_is_named_by_what_the_library_says_of_memory(tmp_path):
    spec = read_model_spec(colour_detector(tmp_path / "m.onnx", (96, 96)))
    assert spec.max_batch is None
    words = "Tactic Device request: 3280MB Available: 1535MB. Device memory is insufficient to use tactic."
    told = memory_told(words)
    assert told == (3280 << 20, 1535 << 20)
    assert smaller_batch(spec, ShapeProfile(1, 8, 8), told) == "By that, batch 3 may fit: --batch 3."
    assert smaller_batch(spec, ShapeProfile(1, 1, 1), told).startswith("Not even batch 1 would fit")
    assert memory_told("out of memory") is None
    assert smaller_batch(spec, ShapeProfile(1, 8, 8)) == "Batch 4 may fit: --batch 4."


def test_plan_error_is_a_model_error_so_that_the_command_ends_with_2():
    assert issubclass(PlanError, ModelError)


@pytest.mark.parametrize("precision", ["bf16", "int8", "fp8"])
def test_what_the_library_has_is_built(tmp_path, rtx, precision):
    model = conv_detector(tmp_path / "m.onnx", dynamic_batch=True)
    frames = Calibration([np.random.default_rng(0).random((1, 3, 64, 64), np.float32)], "noise")
    options = RuntimeOptions(precision=precision, calibration=frames, plans=PlanOptions(store=tmp_path / "plans"))
    plan = PlanBuilder.open(model, read_model_spec(model), options, to_run=False).find_or_build()
    assert plan.ingredients["precision"] == precision
    assert plan.nbytes > 10_000


def test_a_plan_knows_what_it_took_to_make_a_typed_model_that_was_found_made_already(tmp_path, own_cache):
    model = conv_detector(tmp_path / "m.onnx", dynamic_batch=True)
    spec = read_model_spec(model)
    frames = Calibration([np.random.default_rng(0).random((1, 3, 64, 64), np.float32)], "noise")
    options = RuntimeOptions(precision="int8", calibration=frames, plans=PlanOptions(store=tmp_path / "plans"))
    builder = PlanBuilder.open(model, spec, options, to_run=False)
    assert builder.find_or_build().earlier_seconds == 0.0, "making it is part of build_seconds"
    took = made_seconds(kept_model(model, spec, "int8", frames))
    assert took is not None and took > 0
    assert builder.find_or_build(rebuild=True).earlier_seconds == pytest.approx(took, abs=0.001)
    assert builder.find_or_build().earlier_seconds == pytest.approx(took, abs=0.001)


def test_calibrating_says_which_picture_it_is_at(tmp_path, own_cache):
    model = conv_detector(tmp_path / "m.onnx")
    spec = read_model_spec(model)
    read = calibration_from([str(find_sample("street.mp4"))], spec, 3)
    noise = Calibration([np.random.default_rng(0).random((1, 3, 64, 64), np.float32)] * 3, "noise")
    for frames in (read, noise):
        told = []
        progress = Progress(lambda share, phase, told=told: told.append((share, phase)))
        plans = PlanOptions(store=tmp_path / "plans", progress=progress)
        options = RuntimeOptions(precision="int8", calibration=frames, plans=plans)
        PlanBuilder.open(model, spec, options, to_run=False).find_or_build()
        pictures = [(0.0, f"calibrating, picture {number} of 3") for number in (1, 2, 3)]
        assert told[:4] == [(0.0, "calibrating"), *pictures]
        assert told[-1][0] > 0.5  # the bar is all the build's


def test_a_damaged_plan_counts_as_none_where_none_may_be_built_now(tmp_path, rtx):
    model = working_detector(tmp_path / "m.onnx", (96, 96), layers=2)
    spec = read_model_spec(model)
    plans = PlanOptions(store=tmp_path / "my plans")
    built = PlanBuilder.open(model, spec, RuntimeOptions(plans=plans), to_run=False).find_or_build()
    ready = RuntimeOptions(plans=replace(plans, may_build=False))
    assert PlanBuilder.open(model, spec, ready, to_run=False).require() == built
    built.path.write_bytes(built.path.read_bytes()[:-1])
    with pytest.raises(PlanMissingError, match=rf"no whole plan of tensorrt_rtx .*--store '{tmp_path}/my plans'"):
        PlanBuilder.open(model, spec, ready, to_run=False).require()


def test_the_command_that_builds_a_missing_plan_says_how_it_is_calibrated_where_that_is_not_the_default(tmp_path, rtx):
    model = conv_detector(tmp_path / "m.onnx")
    spec, clip = read_model_spec(model), [str(find_sample("street.mp4"))]
    plans = PlanOptions(store=tmp_path / "plans", may_build=False)

    def told(calibration):
        options = RuntimeOptions(precision="int8", calibration=calibration, plans=plans)
        with pytest.raises(PlanMissingError) as caught:
            PlanBuilder.open(model, spec, options, to_run=False).require()
        return str(caught.value)

    assert " --calibration SOURCE --store" in told(calibration_from(clip, spec))
    wanted = " --calibration SOURCE --calibration-pictures 8 --calibration-method entropy --store"
    assert wanted in told(calibration_from(clip, spec, 8, "entropy"))
    assert " --calibration SOURCE --calibration-method minmax --store" in told(
        calibration_from(clip, spec, 32, "minmax")
    )


def test_an_eight_bit_plan_is_found_without_pictures_by_other_versions_too(tmp_path, rtx, monkeypatch):
    model = conv_detector(tmp_path / "m.onnx")
    spec, plans = read_model_spec(model), PlanOptions(store=tmp_path / "plans")
    frames = Calibration([np.random.default_rng(0).random((1, 3, 64, 64), np.float32)], "noise")
    given = RuntimeOptions(precision="int8", calibration=frames, plans=plans)
    built = PlanBuilder.open(model, spec, given, to_run=False).find_or_build()
    monkeypatch.setattr(onnx, "__version__", "9.9")
    assert PlanBuilder.open(model, spec, replace(given, calibration=None), to_run=False).find() == built
    assert PlanBuilder.open(model, spec, given, to_run=False).find() is None


def test_without_pictures_the_whole_plan_built_last_is_taken_and_damage_is_told(tmp_path, rtx):
    model = conv_detector(tmp_path / "m.onnx")
    spec, plans = read_model_spec(model), PlanOptions(store=tmp_path / "plans")
    without = RuntimeOptions(precision="int8", plans=plans)
    built = []
    for name in ("older", "newer"):
        frames = Calibration([np.random.default_rng(0).random((1, 3, 64, 64), np.float32)], name)
        built.append(PlanBuilder.open(model, spec, replace(without, calibration=frames), to_run=False).find_or_build())
    for expected in reversed(built):
        assert PlanBuilder.open(model, spec, without, to_run=False).find_or_build() == expected
        expected.path.write_bytes(expected.path.read_bytes() + b"x")
    damaged = rf"none of its int8 plans is whole \(2 were .*prune --broken --store {tmp_path}/plans\).* --calibration"
    for may_build in (True, False):
        options = replace(without, plans=replace(plans, may_build=may_build))
        with pytest.raises(PlanError, match=damaged):
            PlanBuilder.open(model, spec, options, to_run=False).require()


def test_precision_that_the_library_lacks_is_refused_with_what_it_has(rtx):
    weak = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace(EXPLICIT_BATCH=0), DataType=rtx.trt.DataType)
    old = replace(rtx, trt=weak, flavour="tensorrt", version="8.6.0")  # which has the word FP8, and nothing behind it
    old.require("int8")
    for precision in ("bf16", "fp8"):
        rtx.require(precision)
        with pytest.raises(RuntimeMissingError, match=rf"8\.6\.0 runs no {precision}. Allowed here: fp32, fp16, int8;"):
            old.require(precision)


def test_eight_bit_floats_say_the_same_as_the_model(tmp_path):
    model = conv_detector(tmp_path / "m.onnx")
    pictures = np.random.default_rng(1).random((3, 1, 3, 64, 64), np.float32)
    spec, frames = read_model_spec(model), Calibration(list(pictures), "noise")
    found = {}
    for precision in ("fp32", "fp8"):
        typed = typed_model(model, spec, precision, frames, tmp_path / f"{precision}.onnx").path
        session = onnxruntime.InferenceSession(str(typed), providers=["CPUExecutionProvider"])
        found[precision] = session.run(None, {"images": pictures[0]})[0]
    wrong = np.abs(found["fp8"] - found["fp32"])
    assert 0 < wrong[:, :4].mean() < 0.05 * found["fp32"][:, :4].std() + 0.5
    assert wrong[:, 4:].mean() < 0.05


class Held:
    """A layer as TensorRT's parser made it, that notes what it is held in."""

    def __init__(self, layer):
        self.name, self.type, self.get_output = layer.name, layer.type, layer.get_output
        self.precision = None
        self.outputs = []

    def set_output_type(self, index, kind):
        self.outputs.append((index, kind))


@pytest.mark.parametrize(
    ("precision", "flags", "half"),
    [("fp32", [], 0), ("fp16", ["fp16", "prefer"], 66), ("int8", ["int8", "fp16", "prefer"], 0)],
)
def test_library_without_types_in_the_file_is_held_to_them(tmp_path, rtx, precision, flags, half):
    """TensorRT 8.6 is weakly typed: what it is told beside the file. Layers and their names are of the real parser."""
    model = find_sample("street.onnx")
    spec = read_model_spec(model)
    frames = Calibration([np.random.default_rng(0).random((1, 3, 224, 384), np.float32)], "noise")
    typed = typed_model(model, spec, precision, frames, tmp_path / "typed.onnx").path
    trt = rtx.trt
    network = trt.Builder(rtx.logger).create_network(rtx.creation_flags())
    assert trt.OnnxParser(network, rtx.logger).parse_from_file(str(typed))
    layers = [Held(network.get_layer(index)) for index in range(network.num_layers)]
    kept = SimpleNamespace(num_layers=len(layers), get_layer=layers.__getitem__)
    weak = SimpleNamespace(
        LayerType=trt.LayerType,
        DataType=trt.DataType,
        BuilderFlag=SimpleNamespace(FP16="fp16", INT8="int8", PREFER_PRECISION_CONSTRAINTS="prefer"),
    )
    told = []
    allow_precisions(replace(rtx, trt=weak), kept, SimpleNamespace(set_flag=told.append), onnx.load(str(typed)))
    assert told == flags
    convolutions = [layer for layer in layers if layer.type == trt.LayerType.CONVOLUTION]
    assert [layer.precision for layer in convolutions].count(trt.DataType.HALF) == half
    head = [layer for layer in layers if layer.type in (trt.LayerType.SOFTMAX, trt.LayerType.REDUCE)]
    assert head
    assert {layer.precision for layer in head} == {trt.DataType.FLOAT if flags else None}
    assert all(layer.outputs == ([] if layer.precision is None else [(0, layer.precision)]) for layer in layers)
