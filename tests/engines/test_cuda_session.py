"""What ONNX Runtime really gave, where CUDA was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from engines.cuda_runtime import CudaSlot, _Bound, _open_session
from engines.device import Gpu
from engines.errors import RuntimeMissingError
from engines.inspect_model import read_model_spec
from tests.helpers.tiny_onnx import do_nothing_detector

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(),
    reason="ONNX Runtime's CUDA build takes the GPU here: nothing falls back",
)
@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_a_session_that_fell_back_to_the_cpu_is_refused_with_the_remedy(tmp_path):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    with pytest.raises(RuntimeMissingError) as caught:
        _open_session(onnxruntime, model, Gpu(0, "NVIDIA TEST", (9, 0), 1 << 30), 0)
    told = str(caught.value)
    assert "did not take the GPU but fell back to CPUExecutionProvider: CUDA or cuDNN is missing" in told
    assert 'pip install "onpace[cuda]"' in told


class CountedSession:
    """A session on the CPU that counts its runs, and those of them that are waited for."""

    def __init__(self, model):
        self._session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        self.runs = self.waited_for = 0

    def bound(self, **recorded):
        binding = self._session.io_binding()
        for value in self._session.get_inputs():
            binding.bind_cpu_input(value.name, np.zeros(value.shape, np.float32))
        for value in self._session.get_outputs():
            binding.bind_output(value.name)
        return _Bound(
            self, binding, dict.fromkeys((value.name for value in self._session.get_outputs()), None), **recorded
        )

    def run_with_iobinding(self, binding, options):
        self._session.run_with_iobinding(binding, options)
        self.runs += 1
        self.waited_for += options is None


@pytest.mark.parametrize(("recorded", "waited_for"), [(False, 3), (True, 0)])
def test_runs_are_waited_for_now_and_then_unless_a_graph_reads_what_they_staged(tmp_path, recorded, waited_for):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    slot = object.__new__(CudaSlot)  # without a GPU: no stream, no memory
    slot._spec, slot._rows, slot._recording = read_model_spec(model), 1, False
    slot._run_options = onnxruntime.RunOptions()
    session = CountedSession(model)
    slot._bound = {1: session.bound(recorded=recorded)}
    for _ in range(200):
        slot._enqueue(1)
    assert (session.runs, session.waited_for) == (200, waited_for)
