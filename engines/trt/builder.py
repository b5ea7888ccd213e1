"""Builds a plan from an ONNX file that carries its types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnx

from engines.errors import DeviceMemoryError, ModelError, PlanBuildError, RunError, RuntimeMissingError
from engines.model_spec import ModelSpec
from engines.precision.layers import find_layers
from engines.precision.prepare import QUANTISED_OPS
from engines.shape_profile import ShapeProfile, batch_that_fits
from engines.trt.faster_tail import faster_tail
from engines.trt.library import TrtLibrary
from engines.trt.options import BuildOptions
from engines.trt.progress import Progress, make_monitor

_OWN_KERNELS = ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
_HELD_LAYERS = (
    *("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "ACTIVATION", "ELEMENTWISE", "UNARY", "SOFTMAX", "REDUCE"),
    *("POOLING", "RESIZE", "CONCATENATION"),
)
_NO_KERNEL = re.compile(r"could not find any implementation|no implementation", re.IGNORECASE)
_ASKED_AND_THERE = re.compile(r"request(?:ed)?:?\s*(\d+)\s*MB\W+Available:?\s*(\d+)\s*MB", re.IGNORECASE)
_NO_MEMORY = re.compile(r"out ?of ?memory|insufficient memory|memory allocation|within workspace limit", re.IGNORECASE)


def build_plan(
    library: TrtLibrary,
    model: Path,
    spec: ModelSpec,
    shapes: ShapeProfile,
    options: BuildOptions,
    *,
    timing_cache: bytes = b"",
    progress: Progress | None = None,
) -> tuple[bytes, bytes]:
    """Return the plan of ``model``, and the timing cache with what was measured for it (empty where there is none).

    The GPU's context must be current in this thread, but where the library builds without one. Raises ModelError for
    operators that the library does not have, RuntimeMissingError for options it does not have, DeviceMemoryError where
    memory ran out, RunError for other failures and where ``progress`` cancelled it.
    """
    trt = library.trt
    with library.listening():
        try:
            builder = trt.Builder(library.logger)
        except TypeError as error:  # it is null: no driver, or none that the library knows
            raise RunError(f"{library.flavour} {library.version} cannot build here: {library.complaint()}") from error
        network = builder.create_network(library.creation_flags())
        parser = trt.OnnxParser(network, library.logger)
        faster = faster_tail(model)
        if not (parser.parse_from_file(str(model)) if faster is None else parser.parse(faster)):
            raise _unsupported(library, spec, parser)
        config = builder.create_builder_config()
        cache = _configure(library, config, options, timing_cache)
        if not library.strongly_typed:
            graph = onnx.load(str(model)) if faster is None else onnx.load_from_string(faster)
            allow_precisions(library, network, config, graph)
        _add_profile(library, builder, config, network, spec, shapes)
        monitor = make_monitor(trt, progress) if progress is not None and library.shows_progress else None
        if monitor is not None:  # which must outlive the build
            config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise _build_failed(library, spec, shapes, options, progress)
        measured = bytes(memoryview(cache.serialize())) if cache is not None else b""
        return bytes(memoryview(plan)), measured


def looks_like_no_memory(words: str) -> bool:
    """Whether the library's complaint is that memory ran out."""
    return _NO_MEMORY.search(words) is not None


def _configure(library: TrtLibrary, config: Any, options: BuildOptions, timing_cache: bytes) -> Any:
    """Set ``options``; return the timing cache in use, None where there is none."""
    trt = library.trt
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.optimisation_level is not None:
        config.builder_optimization_level = options.optimisation_level
    if options.hardware_compatible and not library.builds_without_gpu:  # there every plan is
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.version_compatible:
        if library.builds_without_gpu or not library.has_flag("VERSION_COMPATIBLE"):
            raise RuntimeMissingError(
                f"{library.flavour} {library.version} builds no plans for later versions (--version-compatible). "
                "TensorRT 8.6 and later does."
            )
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if hasattr(trt.TacticSource, "CUDNN"):
        # Detectors gain nothing from kernels of cuDNN and cuBLAS, and a plan that holds none needs neither library.
        config.set_tactic_sources(sum(1 << int(getattr(trt.TacticSource, name)) for name in _OWN_KERNELS))
    if hasattr(trt, "PreviewFeature") and hasattr(trt.PreviewFeature, "PROFILE_SHARING_0806"):
        # 8.6: several contexts (one a slot and batch size) may then use the one profile. Later versions always do.
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    if not library.has_timing_cache:
        return None
    cache = config.create_timing_cache(timing_cache)
    if cache is None:  # of another version, or damaged: it is only a help
        cache = config.create_timing_cache(b"")
    return cache if cache is not None and config.set_timing_cache(cache, False) else None


def _add_profile(
    library: TrtLibrary, builder: Any, config: Any, network: Any, spec: ModelSpec, shapes: ShapeProfile
) -> None:
    profile = builder.create_optimization_profile()
    dynamic = False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        stated = tuple(tensor.shape)
        if all(length >= 0 for length in stated):
            continue
        dynamic = True
        wanted = [_filled(stated, batch, spec) for batch in (shapes.min_batch, shapes.best_batch, shapes.max_batch)]
        profile.set_shape(tensor.name, *wanted)
    if dynamic and config.add_optimization_profile(profile) < 0:
        raise RunError(f"{library.flavour} takes no shapes {shapes} for {spec.name}: {library.complaint()}")


def _filled(stated: tuple[int, ...], batch: int, spec: ModelSpec) -> tuple[int, ...]:
    """Return ``stated`` with open dimensions filled in: the batch first, then the picture's height and width."""
    usual = (batch, 3, spec.input_height, spec.input_width) if len(stated) == 4 else (batch, *stated[1:])
    return tuple(length if length >= 0 else usual[place] for place, length in enumerate(stated))


def allow_precisions(library: TrtLibrary, network: Any, config: Any, model: Any) -> None:
    """Allow the precisions that ``model`` (an onnx.ModelProto) uses, where its types do not suffice (TensorRT 8.6).

    There the types of the file are only a start, from which the builder may take whatever is allowed, float32 always
    included. So layers are held in what the file says: half precision where it is half, and the head's arithmetic in
    float32. Around eight bits only the head is held: other layers may yet become eight bits as well.
    """
    trt = library.trt
    graph = onnx.shape_inference.infer_shapes(model).graph
    quantised = any(node.op_type in QUANTISED_OPS for node in graph.node)
    halves = _nodes_in_half(graph)
    if quantised:
        config.set_flag(trt.BuilderFlag.INT8)
    elif not halves:
        return
    config.set_flag(trt.BuilderFlag.FP16)  # with int8 too: for the layers that it leaves out
    config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    held = dict.fromkeys(find_layers(graph).tail, trt.DataType.FLOAT)
    held.update(dict.fromkeys(() if quantised else halves, trt.DataType.HALF))
    kinds = {getattr(trt.LayerType, name) for name in _HELD_LAYERS}
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        kind = held.get(layer.name)  # they are called as their nodes are
        if kind is not None and layer.type in kinds and layer.get_output(0).dtype in (kind, trt.DataType.FLOAT):
            layer.precision = kind
            layer.set_output_type(0, kind)


def _nodes_in_half(graph: Any) -> frozenset[str]:
    """Return the names of the nodes whose first output is float16. Shapes must be inferred."""
    values = [*graph.value_info, *graph.output]
    half = {value.name for value in values if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}
    return frozenset(node.name for node in graph.node if node.output[0] in half)


def _unsupported(library: TrtLibrary, spec: ModelSpec, parser: Any) -> ModelError:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    words = "; ".join(dict.fromkeys(_in_words(error) for error in errors[:3])) or library.complaint()
    return ModelError(
        f"model {spec.name}: {library.flavour} {library.version} cannot take it: {words.rstrip('.')}. "
        "Export it without that operator, or with an older opset; runtime cuda or cpu may still run it."
    )


def _in_words(error: Any) -> str:
    words = " ".join(str(error.desc()).split())[:200]
    if not hasattr(error, "node_operator") or not error.node_operator():  # 8.6 has only the words
        return words
    return f"operator {error.node_operator()} ({error.node_name() or 'unnamed'}): {words}"


def _build_failed(
    library: TrtLibrary, spec: ModelSpec, shapes: ShapeProfile, options: BuildOptions, progress: Progress | None
) -> RunError | ModelError:
    if progress is not None and progress.cancelled:
        return RunError(f"model {spec.name}: building was cancelled.")
    words = library.complaint()
    passed_over = _NO_KERNEL.search(words) is not None and bool(library.too_large)
    if passed_over:  # every kernel of a layer: the error does not say that it was for want of memory
        words = f"{words} | {library.too_large[-1]}"
    if passed_over or looks_like_no_memory(words):
        remedy = remedy_for_memory(options, spec, shapes, words)
        return DeviceMemoryError(
            f"model {spec.name}: memory ran out while building for batches {shapes}: {words.rstrip('.')}. {remedy}"
        )
    return PlanBuildError(
        f"model {spec.name}: {library.flavour} {library.version} cannot build it: {words.rstrip('.')}. Export it "
        "without that layer (without NMS in the file, most often), or take runtime cuda or cpu."
    )


def memory_told(words: str) -> tuple[int, int] | None:
    """Return the bytes that were asked for and those that there were, where the library says both."""
    found = _ASKED_AND_THERE.search(words)
    return None if found is None else (int(found[1]) << 20, int(found[2]) << 20)


def remedy_for_memory(options: BuildOptions, spec: ModelSpec, shapes: ShapeProfile, words: str) -> str:
    """Say what to change, by the library's ``words``: its limit on kernels, the batch, or either."""
    limit, told = options.workspace_bytes, memory_told(words)
    smaller = smaller_batch(spec, shapes, told)
    if limit is None:
        return smaller
    set_to = f"--workspace {limit / 2**20:g} MiB (engine.workspace_mib in a configuration)"
    if "workspace limit" in words.lower() or (told is not None and told[0] > limit <= told[1]):
        return f"{set_to} is too little: raise it, or leave it out."
    if told is None and _NO_KERNEL.search(words):
        return f"{set_to} may be too little: raise it, or leave it out. {smaller}"
    return smaller


def smaller_batch(spec: ModelSpec, shapes: ShapeProfile, told: tuple[int, int] | None = None) -> str:
    """Say which batch would fit by ``memory_told``, or to try half; what a kernel works in grows with the batch.

    A batch that the file fixes is another file's.
    """
    if spec.max_batch is not None and spec.max_batch > 1:
        return f"The file fixes its batch at {spec.max_batch}: export it with a smaller one, or free some memory."
    half = shapes.max_batch // 2
    fits = half if told is None else min(half, batch_that_fits(shapes.max_batch, *told))
    if fits < 1:
        return "Not even batch 1 would fit: free GPU memory, or take a smaller model or input size."
    why = "Batch" if told is None else "By that, batch"
    return f"{why} {fits} may fit: --batch {fits}."
