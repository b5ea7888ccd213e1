"""One picture as a model gets it, with what it finds, in both colour orders: what ``onpace describe --image`` draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from engines.model_spec import ModelSpec
from engines.runtime import RuntimeOptions, Slot, open_runtime
from pipeline.accuracy.picture import Pixels, draw_boxes, read_picture, tensor_to_picture, write
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.postprocess.head import open_head
from pipeline.postprocess.postprocess import Postprocess
from pipeline.preprocess.host import HostPreprocess


@dataclass(frozen=True, slots=True)
class OrderLook:
    """What is found with the channels in one order."""

    order: str
    objects: int
    best_score: float
    mean_score: float


@dataclass(frozen=True, slots=True)
class Look:
    """What was drawn."""

    file: Path
    drawn: Path
    orders: tuple[OrderLook, ...]
    """The stated order, then the other one."""


def look_at(model: Path, spec: ModelSpec, picture: Path, drawn: Path, *, runtime: str, score_threshold: float) -> Look:
    """Draw ``picture`` into the PNG ``drawn``. Raises InputError for what is no picture or cannot be written."""
    frame = read_picture(picture)
    pixels = spec.pixels
    other = replace(
        pixels,
        order="bgr" if pixels.order == "rgb" else "rgb",
        mean=pixels.mean[::-1],
        deviation=pixels.deviation[::-1],
    )
    panels, orders = [], []
    with open_runtime(runtime, model, spec, RuntimeOptions(prefer="latency")) as opened:
        for variant in (spec, replace(spec, pixels=other)):
            panel, order = _panel(opened.slots[0], variant, spec, frame, score_threshold)
            panels.append(panel)
            orders.append(order)
    sheet = np.concatenate([panels[0], np.zeros((panels[0].shape[0], 4, 3), np.uint8), panels[1]], axis=1)
    encoded, data = cv2.imencode(".png", sheet)
    try:
        drawn.write_bytes(data.tobytes() if encoded else b"")
    except OSError as error:
        raise InputError(f"--output {drawn}: cannot be written: {error.strerror or error}.") from error
    return Look(picture, drawn, tuple(orders))


def _panel(
    slot: Slot, spec: ModelSpec, stated: ModelSpec, frame: Frame, score_threshold: float
) -> tuple[Pixels, OrderLook]:
    geometry = HostPreprocess(spec, slot.input)(frame, 0)
    seen = slot.input[0].copy()
    postprocess = Postprocess(
        spec, open_head(spec), score_threshold=score_threshold, iou_threshold=0.5, max_detections=300
    )
    found = postprocess(slot.run(1), 0, geometry)
    # Drawn in the stated order both times, so that the swapped colours are seen.
    panel = tensor_to_picture(seen, stated)
    draw_boxes(panel, geometry.to_target(found.xyxy), found.scores, found.class_ids, spec.class_names)
    scores = found.scores
    best, mean = (float(scores.max()), float(scores.mean())) if len(scores) else (0.0, 0.0)
    write(panel, f"{spec.pixels.order}: {len(found)} objects, best {best:.2f}, mean {mean:.2f}", (6, 16))
    return panel, OrderLook(spec.pixels.order, len(found), round(best, 4), round(mean, 4))
