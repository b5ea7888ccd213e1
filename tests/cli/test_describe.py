from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.onpace_command import onpace
from tests.helpers.tiny_onnx import colour_detector, do_nothing_detector

KEYS = {"name", "file", "sha256", "family", "has_nms", "input", "size_input", "width", "height", "max_batch"}
KEYS |= {"outputs", "class_names", "pixels", "head_options", "origins", "image"}


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    return colour_detector(tmp_path / "colours.onnx", (320, 256))


def test_facts_are_shown_with_where_they_came_from(colours: Path) -> None:
    done = onpace("describe", colours)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["family", "yolov8", "from", "shape"] in lines
    assert ["classes", "4:", "red,", "green,", "blue,", "white", "from", "metadata"] in lines
    assert ["size", "320x256", "from", "shape"] in lines
    assert ["colours", "RGB", "from", "default"] in lines


def test_json_has_the_documented_keys_and_stated_facts(colours: Path) -> None:
    done = onpace("describe", colours, "--json", "--set", "pixels.order=bgr", "--set", "pixels.mean=[1, 2, 3]")
    report = json.loads(done.stdout)
    assert set(report) == KEYS
    assert report["family"] == "yolov8"
    assert report["input"] == {"name": "images", "dtype": "float32", "shape": [None, 3, 256, 320]}
    assert (report["pixels"]["order"], report["pixels"]["mean"]) == ("bgr", [1.0, 2.0, 3.0])
    assert report["origins"]["pixels.order"] == "override"
    assert report["image"] is None


def test_picture_is_drawn_in_both_colour_orders(colours: Path, tmp_path: Path) -> None:
    picture = np.zeros((128, 320, 3), np.uint8)
    picture[32:96, 40:120] = (0, 0, 255)  # red, as OpenCV writes it
    picture[32:96, 200:280] = 255
    cv2.imwrite(str(tmp_path / "street.png"), picture)
    drawn = tmp_path / "out.png"
    done = onpace("describe", colours, "--image", tmp_path / "street.png", "--output", drawn, "--json")
    assert done.returncode == 0, done.stderr
    stated, swapped = json.loads(done.stdout)["image"]["orders"]
    assert (stated["order"], stated["objects"], stated["best_score"]) == ("rgb", 2, 0.9)
    assert (swapped["order"], swapped["objects"]) == ("bgr", 2)
    sheet = cv2.imread(str(drawn))
    assert sheet.shape == (256, 2 * 320 + 4, 3)
    assert sheet[128, 80].argmax() == 2  # red stays red in the stated order
    assert sheet[128, 324 + 80].argmax() == 0  # and is taken for blue in the other
    assert sheet[20, 300].tolist() == [114, 114, 114]  # the letterbox's grey


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gone.onnx"], "No such file"),
        (["m.onnx", "--set", "pixels"], "must be key=value"),
        (["m.onnx", "--set", "pixels.oder=bgr"], "oder: unknown key. Did you mean order?"),
        (["m.onnx", "--set", "classes=[a, b]"], "but 2 are named"),
        (["m.onnx", "--image", "m.onnx"], "not a picture"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    do_nothing_detector(tmp_path / "m.onnx", (96, 96))
    done = onpace("describe", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
