"""From a canvas in plain daylight to what a camera's sensor gives at that hour: grading, lamps, lens and noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .backdrop import Backdrop
from .drawing import SUPERSAMPLE, Glow, Light
from .street import Pixels

_HOURS = (0.0, 0.3, 0.55, 0.8, 1.0)
_TINTS = (  # gain of red, green and blue at each hour
    (1.02, 1.01, 0.98),
    (1.06, 0.98, 0.86),
    (0.96, 0.78, 0.66),
    (0.54, 0.50, 0.56),
    (0.34, 0.36, 0.46),
)


def develop(
    canvas: Pixels,
    ids: NDArray[np.uint16],
    backdrop: Backdrop,
    light: Light,
    glows: list[tuple[Glow, int]],
    rng: np.random.Generator,
) -> Pixels:
    """The frame ``[H, W, 3]`` RGB from a canvas ``[2H, 2W, 3]`` and which object each of its pixels shows."""
    size = (backdrop.camera.width, backdrop.camera.height)
    image = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    covered = cv2.resize((ids > 0).astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
    open_view = (255 - covered.astype(np.float32)) / 255
    tint = np.array([np.interp(light.dusk, _HOURS, [t[c] for t in _TINTS]) for c in range(3)], np.float32)
    image *= tint * (1 - 0.12 * light.overcast)
    sky = (backdrop.sky.astype(np.float32) / 255 * open_view)[..., None]
    image += sky * (backdrop.sky_colours(light.dusk, light.overcast) - image)
    if light.lamps > 0:
        image *= 1 + light.lamps * backdrop.pools[..., None] * np.array([0.8, 0.68, 0.45], np.float32)
        image += (0.6 * light.lamps) * backdrop.windows * open_view[..., None]
        image += light.lamps * _glow_layer(glows, ids, size)
    image = _lens(image)
    return _noise(image, light, rng)


def _glow_layer(glows: list[tuple[Glow, int]], ids: NDArray[np.uint16], size: tuple[int, int]) -> NDArray[np.float32]:
    """Lights that nothing hides, with their halo, ``[H, W, 3]``."""
    layer = np.zeros((size[1], size[0], 3), np.float32)
    for glow, number in glows:
        x, y = glow.centre
        column, row = int(x * SUPERSAMPLE), int(y * SUPERSAMPLE)
        if 0 <= column < ids.shape[1] and 0 <= row < ids.shape[0] and ids[row, column] == number:
            centre = (round(x * 8), round(y * 8))
            cv2.circle(layer, centre, max(round(glow.radius_px * 8), 6), glow.colour, -1, cv2.LINE_AA, 3)
    return layer + 1.6 * cv2.GaussianBlur(layer, (0, 0), 3) + 1.2 * cv2.GaussianBlur(layer, (0, 0), 9)


def _lens(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """A little softness and darker corners."""
    height, width = image.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    image = cv2.GaussianBlur(image, (0, 0), 0.45)
    return image * (1 - 0.09 * (x * x + y * y))[..., None]


def _noise(image: NDArray[np.float32], light: Light, rng: np.random.Generator) -> Pixels:
    """Shot and read noise, more of it in the dark, partly shared by the channels; then 8 bits."""
    height, width = image.shape[:2]
    gain = 0.8 + 1.2 * light.dusk
    shared = rng.standard_normal((height, width, 1), dtype=np.float32)
    coloured = cv2.resize(rng.standard_normal((height // 2, width // 2, 3), dtype=np.float32), (width, height))
    deviation = gain * np.sqrt(0.8 + 0.012 * np.maximum(image, 0))
    image = image + deviation * (shared + 0.5 * coloured)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
