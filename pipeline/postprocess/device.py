"""Heads on the GPU: a batch's outputs to detections in source pixels by two kernels; only the few boxes come down.

The same result as the host's heads, suppression and letterbox, which are the definition: see engines/kernels/heads.cu.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.buffers import DeviceBuffer, DeviceTensor, PinnedBuffer
from engines.device import cuda_errors
from engines.errors import RunError
from engines.kernels.compiler import load_kernel
from engines.kernels.launch import launch
from engines.model_spec import ModelSpec
from engines.runtime import DeviceSlot
from pipeline.detections import Detections, ScoreLimits
from pipeline.postprocess.best_class import NOT_A_NUMBER
from pipeline.postprocess.head_record import TALLY, cells_of, describe_head
from pipeline.postprocess.postprocess import MAX_CANDIDATES, wanted_class_ids
from pipeline.postprocess.queries import logit

_COLLECT_THREADS = 128
_SUPPRESS_THREADS = 512
_MOST_HEADS = 512
"""Places of outputs that are remembered: more than there are batch sizes, because recorded graphs hold on to theirs."""
HEADER = 4
ROW = 6
"""Words of a picture's result before its boxes, and of each box: see ``suppress`` in heads.cu."""


@dataclass(frozen=True, slots=True)
class Keeps:
    """What is kept of the candidates. As in ``Postprocess``."""

    iou: float
    max_detections: int
    max_candidates: int = MAX_CANDIDATES


class DevicePostprocess:
    """Reads batches in one slot. Not thread-safe: one per slot. Closing twice is safe."""

    def __init__(
        self,
        spec: ModelSpec,
        slot: DeviceSlot,
        pictures: DeviceTensor,
        keeps: Keeps,
        classes: Sequence[str | int] | None = None,
    ) -> None:
        """``pictures``: ``DevicePreprocess.pictures`` of the same slot. ``classes``: names or ids to keep.

        Raises ConfigError for a class that the model does not have, RunError, RuntimeMissingError.
        """
        self._spec = spec
        self._gpu = slot.gpu
        self._cuda_stream = slot.cuda_stream
        self._pictures = pictures
        self._keeps = keeps
        self._scores: dict[ScoreLimits, tuple[float, float]] = {}
        rows = pictures.shape[0]
        self._collect = load_kernel(self._gpu, "heads", "collect")
        self._suppress = load_kernel(self._gpu, "heads", "suppress")
        self._constants: list[DeviceBuffer] = []
        wanted = None if classes is None else wanted_class_ids(spec, classes)
        self._wanted = (0, 0) if wanted is None else self._mask(wanted)
        self._cells = self._constant(cells_of(spec))
        self._words = HEADER + ROW * keeps.max_detections
        self._tallies = DeviceBuffer(self._gpu, (rows,), TALLY)
        self._results = DeviceBuffer(self._gpu, (rows, self._words), np.int32)
        self._read = PinnedBuffer(self._gpu, (rows, self._words), np.int32)
        self._candidates: tuple[int, DeviceBuffer, DeviceBuffer] | None = None
        self._heads: dict[tuple[tuple[int, tuple[int, ...]], ...], _Described] = {}

    def scores(self, limits: ScoreLimits) -> tuple[float, float]:
        """Return what ``DevicePreprocess.add`` is told of a stream's limits."""
        found = self._scores.get(limits)
        if found is None:
            if len(self._scores) > _MOST_HEADS:
                self._scores.clear()
            found = self._scores[limits] = compared_scores(limits, bool(self._spec.head_options.get("logits")))
        return found

    def enqueue(self, outputs: Mapping[str, DeviceTensor], count: int) -> None:
        """Enqueue reading ``count`` pictures, and return at once. Raises RunError."""
        head = self._described(outputs)
        keys, class_ids = self._room(head.candidates)
        stream, tallies, results = self._cuda_stream, self._tallies.tensor, self._results.tensor
        stream.clear(tallies.pointer, count * TALLY.itemsize)
        described, pictures = head.memory.tensor.pointer, self._pictures.pointer
        grid = (-(-head.candidates // _COLLECT_THREADS), count)
        found = (tallies.pointer, keys, class_ids)
        with cuda_errors():
            if head.candidates:  # a list of all pictures' boxes may be empty
                launch(stream, self._collect, grid, (_COLLECT_THREADS,), described, pictures, *found)
            block = (_SUPPRESS_THREADS,)
            launch(stream, self._suppress, (count,), block, described, *found, pictures, results.pointer)

    def download(self, count: int) -> None:
        """Enqueue the way down for what was found in ``count`` pictures. Raises RunError."""
        self._cuda_stream.download(self._read.address, self._results.tensor.pointer, count * self._words * 4)

    def read(self, count: int) -> list[Detections | RunError]:
        """Return what was found in each of ``count`` pictures, once the slot's stream is through."""
        return read_results(self._read.array[:count])

    def close(self) -> None:
        """Free the memory. Nothing of it may be enqueued any more."""
        for buffer in (*(head.memory for head in self._heads.values()), *self._constants):
            buffer.close()
        self._heads.clear()
        self._constants.clear()
        if self._candidates is not None:
            for buffer in self._candidates[1:]:
                buffer.close()
            self._candidates = None
        for held in (self._tallies, self._results, self._read):
            held.close()

    def _described(self, outputs: Mapping[str, DeviceTensor]) -> _Described:
        """Return where the outputs lie, on the device: they do not move, so each batch size is told only once."""
        key = tuple((tensor.pointer, tensor.shape) for tensor in outputs.values())
        found = self._heads.get(key)
        if found is None:
            self._forget_heads()
            record = describe_head(self._spec, outputs, self._cells, self._wanted)
            record["iou_threshold"] = self._keeps.iou
            record["max_candidates"], record["max_detections"] = self._keeps.max_candidates, self._keeps.max_detections
            found = self._heads[key] = _Described(self._copy(record), int(record["candidates"][0]))
        return found

    def _forget_heads(self) -> None:
        """Make room where outputs do move: their sizes depend on the picture, and the runtime allocates them."""
        if len(self._heads) >= _MOST_HEADS:
            self._cuda_stream.synchronise()
            for head in self._heads.values():
                head.memory.close()
            self._heads.clear()

    def _room(self, candidates: int) -> tuple[int, int]:
        """Return where candidates are collected, with room for that many of each picture."""
        if self._candidates is None or self._candidates[0] < candidates:
            if self._candidates is not None:
                self._constants.extend(self._candidates[1:])  # freed at the end: kernels may still use it
            rows = self._pictures.shape[0]
            keys = DeviceBuffer(self._gpu, (rows, candidates), np.uint64)
            self._candidates = (candidates, keys, DeviceBuffer(self._gpu, (rows, candidates), np.int32))
        return self._candidates[1].tensor.pointer, self._candidates[2].tensor.pointer

    def _mask(self, wanted: Sequence[int]) -> tuple[int, int]:
        mask = np.zeros(max(wanted, default=0) + 1, np.uint8)
        mask[list(wanted)] = 1
        return self._constant(mask), len(mask)

    def _constant(self, values: NDArray[Any] | None) -> int:
        """Return the device address of a copy of ``values``; 0 for none."""
        if values is None:
            return 0
        self._constants.append(self._copy(values))
        return self._constants[-1].tensor.pointer

    def _copy(self, values: NDArray[Any]) -> DeviceBuffer:
        buffer = DeviceBuffer(self._gpu, values.shape, values.dtype)
        self._cuda_stream.upload(buffer.tensor.pointer, values.ctypes.data, values.nbytes)
        self._cuda_stream.synchronise()  # ``values`` may go
        return buffer


@dataclass(frozen=True, slots=True)
class _Described:
    memory: DeviceBuffer
    candidates: int


def compared_scores(limits: ScoreLimits, logits: bool) -> tuple[float, float]:
    """Return from which score on a candidate counts, in what is compared (logits?), and from which it is missed."""
    return logit(limits.least) if logits else limits.least, limits.publish


def read_results(words: NDArray[np.int32]) -> list[Detections | RunError]:
    """Return the detections in results of the ``suppress`` kernel, int32 ``[N, HEADER + ROW * max_detections]``."""
    counts, truncated, broken = words[:, 0].tolist(), words[:, 1].tolist(), words[:, 2].tolist()
    most = max(counts, default=0)
    # One copy for the batch: the pinned memory is written again by the next.
    rows = words[:, HEADER : HEADER + ROW * most].copy().reshape(len(words), most, ROW)
    values = rows.view(np.float32)
    found: list[Detections | RunError] = []
    for picture, count in enumerate(counts):
        if broken[picture]:
            found.append(RunError(NOT_A_NUMBER))
        elif count == 0:
            found.append(Detections.empty())
        else:
            picked = values[picture, :count]
            class_ids = rows[picture, :count, 5]
            found.append(Detections(picked[:, :4], picked[:, 4], class_ids, bool(truncated[picture])))
    return found
