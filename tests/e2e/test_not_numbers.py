"""``onpace run`` with a model whose outputs are not numbers ends with one error, said once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.helpers.onpace_process import REPOSITORY, onpace
from tests.helpers.tiny_onnx import PlantedBox, planted_detector, working_detector

pytestmark = pytest.mark.e2e


def broken_detector(path, kind):
    """One whose scores are no numbers; "heavy": nothing is, and its runs are long enough for two slots."""
    if kind == "light":
        return planted_detector(path, (320, 192), [PlantedBox((30, 40, 90, 100), 5, float("nan"))])
    model = onnx.load(str(working_detector(path, (320, 192))))
    for weights in model.graph.initializer:
        if weights.name == "constant":
            values = np.full_like(numpy_helper.to_array(weights), np.nan)
            weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("kind", ["light", "heavy"])
def test_outputs_that_are_not_numbers_end_a_run_with_one_error(tmp_path, kind):
    model = broken_detector(tmp_path / "nan.onnx", kind)
    done = onpace("run", REPOSITORY / "samples/street.mp4", "--model", model, "--runtime", "cpu")
    said = f"\n{done.stdout}\n{done.stderr}"
    assert done.wait() == 1, said
    assert "Traceback" not in said
    lines = Counter(line.partition(" ")[2] for line in said.splitlines() if "not-a-number" in line)
    assert lines and set(lines.values()) == {1}, said
    for words in ("postprocess failed:", "onpace.stage: infer-", "\nfailed: 10 batches"):
        assert said.count(words) == 1, said
    assert said.count("take precision fp32") == said.count("not-a-number") == 3
