"""The command ``onpace`` as a user starts it: a process of its own, its output, its summary."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


class OnpaceProcess:
    """Runs ``onpace ARGUMENTS``; its output is collected while it runs. A context manager: never left behind."""

    def __init__(self, *arguments: str | Path, env: dict[str, str] | None = None, cwd: Path = REPOSITORY) -> None:
        self.arguments = [str(argument) for argument in arguments]
        path = os.pathsep.join(part for part in (str(REPOSITORY), os.environ.get("PYTHONPATH", "")) if part)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli.main", *self.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path, **(env or {})},
        )
        self._lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._readers = [
            threading.Thread(target=self._read, args=(name, stream), daemon=True)
            for name, stream in (("stdout", self._process.stdout), ("stderr", self._process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> OnpaceProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def stdout(self) -> str:
        """Everything printed so far."""
        return "".join(self._lines["stdout"])

    @property
    def stderr(self) -> str:
        """Everything logged so far."""
        return "".join(self._lines["stderr"])

    def wait(self, timeout_seconds: float = 60) -> int:
        """Wait for the end; return the exit code."""
        code = self._process.wait(timeout_seconds)
        for reader in self._readers:
            reader.join(5)
        return code

    def wait_for(self, text: str, timeout_seconds: float = 30) -> None:
        """Wait until ``text`` stands in the output."""
        until = time.monotonic() + timeout_seconds
        while text not in self.stdout + self.stderr:
            if time.monotonic() > until or self._process.poll() is not None:
                raise AssertionError(f"'{text}' never appeared in:\n{self.stdout}\n{self.stderr}")
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def _read(self, name: str, stream: Any) -> None:
        for line in stream:
            self._lines[name].append(line)


def onpace(*arguments: str | Path, timeout_seconds: float = 60, **options: Any) -> OnpaceProcess:
    """Run ``onpace ARGUMENTS`` to its end."""
    with OnpaceProcess(*arguments, **options) as process:
        process.wait(timeout_seconds)
        return process


def run_with_summary(
    *arguments: str | Path, code: int = 0, timeout_seconds: float = 90, **options: Any
) -> dict[str, Any]:
    """Run ``onpace run ARGUMENTS`` to its end; return the summary. ``code``: the exit code to expect."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "summary.json"
        with OnpaceProcess("run", *arguments, "--summary", path, **options) as process:
            exit_code = process.wait(timeout_seconds)
            assert exit_code == code, f"exit code {exit_code}, expected {code}:\n{process.stdout}\n{process.stderr}"
        summary: dict[str, Any] = json.loads(path.read_text())
        return summary


def balanced(stream: dict[str, Any]) -> bool:
    """Whether a summary's stream accounts for every frame."""
    dropped = sum(sum(reasons.values()) for reasons in stream["dropped"].values())
    return bool(stream["received"] == stream["published"] + dropped + stream["in_flight"])
