"""Where a GPU's memory is too small, the message names a batch that really fits, and the streams beside it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from engines.buffers import DeviceBuffer
from engines.cuda_runtime import _is_no_memory
from engines.device import Gpu, open_gpu
from engines.device_room import open_slots, open_slots_or_say, told_with_batch
from engines.errors import DeviceMemoryError
from engines.inspect_model import read_model_spec
from engines.runtime import RuntimeOptions, open_runtime
from engines.tensorrt_runtime import no_room
from pipeline.config.sections import DecodeSection
from pipeline.decode.room import stream_bytes, warn_where_tight
from tests.benchmarks.gpu_inputs import yolov8_shaped
from tests.helpers.tiny_onnx import do_nothing_detector


class SmallGpu(Gpu):
    """A GPU's facts with a fixed amount of free memory."""

    def free_bytes(self) -> int:
        return 900 << 20


class FullGpu(Gpu):
    """One with next to nothing free."""

    def free_bytes(self) -> int:
        return 100 << 20


_FREE = "Free GPU memory"
GPU = SmallGpu(0, "NVIDIA TEST", (9, 0), 1 << 30)
FULL = FullGpu(0, "NVIDIA TEST", (9, 0), 1 << 30)


class Slot:
    """Takes memory as its batch is large; there is room for batches up to five."""

    closed = 0

    def __init__(self, rows: int) -> None:
        if rows > 5:
            raise DeviceMemoryError("the GPU is out of memory (CUDA_ERROR_OUT_OF_MEMORY, out of memory).")

    def close(self) -> None:
        Slot.closed += 1


def test_the_batch_that_fits_is_found_by_trying_and_given_back():
    with pytest.raises(DeviceMemoryError) as caught:
        open_slots_or_say("model m", GPU, 100 << 20, 16, False, lambda rows: (Slot(rows), Slot(rows)))
    told = str(caught.value)
    assert "model m: its slots for batches up to 16 do not fit into the 900 MiB" in told
    assert "A batch of 4 fits, with room for about 9 streams of 1920x1080" in told
    assert "infer.batch_size: 4" in told
    assert Slot.closed == 2
    assert open_slots_or_say("model m", GPU, 0, 4, False, lambda rows: (Slot(rows),))
    with pytest.raises(DeviceMemoryError, match=r"The file fixes its batch at 8\. Free GPU memory"):
        open_slots_or_say("model m", GPU, 0, 8, True, lambda rows: (Slot(rows),))
    with pytest.raises(DeviceMemoryError, match="Not even one frame fits"):
        open_slots_or_say("model m", GPU, 0, 8, False, lambda rows: (Slot(8),))


def test_what_a_slot_needs_beside_its_own_memory_names_the_batch_to_try():
    for rows, fixed, told in ((16, False, "Try infer.batch_size: 8"), (1, False, _FREE), (4, True, _FREE)):
        with pytest.raises(DeviceMemoryError, match=told) as caught, told_with_batch("model m", GPU, rows, fixed):
            raise DeviceMemoryError("the GPU is out of memory (CUDA_ERROR_OUT_OF_MEMORY, out of memory).")
        assert f"batches up to {rows} do not fit into the 900 MiB that GPU 0 (NVIDIA TEST) has free" in str(
            caught.value
        )


class Session:
    """Says when it ends."""

    def __init__(self, ended: list[str]) -> None:
        self._ended = ended

    def __del__(self) -> None:
        self._ended.append("session")


class SlotWithoutRoom:
    """Its session opens, and then does not run."""

    def __init__(self, ended: list[str]) -> None:
        self._ended = ended

    def warm_up(self) -> None:
        session = Session(self._ended)
        try:
            self._run(session)
        except RuntimeError as error:
            raise DeviceMemoryError("the GPU is out of memory.") from error

    def _run(self, session: Session) -> None:
        raise RuntimeError(f"{session} has no workspace")

    def close(self) -> None:
        self._ended.append("CUDA stream")


def test_a_session_that_did_not_fit_ends_before_the_stream_that_it_runs_on():
    ended: list[str] = []
    with pytest.raises(DeviceMemoryError):
        open_slots(1, 1, lambda number, rows: SlotWithoutRoom(ended))
    assert ended == ["session", "CUDA stream"]


def test_a_plan_that_does_not_fit_says_which_batch_to_build_for(tmp_path):
    spec = read_model_spec(do_nothing_detector(tmp_path / "m.onnx", (96, 96), dynamic_batch=True))
    build = "onpace build m.onnx --precision fp16 --batch {}".format
    told = str(no_room(GPU, spec, 16, 1800 << 20, GPU.free_bytes(), build, 100 << 20))
    assert "slots for batches up to 16 need 1800 MiB or more, but GPU 0 (NVIDIA TEST) has 900 MiB free" in told
    assert "Batch 7 would fit, with room for about 1 streams" in told
    assert told.endswith(
        "onpace build m.onnx --precision fp16 --batch 1:7:7, and engine.batch: '1:7:7' in the configuration."
    )
    told = str(no_room(GPU, spec, 16, None, GPU.free_bytes(), build, 100 << 20))
    assert "need more, but GPU 0 (NVIDIA TEST) has 900 MiB free. Try batch 8, with room for about 4 streams of" in told
    fixed = read_model_spec(do_nothing_detector(tmp_path / "fixed.onnx", (96, 96)))
    assert "Not even one frame would" in str(no_room(GPU, fixed, 1, 1800 << 20, GPU.free_bytes(), build, 0))


def test_libraries_words_for_no_memory_are_known():
    for words in (
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bfc_arena.cc:376 Failed to allocate memory for requested buffer",
        "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
        "CUDA failure 2: out of memory ; GPU=0",
        "CUBLAS failure 3: the resource allocation failed ; GPU=0",
    ):
        assert _is_no_memory(RuntimeError(words), GPU)
    assert not _is_no_memory(RuntimeError("CUDA failure 700: an illegal memory access was encountered"), FULL)


def test_an_internal_error_of_cudnn_is_no_memory_where_next_to_nothing_is_free():
    assert _is_no_memory(RuntimeError("CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0"), GPU)
    error = RuntimeError("CUDNN failure 4000: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0 ; expr=cudnnCreate(&cudnn_handle_)")
    assert _is_no_memory(error, FULL)
    assert not _is_no_memory(error, GPU)


def test_a_gpu_too_small_for_its_streams_is_said_with_the_number_that_fits(caplog):
    caplog.set_level(logging.WARNING)
    warn_where_tight(GPU, 4, DecodeSection())
    assert not caplog.records
    warn_where_tight(GPU, 40, DecodeSection())
    (record,) = caplog.records
    assert f"about {(900 << 20) // stream_bytes(DecodeSection())} streams" in record.message
    assert "there are 40" in record.message


@pytest.fixture
def crowded() -> Iterator[Gpu]:
    """A GPU of which all but 700 MiB are taken."""
    gpu = open_gpu()
    with DeviceBuffer(gpu, (1 << 20,), "uint8"), DeviceBuffer(gpu, (gpu.free_bytes() - (700 << 20),), "uint8"):
        yield gpu


@pytest.mark.cuda
@pytest.mark.runtime("cuda")
@pytest.mark.timeout(300)
def test_on_a_crowded_gpu_the_named_batch_opens(tmp_path, crowded):
    model = yolov8_shaped("n", tmp_path)
    spec = read_model_spec(model)
    options = {"precision": "fp16", "stream_bytes": 50 << 20}
    with pytest.raises(DeviceMemoryError) as caught:
        open_runtime("cuda", model, spec, RuntimeOptions(max_batch=64, **options))
    told = str(caught.value)
    found = re.search(r"A batch of (\d+) fits, with room for about (\d+) streams", told)
    assert found, told
    with open_runtime("cuda", model, spec, RuntimeOptions(max_batch=int(found[1]), **options)) as runtime:
        assert runtime.slots[0].run(int(found[1]))
