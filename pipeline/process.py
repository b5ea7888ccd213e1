"""What is the process's, not one pipeline's."""

from __future__ import annotations

import gc
import sys

import cv2

_ALONE_SECONDS = 0.005
_BESIDE_OTHERS_SECONDS = 0.00005


def prepare_process(*, alone: bool = False) -> None:
    """Set one thread a step, and how long turns between Python threads are.

    Whoever computes in Python beside the pipeline holds every thread of it up for a turn whenever it comes back from a
    library. With 28 streams on a GPU, one such thread left 15 % of the frames with turns of 1 ms, 71 % with turns of
    50 us. ``alone``: nobody does, as in workers, where short turns only cost: 28 streams in three of them came to 25 %
    more frames a second with turns of 5 ms.
    """
    cv2.setNumThreads(1)
    sys.setswitchinterval(_ALONE_SECONDS if alone else _BESIDE_OTHERS_SECONDS)


def set_loaded_aside() -> None:
    """Tell Python's collector that what is loaded by now stays: a look at all of it stops every thread for 15 ms and
    more, and a frame that is due then comes late."""
    gc.collect()
    gc.freeze()
