"""What works on the batches of a slot: on the GPU where the slot is one of a GPU, else from host memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from engines.model_spec import ModelSpec
from engines.runtime import DeviceSlot, Slot
from pipeline.config.sections import PostprocessSection
from pipeline.detections import ScoreLimits
from pipeline.infer.infer_step import InferStep, SlotStep
from pipeline.infer.input_sizes import input_size
from pipeline.infer.resolution import Resolution
from pipeline.infer.run_pace import RunPace
from pipeline.infer.sized_runtime import SizedSlot
from pipeline.infer.sized_step import SizedStep
from pipeline.keepup.load import BusyClock
from pipeline.postprocess.head import open_head
from pipeline.postprocess.postprocess import Postprocess
from pipeline.preprocess.host import HostPreprocess


def open_step(
    spec: ModelSpec,
    slot: Slot,
    post: PostprocessSection,
    busy: BusyClock,
    runs: BusyClock,
    pace: RunPace,
    limits: Callable[[str], ScoreLimits],
    resolution: Resolution,
) -> SlotStep:
    """Return the step of ``slot``. Raises ConfigError for a class that the model does not have, EngineError.

    ``resolution`` says which size a slot of several sizes runs at.
    """
    if isinstance(slot, SizedSlot):
        steps = [
            (input_size(sized), open_step(sized, one, post, busy, runs, pace, limits, resolution))
            for sized, one in slot.sizes
        ]
        return SizedStep(steps, resolution, busy, pace)
    if isinstance(slot, DeviceSlot):
        return _open_device_step(spec, slot, post, busy, runs, pace, limits)
    postprocess = Postprocess(
        spec,
        open_head(spec),
        score_threshold=post.score_threshold,
        iou_threshold=post.iou_threshold,
        max_detections=post.max_detections,
        classes=post.classes,
    )
    return InferStep(slot, HostPreprocess(spec, slot.input), postprocess, busy, runs, pace, limits)


def _open_device_step(
    spec: ModelSpec,
    slot: DeviceSlot,
    post: PostprocessSection,
    busy: BusyClock,
    runs: BusyClock,
    pace: RunPace,
    limits: Callable[[str], ScoreLimits],
) -> SlotStep:
    from engines.device_room import told_with_batch
    from pipeline.infer.device_step import DeviceInferStep
    from pipeline.postprocess.device import DevicePostprocess, Keeps
    from pipeline.preprocess.device import DevicePreprocess

    rows, fixed = slot.device_input.shape[0], spec.max_batch is not None
    room = partial(told_with_batch, f"model {spec.name}", slot.gpu, rows, fixed)
    with room():
        preprocess = DevicePreprocess(spec, slot)
        keeps = Keeps(post.iou_threshold, post.max_detections)
        postprocess = DevicePostprocess(spec, slot, preprocess.pictures, keeps, post.classes)
    return DeviceInferStep(slot, preprocess, postprocess, busy, runs, pace, limits, room)
