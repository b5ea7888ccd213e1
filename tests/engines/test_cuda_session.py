"""What ONNX Runtime really gave, where CUDA was asked for."""

from __future__ import annotations

import pytest

from engines.cuda_runtime import _open_session
from engines.device import Gpu
from engines.errors import RuntimeMissingError
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
