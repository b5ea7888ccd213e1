"""Reads an ONNX file's facts without running it: inputs, outputs, metadata, weights that are there or not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from engines.errors import ModelError
from engines.model_spec import TensorSpec

_OTHER_FORMATS = (  # (offset, first bytes, what it is)
    (0, b"PK\x03\x04", "a ZIP archive, as PyTorch's .pt files are"),
    (0, b"\x80\x02", "a Python pickle, as old PyTorch files are"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"ftrt", "a TensorRT plan"),
    (0, b"ptrt", "a TensorRT plan"),
    (0, b"<?xml", "XML, as OpenVINO's .xml files are"),
    (0, b"\x89HDF", "an HDF5 file"),
)


@dataclass(frozen=True)
class ModelFile:
    """An ONNX file, parsed but not run."""

    path: Path
    sha256: str
    """Of the file's bytes, hex. Weights in files beside it are not part of it."""
    inputs: tuple[TensorSpec, ...]
    """Without initializers, which old exporters list as inputs too."""
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]
    proto: Any
    """The onnx.ModelProto."""

    def seen(self) -> str:
        """Inputs and outputs in one line, for messages."""
        return f"inputs {_listed(self.inputs)}; outputs {_listed(self.outputs)}"


def read_model_file(path: Path) -> ModelFile:
    """Parse ``path``. Raises ModelError where it is missing, not ONNX, cut short, or its weights are missing."""
    try:
        data = path.read_bytes()
    except IsADirectoryError:
        raise ModelError(f"model {path}: is a folder. Give the .onnx file in it.") from None
    except OSError as error:
        raise ModelError(f"model {path}: cannot be read: {error.strerror or error}.") from error
    proto = _parse(path, data)
    _check_external_weights(path, proto)
    initializers = {tensor.name for tensor in proto.graph.initializer}
    return ModelFile(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        inputs=tuple(tensor_spec(value) for value in proto.graph.input if value.name not in initializers),
        outputs=tuple(tensor_spec(value) for value in proto.graph.output),
        metadata={_text(entry.key): _text(entry.value) for entry in proto.metadata_props},
        proto=proto,
    )


def tensor_spec(value: Any) -> TensorSpec:
    """Return the name, dtype and shape of an onnx.ValueInfoProto; a shape nobody stated is ``()``."""
    tensor = value.type.tensor_type
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, ValueError, TypeError):
        dtype = "unknown"
    shape = tuple(
        int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim
    )
    return TensorSpec(_text(value.name), dtype, shape)


def with_input_shape(file: ModelFile, image_input: str, shape: tuple[int | None, ...]) -> tuple[TensorSpec, ...]:
    """Return the outputs by shape inference where the picture input is ``shape``; the batch stays as it is."""
    if all(output.shape and None not in output.shape[1:] for output in file.outputs):
        return file.outputs
    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    for value in proto.graph.input:
        if value.name == image_input:
            for dim, length in zip(value.type.tensor_type.shape.dim, shape, strict=True):
                dim.dim_value = (
                    length or 1
                )  # one picture: exporters reshape by the batch, and an open one hides the rest
    for value in proto.graph.output:
        if any(not dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim):
            value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception:  # its C++ side raises many kinds; an open dimension is then simply not known
        return file.outputs
    return tuple(
        _merged(before, tensor_spec(value)) for before, value in zip(file.outputs, inferred.graph.output, strict=True)
    )


def _text(value: str | bytes) -> str:
    """Return ``value`` as text: protobuf hands out bytes where a damaged file holds no UTF-8."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _merged(stated: TensorSpec, inferred: TensorSpec) -> TensorSpec:
    if not stated.shape:
        return inferred
    if len(stated.shape) != len(inferred.shape):
        return stated
    shape = tuple(a if a is not None else b for a, b in zip(stated.shape, inferred.shape, strict=True))
    return TensorSpec(stated.name, stated.dtype, (stated.shape[0], *shape[1:]))


def _parse(path: Path, data: bytes) -> Any:
    for offset, magic, what in _OTHER_FORMATS:
        if data[offset : offset + len(magic)] == magic:
            raise ModelError(f"model {path}: is {what}, not ONNX. Export it to ONNX with its own tool first.")
    if data.startswith(b"version https://git-lfs"):
        raise ModelError(f"model {path}: is a Git LFS pointer, not the model. Fetch it: git lfs pull.")
    try:
        proto = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError, which has no home that all versions share
        # An ONNX file starts with field 1 (the IR version, a small number), whatever comes later.
        if data[:1] == b"\x08" and 1 <= data[1] <= 20:
            what = f"is cut short or damaged after {len(data)} bytes. Copy or export it again."
        else:
            what = "is not an ONNX file. Export the model to ONNX first."
        raise ModelError(f"model {path}: {what}") from error
    if not proto.graph.node or not proto.graph.output:
        raise ModelError(f"model {path}: is not an ONNX model ({len(data)} bytes, no graph in it).")
    return proto


def _check_external_weights(path: Path, proto: Any) -> None:
    """Raise ModelError where a file that holds weights is missing or too short."""
    for tensor in tensors_of(proto.graph):
        if not uses_external_data(tensor):
            continue
        info = ExternalDataInfo(tensor)
        weights = path.parent / info.location
        if not weights.is_file():
            raise ModelError(
                f"model {path}: keeps its weights in '{info.location}', which is not beside it. "
                f"Copy that file to {weights.parent}, or export with the weights inside."
            )
        needed = int(info.offset or 0) + int(info.length or 0)
        size = weights.stat().st_size
        if size < needed:
            raise ModelError(
                f"model {path}: its weights file '{info.location}' is cut short: {size} bytes, needs {needed}. "
                "Copy it again."
            )


def tensors_of(graph: Any) -> Iterator[Any]:
    """Yield every tensor with values that a graph states: initializers, constants, and those of graphs within."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from tensors_of(attribute.g)


def _listed(tensors: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{t.name} {t.dtype} [{', '.join(str(d or '?') for d in t.shape)}]" for t in tensors) or "none"
