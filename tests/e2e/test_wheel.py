"""The wheel installs into an empty environment on every supported Python found here, and runs the demo from there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.helpers.onpace_process import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build it once, as a release would."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder, REPOSITORY], check=True, capture_output=True
    )
    (built,) = folder.glob("onpace-*.whl")
    return built


def interpreter(version: str) -> str | None:
    """The command that starts this Python, if it really does."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = shutil.which(f"python{version}")
    if found and subprocess.run([found, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
        return found
    return None


@pytest.fixture(autouse=True)
def _nothing_but_the_wheel(monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)


@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_runs_the_demo_in_an_empty_environment(version, wheel, tmp_path):
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    bin_folder = tmp_path / "venv" / "bin"
    install = [bin_folder / "python", "-m", "pip", "install", "--quiet", f"onpace[cpu] @ file://{wheel}"]
    subprocess.run(install, check=True, cwd=tmp_path)
    summary_path = tmp_path / "summary.json"
    command = [bin_folder / "onpace", "run", "sample:minimal.yaml", "--summary", summary_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (stream,) = json.loads(summary_path.read_text())["streams"]
    assert stream["received"] == stream["published"] + sum(sum(r.values()) for r in stream["dropped"].values())
    assert stream["published"] > 100
    assert str(Path("site-packages")) in subprocess.run(
        [bin_folder / "python", "-c", "import pipeline; print(pipeline.__file__)"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def test_importing_needs_no_runtime_and_no_gpu_library(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True, cwd=tmp_path)
    code = (
        "import sys, pipeline, engines, pipeline.pipeline, engines.runtime\n"
        "heavy = {'onnxruntime', 'tensorrt', 'cuda', 'torch', 'cupy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    missing = [python.parent / "onpace", "run", "pattern:?frames=5", "--model", "sample:street.onnx"]
    done = subprocess.run(missing, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "onnxruntime" in done.stderr
    assert "pip install" in done.stderr
