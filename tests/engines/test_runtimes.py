"""What holds for every runtime in the table."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import onnx
import pytest

from engines.buffers import PinnedBuffer
from engines.errors import ModelError, RunError, RuntimeMissingError
from engines.inspect_model import read_model_spec
from engines.plan_building import PlanBuilder
from engines.runtime import RUNTIMES, DeviceSlot, PlanOptions, RuntimeOptions, open_runtime
from engines.shape_profile import ShapeProfile
from engines.trt.engine import TrtEngine
from engines.trt.options import BuildOptions
from pipeline.comparing.measure import fill
from pipeline.config.engine_section import EngineSection
from tests.helpers.conv_onnx import SIZE, conv_detector
from tests.helpers.tiny_onnx import PlantedBox, colour_detector, do_nothing_detector, planted_detector
from tests.helpers.yolo_onnx import yolo_detector

BOX = PlantedBox((30, 40, 90, 100), 5, 0.75)
PREFER = ("auto", "latency", "throughput")


@pytest.fixture(scope="module")
def quick_plans(tmp_path_factory):
    """Plans that are built in the shortest time, and once for all tests."""
    return PlanOptions(store=tmp_path_factory.mktemp("plans"), build=BuildOptions(optimisation_level=0))


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.runtime(name)) for name in RUNTIMES])
def opened(request, quick_plans):
    """A function that opens a model on each runtime in turn, closed at the end."""
    runtimes = []

    def open_model(model, **options):
        asked = RuntimeOptions(plans=quick_plans, **options)
        runtime = open_runtime(request.param, model, read_model_spec(model), asked)
        runtimes.append(runtime)
        return runtime

    yield open_model
    for runtime in runtimes:
        runtime.close()
        runtime.close()  # closing twice is safe


@pytest.mark.parametrize("prefer", PREFER)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_outputs_are_the_models(tmp_path, opened, prefer, dtype):
    model = planted_detector(tmp_path / "m.onnx", (320, 256), [BOX], dtype=dtype)
    runtime = opened(model, prefer=prefer, threads=2)
    for slot in runtime.slots:
        assert slot.input.shape == (1, 3, 256, 320)
        assert slot.input.dtype == dtype
        found = slot.run(1)["output0"]
        assert found.shape == (1, 84, 1680)
        assert found.dtype == dtype
        assert found[0, :4, 0].tolist() == [60, 70, 60, 60]
    assert runtime.name in RUNTIMES
    assert "\n" not in runtime.describe()


def test_fp16_takes_pictures_in_half_precision_and_finds_the_same(tmp_path, opened):
    model = conv_detector(tmp_path / "m.onnx")
    picture = np.random.default_rng(4).random((1, 3, SIZE, SIZE), np.float32)
    slot = opened(model, precision="fp16").slots[0]
    assert slot.input.dtype == np.float16
    slot.input[:1] = picture
    found = slot.run(1)["output0"]
    with open_runtime("cpu", model, read_model_spec(model), RuntimeOptions()) as reference:
        reference.slots[0].input[:1] = picture
        expected = reference.slots[0].run(1)["output0"].copy()
    assert found.dtype == expected.dtype == np.float32
    wrong = np.abs(found - expected)[0]
    assert wrong[:4].max() < 0.5  # pixels
    assert wrong[4:].max() < 0.01


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.runtime(name)) for name in RUNTIMES if name != "cpu"]
)
def test_batches_are_launched_as_graphs_unless_none_are_wanted(tmp_path, quick_plans, name):
    model = conv_detector(tmp_path / "m.onnx", dynamic_batch=True)
    pictures = np.random.default_rng(4).random((3, 3, SIZE, SIZE), np.float32)
    found = {}
    for wanted, words in ((True, "CUDA graphs"), (False, "without CUDA graphs")):
        options = RuntimeOptions(max_batch=3, plans=replace(quick_plans, cuda_graphs=wanted))
        with open_runtime(name, model, read_model_spec(model), options) as runtime:
            assert runtime.describe().endswith(f"slots, {words}")
            for slot in runtime.slots:
                for rows in (3, 1, 2):
                    slot.input[:rows] = pictures[:rows]
                    found.setdefault(wanted, []).append(slot.run(rows)["output0"].copy())
    for recorded, plain in zip(found[True], found[False], strict=True):
        assert recorded.max() > 0
        assert np.allclose(recorded, plain, rtol=1e-3, atol=1e-2)


@pytest.mark.runtime("cuda")
@pytest.mark.parametrize("graphs", [True, False])
def test_a_runtime_closes_after_many_runs_that_nobody_waited_for(tmp_path, graphs):
    """ONNX Runtime ended the process, where it was left to give back at the end what they had staged."""
    model = yolo_detector(tmp_path / "m.onnx", width=0.25, size=(320, 320))
    script = f"""
from pathlib import Path
from engines.inspect_model import read_model_spec
from engines.runtime import PlanOptions, RuntimeOptions, open_runtime
model = Path({str(model)!r})
plans = PlanOptions(cuda_graphs={graphs}, slots=1)
with open_runtime("cuda", model, read_model_spec(model), RuntimeOptions(max_batch=1, plans=plans)) as runtime:
    slot = runtime.slots[0]
    first = slot.run(1)["output0"].copy()
    for _ in range(1500):
        slot.enqueue(1)
    last = slot.run(1)["output0"]
    assert (first == last).all() and first.max() > 0
print("closed")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr


def test_every_row_of_a_dynamic_batch_is_its_own_picture(tmp_path, opened):
    runtime = opened(colour_detector(tmp_path / "m.onnx", (320, 256)), max_batch=3)
    assert runtime.max_batch == 3
    slot = runtime.slots[0]
    for row in range(3):
        slot.input[row] = 0
        slot.input[row, row, 10 : 20 + row, 30:50] = 1  # row 0 red, row 1 green, row 2 blue
    for batch_size in (3, 1, 2):
        found = slot.run(batch_size)["output0"]
        assert found.shape[0] == batch_size
        for row in range(batch_size):
            assert found[row, :4, row].tolist() == [40, 15 + row / 2, 20, 10 + row]
            assert found[row, 4:, row].argmax() == row


def test_input_is_used_where_it_lies(tmp_path, opened):
    slot = opened(colour_detector(tmp_path / "m.onnx", (320, 256))).slots[0]
    slot.input[:] = 0
    assert slot.run(1)["output0"].max() == 0
    slot.input[0, 0, 10:20, 30:50] = 1
    assert slot.run(1)["output0"][0, :4, 0].tolist() == [40, 15, 20, 10]


def test_slots_run_at_the_same_time_without_mixing(tmp_path, opened):
    runtime = opened(colour_detector(tmp_path / "m.onnx", (320, 256)), prefer="throughput", threads=3)
    wrong = []

    def work(index, slot):
        for step in range(30):
            left = 10 * index + step
            slot.input[:] = 0
            slot.input[0, 0, 10:20, left : left + 10] = 1
            if slot.run(1)["output0"][0, 0, 0] != left + 5:
                wrong.append((index, step))

    threads = [threading.Thread(target=work, args=item) for item in enumerate(runtime.slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runtime.slots) > 1
    assert not wrong


def test_a_gpu_has_as_many_slots_as_the_configuration_says(tmp_path, quick_plans, opened):
    model = colour_detector(tmp_path / "m.onnx", (320, 256))
    usual = opened(model)
    if not isinstance(usual.slots[0], DeviceSlot):
        pytest.skip("this runtime's slots are on the host")
    plans = replace(quick_plans, slots=EngineSection(slots=2).options().slots)
    with open_runtime(usual.name, model, read_model_spec(model), RuntimeOptions(plans=plans)) as fewer:
        assert (len(usual.slots), len(fewer.slots)) == (EngineSection().slots, 2)


def test_device_slot_runs_what_kernels_wrote_and_leaves_the_outputs_there(tmp_path, opened):
    slot = opened(colour_detector(tmp_path / "m.onnx", (320, 256)), max_batch=2).slots[0]
    if not isinstance(slot, DeviceSlot):
        pytest.skip("this runtime's slots are on the host")
    slot.gpu.use()
    slot.input[:] = 0
    slot.input[1, 2, 10:20, 30:50] = 1
    slot.run(2)  # uploads, as a kernel would write
    place = slot.device_input
    assert place.shape == (2, 3, 256, 320)
    slot.input[:] = 0  # what lies on the host counts no more
    for _ in range(3):
        outputs = slot.enqueue(2)
        slot.synchronise()
        assert outputs["output0"].shape[0] == 2
        assert slot.device_input == place
        with PinnedBuffer(slot.gpu, outputs["output0"].shape, outputs["output0"].dtype) as seen:
            slot.cuda_stream.download(seen.address, outputs["output0"].pointer, outputs["output0"].nbytes)
            slot.synchronise()
            assert seen.array[1, :4, 2].tolist() == [40, 15, 20, 10]
            assert seen.array[0].max() == 0


def test_what_speed_is_measured_on_is_noise_in_every_row(tmp_path, opened):
    model = colour_detector(tmp_path / "m.onnx", (320, 256))
    runtime = opened(model, max_batch=3)
    fill(runtime, read_model_spec(model))
    for slot in runtime.slots:
        noise = slot.input.copy()
        if isinstance(slot, DeviceSlot):
            place = slot.device_input
            slot.gpu.use()
            with PinnedBuffer(slot.gpu, place.shape, place.dtype) as seen:
                slot.cuda_stream.download(seen.address, place.pointer, place.nbytes)
                slot.synchronise()
                noise = seen.array.copy()
        assert [row.std() > 0.2 for row in noise] == [True] * 3


def test_batches_of_every_size_answer_the_same(tmp_path, opened):
    runtime = opened(colour_detector(tmp_path / "m.onnx", (320, 256)), max_batch=5)
    slot = runtime.slots[1 % len(runtime.slots)]
    for row in range(5):
        slot.input[row] = 0
        slot.input[row, 0, 10:20, 10 * row : 10 * row + 10] = 1
    for batch_size in (1, 5, 3, 2, 4, 1, 5):
        found = slot.run(batch_size)["output0"]
        assert [found[row, 0, 0] for row in range(batch_size)] == [10 * row + 5 for row in range(batch_size)]


def test_fixed_batch_runs_whole_and_answers_the_rows_that_count(tmp_path, opened):
    runtime = opened(do_nothing_detector(tmp_path / "m.onnx", (96, 96)), max_batch=8)
    assert runtime.max_batch == 1
    with pytest.raises(RunError, match="a batch takes 1 to 1 frames here, got 2"):
        runtime.slots[0].run(2)
    with pytest.raises(RunError, match="got 0"):
        runtime.slots[0].run(0)


def test_a_batch_of_four_that_the_file_fixes_runs_whole_with_fewer_frames(tmp_path, opened):
    model = onnx.load(str(colour_detector(tmp_path / "m.onnx", (320, 256))))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, str(tmp_path / "four.onnx"))
    runtime = opened(tmp_path / "four.onnx", max_batch=8)
    assert runtime.max_batch == 4
    assert _middles(runtime, 3) == [5, 15, 25]


@pytest.mark.runtime("tensorrt")
def test_a_plan_for_four_frames_and_more_runs_fewer_too(tmp_path, quick_plans):
    model = colour_detector(tmp_path / "m.onnx", (320, 256))
    options = RuntimeOptions(plans=replace(quick_plans, shapes=ShapeProfile(4, 4, 8)))
    with open_runtime("tensorrt", model, read_model_spec(model), options) as runtime:
        assert _middles(runtime, 3) == [5, 15, 25]
        assert _middles(runtime, 6) == [5, 15, 25, 35, 45, 55]


def _middles(runtime, count):
    """Return where the boxes of ``count`` frames are, each with one coloured area a bit further to the right."""
    slot = runtime.slots[0]
    for row in range(count):
        slot.input[row] = 0
        slot.input[row, 0, 10:20, 10 * row : 10 * row + 10] = 1
    found = slot.run(count)["output0"]
    assert len(found) == count
    return [found[row, 0, 0] for row in range(count)]


def test_closed_runtime_says_so(tmp_path, opened):
    runtime = opened(do_nothing_detector(tmp_path / "m.onnx", (96, 96)))
    with runtime:
        pass
    with pytest.raises(RunError, match="this runtime is closed"):
        runtime.slots[0].run(1)


def test_model_that_vanished_or_was_cut_is_a_model_error(tmp_path, opened, capfd):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    spec = read_model_spec(model)
    model.write_bytes(model.read_bytes()[:-200])
    with pytest.raises(ModelError, match=r"m\.onnx"):
        open_runtime("auto", model, spec, RuntimeOptions())
    model.unlink()
    with pytest.raises(ModelError, match=r"m\.onnx"):
        open_runtime("auto", model, spec, RuntimeOptions())
    assert capfd.readouterr().err == ""


def test_unknown_runtime_names_the_known_ones(tmp_path):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    with pytest.raises(RuntimeMissingError, match=r"'gpu' is unknown\. Allowed: auto, tensorrt, cuda, cpu"):
        open_runtime("gpu", model, read_model_spec(model), RuntimeOptions())


def test_engines_and_heads_import_without_onnx_runtime_which_is_asked_for_in_words(tmp_path):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    script = f"""
import sys
sys.modules["onnxruntime"] = None  # an import of it fails, as where it is not installed
from pathlib import Path
import engines.runtime, engines.cpu_runtime, pipeline.postprocess.postprocess
from engines.errors import RuntimeMissingError
from engines.inspect_model import read_model_spec
model = Path({str(model)!r})
try:
    engines.runtime.open_runtime("cpu", model, read_model_spec(model), engines.runtime.RuntimeOptions())
except RuntimeMissingError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 'pip install "onnxruntime"' in done.stdout


@pytest.mark.runtime("tensorrt")
@pytest.mark.timeout(600)  # two plans of sixty layers each
def test_half_precision_works_in_less_memory(tmp_path, quick_plans):
    """It would not, where the library ran layers in float32 whatever the file says. It has float32 in its tail."""
    model = yolo_detector(tmp_path / "m.onnx", width=0.25, size=(320, 320))
    needed = {}
    for precision in ("fp32", "fp16"):
        options = RuntimeOptions(precision=precision, max_batch=8, plans=quick_plans)
        builder = PlanBuilder.open(model, read_model_spec(model), options, to_run=True)
        needed[precision] = TrtEngine(builder.library, builder.find_or_build().read(), precision).context_bytes
    assert needed["fp16"] < 0.85 * needed["fp32"]
