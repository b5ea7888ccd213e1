"""Labelled pictures: a folder with COCO JSON, or with YOLO labels (one ``.txt`` a picture)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.source.address import PICTURE_SUFFIXES


@dataclass(frozen=True, slots=True)
class Label:
    """One object of a picture."""

    class_id: int
    """Index into the dataset's class names."""
    xywh: tuple[float, float, float, float]
    """Left, top, width, height; in pixels, or in parts of the picture where ``LabelledPicture.relative``."""
    area: float | None = None
    """In square pixels, as the dataset says it; None takes the box's."""
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture file and what is in it."""

    path: Path
    labels: tuple[Label, ...]
    relative: bool = False


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled pictures and the names of their classes (empty where only numbers are known)."""

    pictures: tuple[LabelledPicture, ...]
    class_names: tuple[str, ...] = field(default=())


def read_dataset(path: Path) -> Dataset:
    """Return the dataset at ``path``: a COCO JSON file, or a folder that holds one or YOLO labels.

    In a folder, pictures are in ``images/`` or in the folder itself, YOLO labels in ``labels/`` or beside them. Raises
    InputError where nothing fits.
    """
    if path.is_file():
        return _read_coco(path, _picture_folder(path.parent))
    if not path.is_dir():
        raise InputError(f"dataset {path}: no such file or folder. Give a COCO JSON file, or a folder of pictures.")
    found = [file for file in sorted(path.glob("*.json")) if _is_coco(file)]
    if len(found) > 1:
        raise InputError(
            f"dataset {path}: holds {len(found)} COCO JSON files ({found[0].name}, ...). Name one of them."
        )
    return _read_coco(found[0], _picture_folder(path)) if found else _read_yolo(path)


def _picture_folder(folder: Path) -> Path:
    return folder / "images" if (folder / "images").is_dir() else folder


def _is_coco(file: Path) -> bool:
    with file.open("rb") as opened:
        return b"{" in opened.read(64) and {"images", "annotations", "categories"} <= _load(file).keys()


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"dataset {file}: cannot be read as JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def _read_coco(file: Path, folder: Path) -> Dataset:
    content = _load(file)
    try:
        categories = sorted(content["categories"], key=lambda entry: int(entry["id"]))
        class_ids = {int(entry["id"]): index for index, entry in enumerate(categories)}
        labels: dict[Any, list[Label]] = {entry["id"]: [] for entry in content["images"]}
        for entry in content["annotations"]:
            x, y, width, height = (float(value) for value in entry["bbox"])
            crowd = bool(entry.get("iscrowd", 0))
            label = Label(class_ids[entry["category_id"]], (x, y, width, height), entry.get("area"), crowd)
            labels[entry["image_id"]].append(label)
        pictures = [
            LabelledPicture(folder / entry["file_name"], tuple(labels[entry["id"]])) for entry in content["images"]
        ]
        names = tuple(str(entry["name"]) for entry in categories)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"dataset {file}: is not COCO detection JSON: {type(error).__name__} {error}") from error
    if not any(picture.labels for picture in pictures):
        raise InputError(f"dataset {file}: holds {len(pictures)} pictures and no annotations: nothing to measure by.")
    return _checked(Dataset(tuple(pictures), names), file)


def _read_yolo(folder: Path) -> Dataset:
    picture_folder = _picture_folder(folder)
    label_folder = folder / "labels" if (folder / "labels").is_dir() else picture_folder
    pictures = []
    for path in sorted(picture_folder.iterdir()):
        if path.suffix.lower() in PICTURE_SUFFIXES:
            labels = label_folder / f"{path.stem}.txt"
            pictures.append(LabelledPicture(path, _read_label_file(labels), relative=True))
    if not any(picture.labels for picture in pictures):
        raise InputError(
            f"dataset {folder}: holds {len(pictures)} pictures and no labels. Needed: a COCO JSON file in it, or YOLO "
            "labels (labels/NAME.txt with lines 'class x y width height', 0-1)."
        )
    return _checked(Dataset(tuple(pictures)), folder)


def _read_label_file(file: Path) -> tuple[Label, ...]:
    """Return the labels of one picture; none where the file is absent, as the YOLO convention has it."""
    if not file.is_file():
        return ()
    labels = []
    try:
        text = file.read_text(encoding="utf-8")
    except ValueError:
        raise InputError(f"{file}: is no text. Allowed: lines of class x y width height (0-1).") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            class_id, x, y, width, height = (float(part) for part in line.split())
            if not (class_id >= 0 and class_id.is_integer() and 0 < width <= 1 and 0 < height <= 1):
                raise ValueError
            if not (-1 < x < 2 and -1 < y < 2):  # a box may reach beyond the edge a little, pixels are far off
                raise ValueError
        except ValueError:
            raise InputError(f"{file}:{number}: got '{line}'. Allowed: class x y width height (0-1).") from None
        labels.append(Label(int(class_id), (x - width / 2, y - height / 2, width, height)))
    return tuple(labels)


def _checked(dataset: Dataset, where: Path) -> Dataset:
    missing = [picture.path for picture in dataset.pictures if not picture.path.is_file()]
    if missing:
        raise InputError(f"dataset {where}: {len(missing)} of its pictures are missing, first {missing[0]}.")
    if not dataset.pictures:
        raise InputError(f"dataset {where}: holds no pictures.")
    return dataset


def boxes_of(picture: LabelledPicture, width: int, height: int) -> NDArray[np.float64]:
    """Return left, top, width, height in pixels, float64 ``[N, 4]``, for a picture of ``width x height``."""
    boxes = np.array([label.xywh for label in picture.labels], np.float64).reshape(-1, 4)
    return boxes * np.array([width, height, width, height]) if picture.relative else boxes
