from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.onpace_command import onpace
from tests.helpers.tiny_onnx import colour_detector

pytest.importorskip("pycocotools")

BGR = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0), "white": (255, 255, 255)}
SCENES = (  # one box a colour: x, y, width, height in a 320x256 picture
    {"red": (40, 32, 80, 64), "white": (200, 100, 60, 80)},
    {"green": (100, 60, 90, 90), "blue": (220, 150, 64, 64)},
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return colour_detector(tmp_path / "colours.onnx", (320, 256))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """The same two pictures with COCO JSON and with YOLO labels; the JSON numbers its classes otherwise."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    categories = [
        {"id": 10 * (place + 1), "name": name} for place, name in enumerate(("white", "blue", "green", "red"))
    ]
    ids = {entry["name"]: entry["id"] for entry in categories}
    images, annotations = [], []
    for index, scene in enumerate(SCENES):
        picture = np.zeros((256, 320, 3), np.uint8)
        lines = []
        for name, (x, y, w, h) in scene.items():
            picture[y : y + h, x : x + w] = BGR[name]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": index, "category_id": ids[name], "bbox": [x, y, w, h]}
            )
            place = list(BGR).index(name)
            lines.append(f"{place} {(x + w / 2) / 320} {(y + h / 2) / 256} {w / 320} {h / 256}")
        cv2.imwrite(str(folder / "images" / f"{index}.png"), picture)
        (folder / "labels" / f"{index}.txt").write_text("\n".join(lines))
        images.append({"id": index, "file_name": f"{index}.png", "width": 320, "height": 256})
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("labels", ["coco", "yolo"])
def test_perfect_detector_has_ap_1_with_either_kind_of_labels(model: Path, dataset: Path, labels: str) -> None:
    if labels == "yolo":
        (dataset / "boxes.json").unlink()
    done = onpace("eval", model, dataset, "--json", "--per-class")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    measured = {"pictures", "objects", "seconds", "ap", "ap50", "ap_loss", "classes"}
    assert set(report) == {"model", "precision", "dataset", "runtime"} | measured
    assert (report["pictures"], report["objects"], report["ap"], report["ap50"]) == (2, 4, 1.0, 1.0)
    assert {row["name"] for row in report["classes"]} == set(BGR)


def test_wrong_colour_order_costs_the_classes_it_confuses(model: Path, dataset: Path) -> None:
    done = onpace("eval", model, dataset, "--json", "--set", "pixels.order=bgr")
    assert json.loads(done.stdout)["ap50"] == 0.5  # red and blue are taken for each other, green and white are not


def test_detector_that_finds_nothing_has_ap_0(model: Path, dataset: Path) -> None:
    done = onpace("eval", model, dataset, "--json", "--set", "pixels.scale=0.0001")
    assert json.loads(done.stdout)["ap"] == 0.0


def test_plain_output_ends_with_the_numbers(model: Path, dataset: Path) -> None:
    done = onpace("eval", model, dataset, "--limit", "1")
    assert done.stdout.splitlines()[-1] == "AP 1.000  AP50 1.000"
    assert "1 pictures, 2 objects" in done.stdout


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: (folder / "images" / "1.png").unlink(), "1 of its pictures are missing"),
        (
            lambda folder: (folder / "boxes.json").write_text('{"images": 1, "annotations": [], "categories": []}'),
            "is not",
        ),
        (lambda folder: (folder / "more.json").write_bytes((folder / "boxes.json").read_bytes()), "Name one of them"),
        (lambda folder: (folder / "images" / "0.png").write_bytes(b"no picture"), "not a picture"),
        (
            lambda folder: (folder / "boxes.json").write_text(
                json.dumps({**json.loads((folder / "boxes.json").read_text()), "annotations": []})
            ),
            "no annotations",
        ),
        *(
            (lambda folder, line=line: _relabelled(folder, line), "class x y width height (0-1)")
            for line in ("0 249 199 24 78", "0 0.5 0.5 nan 0.1", "-1 0.5 0.5 0.1 0.1", "1.5 0.5 0.5 0.1 0.1", "\udcff")
        ),
    ],
)
def test_broken_dataset_is_one_message_and_exit_code_2(model: Path, dataset: Path, break_it, said: str) -> None:
    break_it(dataset)
    done = onpace("eval", model, dataset)
    assert done.returncode == 2
    assert said in done.stderr


def _relabelled(folder: Path, line: str) -> None:
    (folder / "boxes.json").unlink()
    (folder / "labels" / "0.txt").write_bytes(line.encode("utf-8", "surrogateescape"))


def test_model_and_dataset_without_a_common_class_are_refused(model: Path, dataset: Path) -> None:
    done = onpace("eval", model, dataset, "--set", "classes=[cat, dog, cow, hen]")
    assert done.returncode == 2
    assert "share no class name" in done.stderr
