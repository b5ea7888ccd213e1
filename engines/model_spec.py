"""What an ONNX detector is: its family, its input, its outputs, its classes, and where each fact came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Family = Literal["yolov5", "yolov8", "yolox", "end_to_end", "efficient_nms", "detr", "queries", "split", "nanodet"]
"""Key of ``pipeline.postprocess.HEADS``: which head reads the outputs."""

Origin = Literal["shape", "name", "metadata", "structure", "override", "default"]
"""Where a fact about a model came from. "structure" is the graph's wiring, "default" the family's habit."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model."""

    name: str
    dtype: str
    """NumPy dtype name ("float32", "float16", "int64", "uint8")."""
    shape: tuple[int | None, ...]
    """Dimensions; None where the file leaves one open."""


@dataclass(frozen=True, slots=True)
class PixelSpec:
    """What the model wants its pixels to be: ``tensor = (rgb_or_bgr * scale - mean) / deviation``."""

    order: Literal["rgb", "bgr"] = "rgb"
    scale: float = 1 / 255
    """1/255 for 0-1 models, 1 for 0-255 models."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Per channel in ``order``, in scaled units."""
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    placement: Literal["centre", "top_left", "stretch"] = "centre"
    pad_value: int = 114
    """0-255, the grey around the picture, before scaling."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything preprocessing, heads and runtimes need to know of a detector."""

    name: str
    """File name without its ending: what messages and tables call it."""
    sha256: str
    """Of the model file's bytes, hex."""
    family: Family
    image_input: TensorSpec
    """The NCHW picture tensor."""
    input_width: int
    input_height: int
    max_batch: int | None
    """Fixed batch of the file; None where it is dynamic."""
    outputs: tuple[TensorSpec, ...]
    class_names: tuple[str, ...]
    """Empty where neither the file nor the user says how many classes there are: then ids are names."""
    pixels: PixelSpec
    has_nms: bool = False
    """The graph suppresses overlapping boxes itself."""
    size_input: TensorSpec | None = None
    """Second input, int64 ``[N, 2]``, that asks for picture sizes as width, height (DETR style). Runtimes feed it the
    model's own input size, so that boxes come out in pixels of the input like everyone's."""
    head_options: Mapping[str, object] = field(default_factory=dict)
    """What the family's head needs besides (orientation, strides, whether scores are logits)."""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """Fact ("family", "classes", "pixels.order", ...) -> where it came from."""
