"""Works out what an ONNX detector is, from the file alone: ``read_model_spec``."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engines.class_names import named_by, numbered, parse_names
from engines.clues import Clues, Match
from engines.errors import ModelError
from engines.graph_trace import GraphTrace
from engines.model_file import ModelFile, read_model_file, with_input_shape
from engines.model_spec import Family, ModelSpec, Origin, PixelSpec, TensorSpec
from engines.overrides import PIXEL_KEYS, gather_overrides, size_of
from engines.recognise import recognise

_YOLOX_PIXELS = PixelSpec(order="bgr", scale=1.0, placement="top_left")
_PIXELS: dict[Family, PixelSpec] = {
    "yolov5": PixelSpec(),
    "yolov8": PixelSpec(),
    "yolox": _YOLOX_PIXELS,
    "end_to_end": PixelSpec(),
    "efficient_nms": PixelSpec(),
    "detr": PixelSpec(placement="stretch"),
    "queries": PixelSpec(placement="stretch"),
    "split": PixelSpec(),
    "nanodet": PixelSpec(
        order="bgr",
        scale=1.0,
        mean=(103.53, 116.28, 123.675),
        deviation=(57.375, 57.12, 58.395),
        placement="stretch",
    ),
}
"""What the exporters of each family feed their models."""

_PICTURE_DTYPES = ("float32", "float16", "uint8")


def read_model_spec(path: Path, overrides: Mapping[str, object] | None = None) -> ModelSpec:
    """Return what the detector in ``path`` is; nothing is run.

    ``overrides`` state facts (keys in ``engines.overrides``); so does a YAML file beside the model, which they win
    over. Raises ModelError where the file cannot be used, or where a fact is missing: the message names it and says
    what was seen.
    """
    path = Path(path)
    file = read_model_file(path)
    stated = gather_overrides(path, overrides)
    image = _image_input(file)
    width, height, size_origin = _input_size(file, image, stated)
    names, names_origin = _class_names(file, stated)
    image = replace(image, shape=(image.shape[0], 3, height, width))
    trace = GraphTrace(file.proto.graph)
    outputs = with_input_shape(file, image.name, image.shape)
    count = names if isinstance(names, int) else len(names) if names is not None else None
    match = recognise(Clues(file, outputs, width, height, count, trace, stated))
    pixels, pixel_origins = _pixels(match, image, trace, stated)
    if not isinstance(names, tuple):
        names = numbered(names or match.classes or 0)
    return ModelSpec(
        name=path.stem,
        sha256=file.sha256,
        family=match.family,
        image_input=image,
        input_width=width,
        input_height=height,
        max_batch=image.shape[0],
        outputs=outputs,
        class_names=names,
        pixels=pixels,
        has_nms=match.has_nms,
        size_input=_size_input(file, image),
        head_options=dict(match.options),
        origins={
            "family": match.origin,
            "input_size": size_origin,
            "batch": "shape",
            "classes": names_origin,
            **match.origins,
            **pixel_origins,
        },
    )


def _image_input(file: ModelFile) -> TensorSpec:
    """Return the NCHW picture among the inputs."""
    pictures = [tensor for tensor in file.inputs if len(tensor.shape) == 4]
    if len(pictures) != 1:
        raise ModelError(
            f"model {file.path}: is no detector of pictures: it must have one input of four dimensions, "
            f"has {len(pictures)}. Seen: {file.seen()}."
        )
    picture = pictures[0]
    if picture.shape[1] not in (3, None):
        nhwc = picture.shape[3] == 3
        raise ModelError(
            f"model {file.path}: input '{picture.name}' must be [N, 3, H, W], got {_shape(picture)}"
            + (" (channels last). Export it with channels first." if nhwc else ".")
        )
    if picture.dtype not in _PICTURE_DTYPES:
        raise ModelError(
            f"model {file.path}: input '{picture.name}' is {picture.dtype}. Allowed: {', '.join(_PICTURE_DTYPES)}."
        )
    return picture


def _size_input(file: ModelFile, image: TensorSpec) -> TensorSpec | None:
    """Return the second input of DETR style, which asks for picture sizes. Raises ModelError for any other."""
    others = [tensor for tensor in file.inputs if tensor.name != image.name]
    if not others:
        return None
    if len(others) > 1 or others[0].shape[-1:] != (2,) or not others[0].dtype.startswith(("int", "float")):
        raise ModelError(
            f"model {file.path}: asks for inputs that are not known here. Seen: {file.seen()}. Known besides the "
            "picture: its size, [N, 2]. Export the model without the others."
        )
    return others[0]


def _input_size(file: ModelFile, image: TensorSpec, stated: Mapping[str, object]) -> tuple[int, int, Origin]:
    """Return width, height and where they came from: the shape, else an override, else exporters' ``imgsz``."""
    height, width = image.shape[2], image.shape[3]
    wanted = size_of(stated["input_size"]) if "input_size" in stated else None
    if width and height:
        if wanted not in (None, (width, height)):
            raise ModelError(
                f"model {file.path}: input_size {wanted} is stated, but the file takes {width}x{height} only. "
                "Drop input_size, or export the model at that size or with dynamic axes."
            )
        return width, height, "shape"
    if wanted is None:
        wanted, origin = _embedded_size(file), "metadata"
    else:
        origin = "override"
    if wanted is None:
        beside = file.path.with_suffix(".yaml").name
        raise ModelError(
            f"model {file.path}: input_size cannot be known: input '{image.name}' is {_shape(image)} and no imgsz is "
            f"embedded. Say input_size: 640 or input_size: [width, height] in {beside} beside it."
        )
    if (width or wanted[0], height or wanted[1]) != wanted:
        raise ModelError(f"model {file.path}: input_size {wanted} does not fit input '{image.name}' {_shape(image)}.")
    return wanted[0], wanted[1], "override" if origin == "override" else "metadata"


def _embedded_size(file: ModelFile) -> tuple[int, int] | None:
    """Return width and height of the exporters' ``imgsz`` (height first), None where it says nothing useful."""
    try:
        value = ast.literal_eval(file.metadata.get("imgsz", ""))
        pair = [value, value] if isinstance(value, int) else value
        return size_of([pair[1], pair[0]])
    except (ValueError, SyntaxError, TypeError, LookupError, ModelError):
        return None


def _class_names(file: ModelFile, stated: Mapping[str, object]) -> tuple[tuple[str, ...] | int | None, Origin]:
    """Return names, or only their number, or None; and who says so."""
    if "classes" in stated:
        return named_by(stated["classes"], file.path.parent), "override"
    for key in ("names", "classes", "class_names", "labels"):
        if key in file.metadata:
            names = parse_names(file.metadata[key])
            if names:
                return names, "metadata"
    return None, "default"


def _pixels(
    match: Match, image: TensorSpec, trace: GraphTrace, stated: Mapping[str, object]
) -> tuple[PixelSpec, dict[str, Origin]]:
    """Return what the model wants its pixels to be, fact by fact: override, then wiring, then the family's habit."""
    pixels = _PIXELS[match.family]
    origins: dict[str, Origin] = dict.fromkeys((f"pixels.{key}" for key in PIXEL_KEYS), "default")
    if trace.has_yolox_body(image.name):
        pixels = _YOLOX_PIXELS
        origins.update(dict.fromkeys(("pixels.order", "pixels.scale", "pixels.placement"), "structure"))
    divisor = trace.input_divisor(image.name)
    if image.dtype == "uint8":
        pixels, origins["pixels.scale"] = replace(pixels, scale=1.0), "shape"
    elif divisor is not None and 254 <= divisor <= 256:
        pixels, origins["pixels.scale"] = replace(pixels, scale=1.0), "structure"
    wanted = stated.get("pixels", {})
    if isinstance(wanted, dict):
        pixels = replace(pixels, **wanted)
        origins.update({f"pixels.{key}": "override" for key in wanted})
    return pixels, origins


def _shape(tensor: TensorSpec) -> str:
    return f"[{', '.join(str(length or '?') for length in tensor.shape)}]"
