"""Pictures as NVDEC leaves them, made from planes on the host, and the letterbox kernel run on the host over them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from engines.model_spec import ModelSpec
from pipeline.frame import Frame, Size
from pipeline.letterbox import Letterbox
from pipeline.preprocess.device import LAYOUTS, PICTURE, axis_table, describe_picture, pixel_constants
from tests.helpers.host_kernels import host_kernels


def interleaved(planes, *, pitch_padding=0, wide=False):
    """Return luma and chroma ``[H + h, pitch]`` of NV12 (or P010, from planes of 10 bits), rows padded with rubbish."""
    luma, blue, red = planes
    width = max(luma.shape[1], 2 * blue.shape[1])
    kind = np.uint16 if wide else np.uint8
    memory = np.full((luma.shape[0] + blue.shape[0], width + pitch_padding), 77, kind)
    memory[: luma.shape[0], : luma.shape[1]] = luma
    memory[luma.shape[0] :, 0 : 2 * blue.shape[1] : 2] = blue
    memory[luma.shape[0] :, 1 : 2 * red.shape[1] : 2] = red
    return memory << 6 if wide else memory


def letterboxed(spec: ModelSpec, frames: Sequence[Frame], dtype, surfaces=None, layout="planar") -> np.ndarray:
    """Return the tensor that the kernel makes of the frames; ``surfaces``: their memory, by ``interleaved``."""
    held, records = [], np.zeros(len(frames), PICTURE)
    for row, frame in enumerate(frames):
        luma, blue, red = frame.on_host()
        chroma = Size(blue.shape[1], blue.shape[0])
        target = Size(spec.input_width, spec.input_height)
        geometry = Letterbox.fit(frame.size, target, spec.pixels.placement)
        records[row] = describe_picture(
            frame.coded_size, chroma, frame.rotation, frame.colour, geometry, spec.pixels.order
        )[0]
        width, height = geometry.inner[::-1] if frame.rotation in (90, 270) else geometry.inner
        axes = ((luma.shape[1], width), (luma.shape[0], height), (chroma.width, width), (chroma.height, height))
        tables = [axis_table(*axis) for axis in axes]
        if surfaces is None:
            planes = [np.ascontiguousarray(plane) for plane in (luma, blue, red)]
            addresses = [plane.ctypes.data for plane in planes]
            pitches = (planes[0].shape[1], planes[1].shape[1])
        else:
            planes = [surfaces[row]]
            pitch = planes[0].strides[0]
            addresses = [planes[0].ctypes.data, planes[0].ctypes.data + luma.shape[0] * pitch, 0]
            pitches = (pitch, pitch)
        records["planes"][row], records["pitches"][row] = addresses, pitches
        records["tables"][row] = [table.ctypes.data for table in tables]
        records["layout"][row] = LAYOUTS[layout]
        held += [*planes, *tables]
    out = np.full((len(frames), 3, spec.input_height, spec.input_width), np.nan, dtype)
    constants = pixel_constants(spec.pixels)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (records, constants, out)]
    host_kernels("letterbox").run_letterbox(
        pointers[0],
        len(frames),
        pointers[1],
        pointers[2],
        spec.input_width,
        spec.input_height,
        int(out.dtype == np.float16),
    )
    return out
