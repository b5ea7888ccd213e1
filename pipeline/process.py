"""What is the process's, not one pipeline's."""

from __future__ import annotations

import sys

import cv2


def prepare_process() -> None:
    """Set one thread a step, and short turns between Python threads."""
    cv2.setNumThreads(1)
    sys.setswitchinterval(0.001)
