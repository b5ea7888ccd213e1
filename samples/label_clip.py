"""Write frames of the demo's clip with their labels as a dataset that ``onpace eval`` and ``onpace compare`` take.

    python samples/label_clip.py FOLDER [--every 5]

FOLDER gets ``images/*.png`` and ``instances.json`` (COCO). What the truth says to ignore is a crowd in it, which
absorbs detections and is never missed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import av
import cv2

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Read the command line, write the dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=5, help="take every so many frames")
    arguments = parser.parse_args()
    count = write_dataset(arguments.folder, arguments.every)
    print(f"{count} pictures in {arguments.folder}")


def write_dataset(folder: Path, every: int) -> int:
    """Write every ``every``-th frame and its labels to ``folder``; return how many there are."""
    truth = json.loads((HERE / "street_truth.json").read_text())
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with av.open(str(HERE / "street.mp4")) as clip:
        for frame, labelled in zip(clip.decode(video=0), truth["frames"], strict=False):
            number = labelled["frame"]
            if number % every:
                continue
            name = f"{number:04}.png"
            cv2.imwrite(str(folder / "images" / name), frame.to_ndarray(format="bgr24"))
            images.append({"id": number, "file_name": name, "width": truth["width"], "height": truth["height"]})
            annotations += [_annotation(thing, number) for thing in labelled["objects"]]
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    categories = [{"id": number, "name": name} for number, name in enumerate(truth["classes"])]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return len(images)


def _annotation(thing: dict[str, Any], image_id: int) -> dict[str, Any]:
    left, top, right, bottom = thing["xyxy"]
    width, height = right - left, bottom - top
    return {
        "image_id": image_id,
        "category_id": thing["class_id"],
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": int(thing["ignore"]),
    }


if __name__ == "__main__":
    main()
