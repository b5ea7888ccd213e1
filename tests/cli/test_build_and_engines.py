"""``onpace build`` and ``onpace engines`` against the real TensorRT for RTX, which builds without a GPU."""

from __future__ import annotations

import json

import pytest

from tests.cli.onpace_command import onpace
from tests.helpers.tiny_onnx import do_nothing_detector

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed (extra: test)")


def test_plan_is_built_once_listed_verified_and_pruned(tmp_path):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    store = tmp_path / "plans"
    first, again = (json.loads(onpace("build", str(model), "--store", str(store), "--json").stdout) for _ in range(2))
    assert (first["built"], again["built"]) == (True, False)
    assert first["digest"] == again["digest"]
    listed = json.loads(onpace("engines", "list", "--store", str(store), "--json").stdout)
    assert [plan["digest"] for plan in listed["plans"]] == [first["digest"]]
    plan = store / f"{first['digest']}.plan"
    plan.write_bytes(plan.read_bytes()[:-1])
    broken = onpace("engines", "verify", "--store", str(store))
    assert broken.returncode == 1
    assert "altered or cut short" in broken.stdout
    assert "1 plans removed" in onpace("engines", "prune", "--broken", "--store", str(store)).stdout
    assert json.loads(onpace("engines", "list", "--store", str(store), "--json").stdout)["plans"] == []


def test_what_cannot_be_built_ends_with_2_and_one_line(tmp_path):
    model = do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    for arguments in (["--batch", "1:8:8"], ["--version-compatible"]):
        done = onpace("build", str(model), "--store", str(tmp_path / "plans"), *arguments)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
