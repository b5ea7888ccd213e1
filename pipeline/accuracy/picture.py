"""Picture files as frames, and a model's input tensor as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.model_spec import ModelSpec
from pipeline.clock import monotonic
from pipeline.decode.decoder import LARGEST_PICTURE, CorruptPacketError, Picture
from pipeline.decode.image import ImageDecoder
from pipeline.detections import FloatArray, IntArray
from pipeline.errors import InputError
from pipeline.frame import Frame, Size, StreamInfo
from pipeline.source.pace import packet_read_now

Pixels = NDArray[np.uint8]

_LETTER_SCALE = 0.42


def read_picture(path: Path, index: int = 0) -> Frame:
    """Return the picture in ``path`` as the product decodes it. Raises InputError for what is no picture."""
    decoder = ImageDecoder(StreamInfo("image", False, "image", Size(0, 0), None), 1, LARGEST_PICTURE)
    try:
        picture = decoder.decode(packet_read_now(path.read_bytes(), float(index)))[0]
    except (OSError, CorruptPacketError) as error:
        raise InputError(f"picture {path}: {error}.") from error
    finally:
        decoder.close()
    return frame_of(picture, path.stem, index)


def frame_of(picture: Picture, stream_id: str, index: int) -> Frame:
    """Return a decoded picture as a frame of its own, outside any stream."""
    packet = picture.packet
    return Frame(
        stream_id=stream_id,
        epoch=0,
        index=index,
        planes=picture.planes,
        colour=picture.colour,
        rotation=picture.rotation,
        pts_seconds=float(index),
        received_at=packet.received_at,
        captured_at=packet.captured_at,
        capture_utc=packet.capture_utc,
        capture_clock=packet.capture_clock,
        decoded_at=monotonic(),
        damaged=picture.damaged,
        owner=picture.owner,
    )


def tensor_to_picture(tensor: NDArray[Any], spec: ModelSpec) -> Pixels:
    """Return a model's input ``[3, H, W]`` as BGR uint8 ``[H, W, 3]``: its first channel as the spec's first colour."""
    shape = (3, 1, 1)
    deviation = np.array(spec.pixels.deviation, np.float32).reshape(shape)
    mean = np.array(spec.pixels.mean, np.float32).reshape(shape)
    values = (tensor.astype(np.float32) * deviation + mean) / spec.pixels.scale
    picture = np.clip(np.rint(values), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(picture[..., ::-1] if spec.pixels.order == "rgb" else picture)


def draw_boxes(
    picture: Pixels, xyxy: FloatArray, scores: FloatArray, class_ids: IntArray, names: tuple[str, ...]
) -> None:
    """Draw boxes, in pixels of ``picture``, with their names and scores."""
    for (left, top, right, bottom), score, class_id in zip(
        xyxy.round().astype(int).tolist(), scores.tolist(), class_ids.tolist(), strict=True
    ):
        # Hues a golden angle apart: neighbouring class ids are easy to tell apart.
        hue = np.array([[[int(class_id * 68.75) % 180, 220, 255]]], np.uint8)
        colour = tuple(int(part) for part in cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0])
        cv2.rectangle(picture, (left, top), (right, bottom), colour, 2)
        name = names[class_id] if class_id < len(names) else str(class_id)
        write(picture, f"{name} {score:.2f}", (left + 3, max(12, top - 4)), colour)


def write(picture: Pixels, text: str, at: tuple[int, int], colour: tuple[int, ...] = (255, 255, 255)) -> None:
    """Write ``text`` on a dark ground, its baseline's start ``at`` x, y."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _LETTER_SCALE, 1)
    x, y = at
    cv2.rectangle(picture, (x - 2, y - height - 2), (x + width + 2, y + below), (0, 0, 0), cv2.FILLED)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, _LETTER_SCALE, colour, 1, cv2.LINE_AA)
