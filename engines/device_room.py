"""What fits into a GPU's memory: the batch, and beside it the streams that are decoded there."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TypeVar

from engines.device import Gpu
from engines.errors import DeviceMemoryError
from engines.gpu_slot import GpuSlot

AnySlot = TypeVar("AnySlot", bound=GpuSlot)

_NO_ROOM = "Free GPU memory (nvidia-smi shows who holds it), or take a smaller model or input size."


def open_slots(count: int, rows: int, open_one: Callable[[int, int], AnySlot]) -> tuple[AnySlot, ...]:
    """Return ``count`` slots of ``open_one(number, rows)``, warmed up. What that raises closes the others."""
    with ExitStack() as opened:
        slots = [opened.enter_context(closing(open_one(number, rows))) for number in range(count)]
        try:
            for slot in slots:
                slot.warm_up()
        except Exception as error:
            _let_go(error)
            raise
        opened.pop_all()
    return tuple(slots)


def _let_go(error: BaseException | None) -> None:
    """Have ``error``, and what led to it, hold no locals of the calls that it came from.

    A session that could not be warmed up lives in them; ending after the CUDA stream that it runs on, which its slot
    closes, it would crash the process.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def open_slots_or_say(
    what: str, gpu: Gpu, stream_bytes: int, rows: int, fixed: bool, open_some: Callable[[int], Sequence[AnySlot]]
) -> tuple[AnySlot, ...]:
    """Return ``open_some(rows)``.

    Raises DeviceMemoryError where that does not fit, naming the batch that does, found by trying, and the streams that
    fit beside it. ``fixed``: the model takes no smaller batch.
    """
    free = gpu.free_bytes()
    try:
        return tuple(open_some(rows))
    except DeviceMemoryError as error:
        told = str(error)
    gc.collect()  # only here: the exception held slots that never came to be
    fewer = 1 if fixed else rows
    while fewer > 1:
        fewer //= 2
        try:
            fitting = open_some(fewer)
        except DeviceMemoryError:
            gc.collect()
            continue
        streams = streams_in_words(gpu.free_bytes(), stream_bytes)
        for slot in fitting:
            slot.close()
        remedy = f"A batch of {fewer} fits{streams}: set infer.batch_size: {fewer}, or free GPU memory."
        raise DeviceMemoryError(_cannot(what, gpu, rows, free, told, remedy))
    least = f"The file fixes its batch at {rows}" if fixed and rows > 1 else "Not even one frame fits"
    raise DeviceMemoryError(_cannot(what, gpu, rows, free, told, f"{least}. {_NO_ROOM}"))


@contextmanager
def told_with_batch(what: str, gpu: Gpu, rows: int, fixed: bool) -> Iterator[None]:
    """Have a DeviceMemoryError name the batch to try: half of ``rows``, which were too many.

    For what is opened beside slots that have their room. ``fixed``: the model takes no smaller batch.
    """
    free = gpu.free_bytes()
    try:
        yield
    except DeviceMemoryError as error:
        smaller = f"Try infer.batch_size: {rows // 2}, or free GPU memory."
        remedy = _NO_ROOM if fixed or rows == 1 else smaller
        raise DeviceMemoryError(_cannot(what, gpu, rows, free, str(error), remedy)) from error


def streams_in_words(free_bytes: int, stream_bytes: int) -> str:
    """Return how many streams fit into ``free_bytes``, for the end of a clause; empty where streams take nothing."""
    if not stream_bytes:
        return ""
    return f", with room for about {max(0, free_bytes) // stream_bytes} streams of 1920x1080 that are decoded there"


def _cannot(what: str, gpu: Gpu, rows: int, free: int, told: str, remedy: str) -> str:
    return (
        f"{what}: its slots for batches up to {rows} do not fit into the {free / 2**20:.0f} MiB that GPU {gpu.index} "
        f"({gpu.name}) has free ({told.rstrip('.')}). {remedy}"
    )
