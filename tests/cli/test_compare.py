"""``onpace compare``: one table, whatever can run here, and a reason for the rest."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from engines.inspect_model import read_model_spec
from engines.precision.typed_model import typed_model
from pipeline.comparing.report import COLUMNS, as_markdown, as_table, in_pictures
from pipeline.comparing.row import Figures, Row, Task
from pipeline.comparing.rows import measure_rows
from pipeline.samples import find_sample
from samples.label_clip import write_dataset
from tests.cli.onpace_command import ROOT, onpace
from tests.helpers.conv_onnx import conv_detector

QUICK = ("--rounds", "2", "--seconds", "0.05", "--batches", "1,2", "--threads", "1")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return conv_detector(tmp_path / "conv.onnx", dynamic_batch=True)


def test_rows_hold_what_a_precision_costs_and_the_page_names_every_key(model, tmp_path):
    done = onpace(
        "compare", model, "--runtimes", "cpu", "--precisions", "fp32,fp16,int8", "--calibration", "sample:street.mp4",
        "--calibration-pictures", "2", *QUICK, "--json", "--markdown", tmp_path / "table.md",
        "--chart", tmp_path / "chart.png", ONPACE_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    rows = {row["precision"]: row for row in report["rows"]}
    assert list(rows) == ["fp32", "fp16", "int8"]
    for row in rows.values():
        assert (row["status"], row["why"], row["gpu_bytes"]) == ("ok", "", None)
        assert [figures["batch"] for figures in row["batches"]] == [1, 2]
        for figures in row["batches"]:
            assert figures["runs"] >= 10
            assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p95"] <= figures["latency_ms"]["p99"]
            assert figures["fps"] > 0
        assert row["host_bytes"] > 30e6
    assert rows["fp32"]["build_seconds"] == 0 < rows["int8"]["build_seconds"]
    assert rows["fp16"]["file_bytes"] < rows["fp32"]["file_bytes"]
    page = (ROOT / "docs" / "commands.md").read_text().split("\n## `onpace compare")[1].split("\n## ")[0]
    assert set(report) | set(report["rows"][0]) <= set(re.findall(r"`(\w+)`", page))
    assert report["calibration"] == {"sources": ["sample:street.mp4"], "pictures": 2, "method": "percentile"}
    assert set(report["calibration"]) <= set(re.findall(r"`(\w+)`", page))
    title, _, header, _, *lines = (tmp_path / "table.md").read_text().splitlines()
    assert title.startswith("conv 64x64 on ")
    assert title.endswith(", calibrated on up to 2 pictures by percentile")
    assert header == f"| {' | '.join(COLUMNS)} |"
    assert len([line for line in lines if line.startswith("| cpu")]) == 3
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_missing_is_a_row_that_says_why(model, tmp_path):
    done = onpace("compare", model, "--runtimes", "cpu", *QUICK, ONPACE_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert "cpu int8: missing. int8 takes its ranges from pictures" in " ".join(done.stdout.split())


def test_pictures_are_not_asked_for_where_they_would_not_help(model):
    done = onpace("compare", model, "--runtimes", "cpu", "--precisions", "fp8", *QUICK, "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert row["status"] == "missing"
    assert row["why"].startswith("runtime 'cpu' runs no fp8. Allowed there: fp32, fp16, int8")


def test_a_row_whose_process_is_killed_is_told_and_the_others_are_measured(model):
    def kill_the_first(said):
        if said.startswith("round 2"):
            workers = [one for one in psutil.Process().children() if "pipeline.comparing.worker" in one.cmdline()]
            min(workers, key=psutil.Process.create_time).kill()

    tasks = [Task(str(model), {}, "cpu", precision, [], 4, "percentile", [1], 1) for precision in ("fp32", "fp16")]
    killed, other = measure_rows(tasks, rounds=2, seconds=0.05, dataset="nobody gets so far", say=kill_the_first)
    assert (killed.status, len(killed.batches)) == ("failed", 1)
    assert "ended with exit code -9" in killed.why
    assert len(other.batches) == 1


def test_a_model_that_cannot_be_typed_fails_its_rows_only(model, tmp_path):
    half = typed_model(model, read_model_spec(model), "fp16", None, tmp_path / "half.onnx").path
    done = onpace("compare", half, "--runtimes", "cpu", "--precisions", "fp32,fp16", *QUICK, "--json")
    assert done.returncode == 1
    rows = json.loads(done.stdout)["rows"]
    assert [(row["precision"], row["status"]) for row in rows] == [("fp32", "failed"), ("fp16", "failed")]
    assert all("is fp16 already" in row["why"] for row in rows)


def test_a_model_that_is_typed_already_is_run_as_it_is_and_called_what_it_is(tmp_path):
    pytest.importorskip("pycocotools")
    write_dataset(tmp_path / "street", every=120)
    model = find_sample("street.onnx")
    half = typed_model(model, read_model_spec(model), "fp16", None, tmp_path / "half.onnx").path
    done = onpace("compare", half, "--runtimes", "cpu", "--dataset", tmp_path / "street", *QUICK, "--json")
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["precision"], row["status"], row["why"]) == ("fp16", "ok", "")
    assert (row["build_seconds"], row["file_bytes"]) == (0.0, half.stat().st_size)
    assert (row["ap"] > 0.5, row["ap_loss"]) == (True, 0.0)


def test_what_is_lost_is_told_without_a_row_of_what_it_is_lost_against(tmp_path):
    pytest.importorskip("pycocotools")
    write_dataset(tmp_path / "street", every=120)
    done = onpace(
        "compare", "sample:street.onnx", "--runtimes", "cpu", "--precisions", "int8", "--calibration",
        "sample:street.mp4", "--dataset", tmp_path / "street", *QUICK, "--json", ONPACE_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    (row,) = json.loads(done.stdout)["rows"]
    assert 0.5 < row["ap"] < 1.0
    assert 100 * row["ap"] + row["ap_loss"] == pytest.approx(68.5, abs=8.0), "of fp32 on the CPU, on a few frames"
    assert row["ap_loss"] != 0.0


def test_a_title_tells_of_calibration_only_where_a_calibrated_row_was_measured(model, tmp_path):
    clip = tmp_path / "token=secret.mp4"
    clip.symlink_to(find_sample("street.mp4"))
    for precisions, takes_it in (("fp32", False), ("fp32,fp8", True)):
        done = onpace(
            "compare", model, "--runtimes", "cpu", "--precisions", precisions, "--calibration", clip, *QUICK,
            "--json", "--markdown", tmp_path / "table.md", ONPACE_CACHE=str(tmp_path / "cache"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (json.loads(done.stdout)["calibration"] is not None) == takes_it
        assert "secret" not in done.stdout
        assert "calibrated" not in (tmp_path / "table.md").read_text().splitlines()[0]


def measured(runtime, precision, **more):
    """Return a row with figures as long as they get."""
    figures = [
        Figures(1, 50, {"p50": 99.991, "p95": 123.456, "p99": 987.654}, 12_345.67),
        Figures(128, 50, {"p50": 99.996, "p95": 1234.56, "p99": 9876.54}, 23_456.78),
    ]
    sizes = {"host_bytes": 4321 << 20, "file_bytes": 987 << 20, "build_seconds": 1234.5}
    return Row(runtime, precision, batches=figures, best_batch=128, **{**sizes, **more})


def shown(rows):
    console = Console(width=80)
    with console.capture() as printed:
        console.print(as_table(rows))
    return printed.get().splitlines()


def said_by(rows):
    return " ".join(" ".join(shown(rows)).split())


MISSING = Row("cuda", "int8", "missing", "no GPU")
LOSS = {"ap": 0.512, "ap_loss": -12.34}


@pytest.mark.parametrize(
    "row", [measured("cpu", "fp16", **LOSS), measured("tensorrt", "bf16", gpu_bytes=6543 << 20, **LOSS)]
)
def test_every_cell_is_whole_at_80_columns(row):
    lines = shown([row, MISSING])
    cells = [line.strip("| ").split(" | ") for line in as_markdown([row]).splitlines()[2:]]
    assert [line.split() for line in lines[2:4]] == [
        [cell for cell in (text.strip() for text in texts) if cell not in ("", "-")] for texts in cells
    ]
    assert lines[0].split()[-3:] == ["build", "AP", "lost"]
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(lines)


def test_the_table_leaves_out_what_would_be_empty_and_markdown_does_not():
    rows = [measured("cpu", "fp32"), measured("cpu", "int8"), MISSING]
    heading, *lines = shown(rows)
    assert heading.split() == ["runtime", "type", "batch", "p50", "p95", "p99", "fps", "host", "file", "build"]
    assert not any("missing" in line or "GPU" in line or "lost" in line for line in lines)
    assert "| cuda | int8 | missing | - |" in as_markdown(rows)


def test_the_caption_tells_what_the_two_lines_of_a_row_are():
    row = measured("cpu", "fp32")
    assert "first line: one picture; second: the batch with the most pictures a second" in said_by([row])
    row.batches[0].batch = 4
    assert "first line: the smallest batch; second: " in said_by([row])
    del row.batches[0]
    assert "first line" not in said_by([row])


def test_a_table_of_nothing_measured_tells_the_status_under_batch():
    heading, _, line, *_ = shown([MISSING])
    assert heading.split()[2] == "batch"
    assert line.split()[:4] == ["cuda", "int8", "missing", "-"]


def test_a_chart_tells_rates_in_whole_pictures():
    assert [in_pictures(rate) for rate in (85_885.6, 1256.8, 99.87, 7.123)] == ["85,886", "1,257", "99.9", "7.12"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--markdown", "nowhere/table.md"], "the folder nowhere does not exist"),
        (["--markdown", "."], "is a folder. Name a file"),
        (["--runtimes", "tpu"], "--runtimes tpu: allowed are"),
        (["--precisions", "fp12"], "--precisions fp12: allowed are fp32"),
        (["--batches", "1,0"], "--batches 1,0: allowed are"),
        (["--chart", "chart.svg"], "must end in .png"),
        (["--dataset", "nowhere"], "dataset nowhere"),
        (["--calibration", "rtsp://camera/1"], "Record a camera first"),
    ],
)
def test_bad_options_are_told_before_anything_is_measured(model, options, said):
    done = onpace("compare", model, *options)
    assert done.returncode == 2
    assert said in done.stderr
