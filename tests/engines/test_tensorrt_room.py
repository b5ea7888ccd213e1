"""TensorRT without enough memory: it says which batch to build for, and gives back what it took in the right order."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import engines.tensorrt_runtime
from engines.errors import DeviceMemoryError, RunError
from engines.inspect_model import read_model_spec
from engines.runtime import RuntimeOptions
from engines.shape_profile import ShapeProfile
from engines.tensorrt_runtime import TensorRtRuntime, TensorRtSlot
from engines.trt.engine import TrtEngine
from engines.trt.library import TrtLibrary
from tests.engines.test_device_room import GPU, SlotWithoutRoom
from tests.helpers.tiny_onnx import do_nothing_detector

NO_MEMORY = "Cuda Runtime (out of memory)"


def library_that_says(words: str) -> TrtLibrary:
    """A TensorRT that loads no plan."""

    class Loader:
        def __init__(self, logger: object) -> None: ...

        def deserialize_cuda_engine(self, plan: bytes) -> None:
            library.said.append(words)

    library = TrtLibrary(SimpleNamespace(Runtime=Loader), "tensorrt", "10.9", None, deque(), deque())
    return library


class Engine:
    """A plan for batches up to 16 that was loaded."""

    inputs, outputs, context_bytes = ("images",), ("output0",), 1 << 20

    def __init__(self, *given: object) -> None: ...

    def max_batch(self, name: str) -> int:
        return 16

    def min_batch(self, name: str) -> int:
        return 1

    def dtype(self, name: str) -> np.dtype[np.float32]:
        return np.dtype(np.float32)


@pytest.fixture
def open_runtime_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that opens a plan for batches up to 16, with a library that stands in for TensorRT."""
    spec = read_model_spec(do_nothing_detector(tmp_path / "m.onnx", (96, 96), dynamic_batch=True))
    plan = SimpleNamespace(
        path=tmp_path / "m.plan", build_seconds=0.0, earlier_seconds=0.0, digest="abc", read=lambda: b"plan"
    )

    def open_it(library: TrtLibrary) -> TensorRtRuntime:
        builder = SimpleNamespace(
            gpu=GPU,
            library=library,
            key=SimpleNamespace(shapes=ShapeProfile(1, 16, 16)),
            require=lambda: plan,
            command="onpace build m.onnx --batch {}".format,
        )
        monkeypatch.setattr(engines.tensorrt_runtime.PlanBuilder, "open", lambda *_, **__: builder)
        return TensorRtRuntime(tmp_path / "m.onnx", spec, RuntimeOptions(stream_bytes=100 << 20))

    return open_it


def test_a_plan_that_cannot_be_loaded_for_want_of_memory_says_which_batch_to_try(open_runtime_of):
    with pytest.raises(DeviceMemoryError) as caught:
        open_runtime_of(library_that_says(NO_MEMORY))
    assert "Try batch 8, with room for about 4 streams of 1920x1080" in str(caught.value)
    assert "onpace build m.onnx --batch 1:8:8" in str(caught.value)


def test_contexts_that_did_not_fit_end_before_the_stream_that_they_run_on(open_runtime_of, monkeypatch):
    ended: list[str] = []
    monkeypatch.setattr(engines.tensorrt_runtime, "TrtEngine", Engine)
    monkeypatch.setattr(engines.tensorrt_runtime, "TensorRtSlot", lambda *given: SlotWithoutRoom(ended))
    with pytest.raises(DeviceMemoryError, match="Try batch 8, with room for about 4 streams"):
        open_runtime_of(library_that_says(""))
    assert ended[0] == "session"
    assert set(ended[1:]) == {"CUDA stream"}


@pytest.mark.parametrize(("words", "kind"), [(NO_MEMORY, DeviceMemoryError), ("an illegal memory access", RunError)])
def test_a_first_run_that_finds_no_memory_is_told_from_others(words, kind):
    slot = object.__new__(TensorRtSlot)
    slot._cuda_stream = SimpleNamespace(handle=0)
    slot._spec = SimpleNamespace(name="m")
    slot._library = library_that_says("")
    slot._library.said.append(words)
    with pytest.raises(RunError, match="model m failed in tensorrt") as caught:
        slot._execute(SimpleNamespace(execute_async_v3=lambda handle: False))
    assert type(caught.value) is kind


class Context:
    """What the library gives to run a plan; in 10.0, as in 8.6, its memory can only be assigned."""

    device_memory = 0


class LaterContext(Context):
    def set_device_memory(self, pointer: int, nbytes: int) -> None:
        self.device_memory, self.nbytes = pointer, nbytes


def loaded_plan(version: str, context: Context | None) -> TrtEngine:
    """A plan in a TensorRT whose calls are those of ``version``; None: it gives no context."""
    kinds = SimpleNamespace(USER_MANAGED="user managed")
    if version.startswith("8."):
        trt = SimpleNamespace()
        made = SimpleNamespace(create_execution_context_without_device_memory=lambda: context)
    else:
        trt = SimpleNamespace(ExecutionContextAllocationStrategy=kinds)
        made = SimpleNamespace(create_execution_context={"user managed": context}.__getitem__)
    engine = object.__new__(TrtEngine)
    engine._library = TrtLibrary(trt, "tensorrt", version, None, deque(), deque())
    engine.engine = made
    return engine


@pytest.mark.parametrize(("version", "kind"), [("8.6.0", Context), ("10.0.1", Context), ("10.13.0", LaterContext)])
def test_a_context_works_in_the_memory_it_is_given_in_every_version(version, kind):
    context = loaded_plan(version, kind()).new_context(4096, 1 << 20)
    assert context.device_memory == 4096
    assert getattr(context, "nbytes", 1 << 20) == 1 << 20


@pytest.mark.parametrize("version", ["8.6.0", "10.0.1"])
def test_a_library_that_gives_no_context_is_an_error_in_words(version):
    with pytest.raises(RunError, match="tensorrt gives no execution context: it does not say why"):
        loaded_plan(version, None).new_context(4096, 1 << 20)
