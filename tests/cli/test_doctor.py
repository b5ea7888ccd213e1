from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from pipeline.cli.doctor import PACKAGES, nvdec
from pipeline.cli.doctor_machine import cpu_quota, examine_machine, memory_limit
from tests.cli.onpace_command import ROOT, onpace

SECTIONS = ["onpace", "packages", "runtimes", "video", "cameras", "messaging", "machine"]


def test_doctor_says_that_detection_can_run_here() -> None:
    done = onpace("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"runtimes +cpu +ok +ran a test model", done.stdout)
    assert re.search(r"video +h264 +ok", done.stdout)
    assert done.stdout.endswith("Detection can run here.\n")


def test_json_has_the_documented_keys() -> None:
    report = json.loads(onpace("doctor", "--json").stdout)
    assert report.keys() == {"ok", "findings"}
    assert report["ok"] is True
    for finding in report["findings"]:
        assert finding.keys() == {"section", "name", "status", "detail", "remedy"}
        assert finding["section"] in SECTIONS
        assert finding["status"] in ("ok", "missing", "warning", "error")
    assert {finding["section"] for finding in report["findings"]} == set(SECTIONS)


def test_a_runtime_that_is_not_installed_says_why(tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    done = onpace("doctor", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0
    assert re.search(
        r"tensorrt +missing +tensorrt is installed but does not load: libnvinfer\.so\.10: cannot open", done.stdout
    )


def test_doctor_fails_where_no_runtime_works(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('broken')")
    done = onpace("doctor", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert re.search(r'runtimes +cpu +error +broken\. pip install "onnxruntime', done.stdout)


def test_both_builds_of_onnxruntime_are_an_error_with_the_commands_that_mend_it(tmp_path: Path) -> None:
    for build in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / f"{build}-1.31.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {build.replace('_', '-')}\nVersion: 1.31.1\n")
    report = json.loads(onpace("doctor", "--json", PYTHONPATH=str(tmp_path)).stdout)
    (finding,) = (finding for finding in report["findings"] if finding["name"] == "onnxruntime, onnxruntime-gpu")
    assert finding["status"] == "error"
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install" in finding["remedy"]


def test_the_packages_are_those_of_pyproject() -> None:
    text = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [")[2].partition("\n]")[0]
    assert set(re.findall(r'^  "([A-Za-z0-9-]+)', text, re.MULTILINE)) == set(PACKAGES)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "50000",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
        ({}, None),
    ],
)
def test_cores_are_those_that_the_container_allows(tmp_path: Path, files: dict[str, str], cores: float | None) -> None:
    _write(tmp_path, files)
    assert cpu_quota(tmp_path) == cores


def test_memory_is_what_the_container_allows(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": str(256 << 20),
            "proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n",
        },
    )
    assert memory_limit(tmp_path) == 256 << 20
    (memory,) = (finding for finding in examine_machine(tmp_path) if finding.name == "memory")
    assert memory.status == "warning"
    assert "the container's limit is 0.2 GiB" in memory.detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_camera_that_may_not_be_opened_names_the_remedy(tmp_path: Path) -> None:
    _write(tmp_path, {"dev/video0": ""})
    (tmp_path / "dev/video0").chmod(0)
    (camera,) = (finding for finding in examine_machine(tmp_path) if finding.section == "cameras")
    assert camera.status == "error"
    assert camera.remedy is not None
    assert "usermod -aG video" in camera.remedy


def test_fast_integer_instructions_are_named(tmp_path: Path) -> None:
    _write(tmp_path, {"proc/cpuinfo": "flags : fpu avx2 avx512_vnni\n"})
    (flags,) = (finding for finding in examine_machine(tmp_path) if finding.name == "instructions")
    assert flags.detail == "avx2, avx512_vnni; INT8 is fast"


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.cuda
def test_nvdec_is_found_with_what_it_decodes() -> None:
    found = nvdec()
    assert found.status == "ok", found
    assert "h264" in found.detail
    assert "hevc" in found.detail


def test_where_video_is_decoded_on_the_cpu_the_reason_is_said() -> None:
    found = nvdec()
    if found.status == "ok":
        pytest.skip("this machine decodes on its GPU")
    assert found.status == "missing"
    assert re.match(r"video is decoded on the CPU: .{20}", found.detail)
