"""A clip of coloured boxes that move, for the colour detector of ``tiny_onnx``: who is who is plain to see."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

SIZE = 320
BOX = 60
RED, BLUE = (255, 0, 0), (0, 0, 255)


def moving_boxes(path: Path, frames: int = 50, fps: int = 25) -> Path:
    """Write a clip of 320x320: a red box goes right while a blue one below it goes left; both stay in the picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10"})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
            x = 2 * round(index / (frames - 1) * (SIZE - BOX) / 2)
            pixels[40 : 40 + BOX, x : x + BOX] = RED
            pixels[200 : 200 + BOX, SIZE - BOX - x : SIZE - x] = BLUE
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode(None))
    return path
