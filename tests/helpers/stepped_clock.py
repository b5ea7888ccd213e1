"""A program's system clock, set forward and back while it runs; see stepped_clock.c."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

from tests.helpers.compilers import c_compiler


class SteppedClock:
    """What to start a program with, and its clock. Skips the test where there is no C compiler."""

    def __init__(self, folder: Path) -> None:
        library = folder / "stepped_clock.so"
        source = Path(__file__).with_suffix(".c")
        subprocess.run([c_compiler(), "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, timeout=60)
        self._step = folder / "clock-step"
        self._step.write_bytes(struct.pack("d", 0.0))
        before = os.environ.get("LD_PRELOAD")
        self.env = {
            "LD_PRELOAD": f"{library}:{before}" if before else str(library),
            "ONPACE_TEST_CLOCK": str(self._step),
        }

    def set(self, seconds: float) -> None:
        """Let the clock be so far from the right time, from now on."""
        with self._step.open("r+b") as file:
            file.write(struct.pack("d", seconds))
