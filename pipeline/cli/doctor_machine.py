"""What ``onpace doctor`` finds out about the machine: cores, instructions, memory, cameras."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Status = Literal["ok", "missing", "warning", "error"]

_FAST_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    section: str
    name: str
    status: Status
    detail: str
    remedy: str | None = None
    """What to do about it; None where nothing has to be done."""


def examine_machine(root: Path = Path("/")) -> Iterator[Finding]:
    """Yield what the machine offers. ``root`` stands for ``/`` where another tree is examined."""
    yield Finding("machine", "system", "ok", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield _cores(root)
    yield _flags(root)
    yield _memory(root)
    yield from _cameras(root)


def _cores(root: Path) -> Finding:
    present = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else present
    quota = cpu_quota(root)
    if quota is not None and quota < usable:
        detail = f"{quota:g} of {present} usable: the container's limit (cgroup)"
        if quota < 1:
            return Finding("machine", "cores", "warning", detail, "Give the container at least one whole core.")
        return Finding("machine", "cores", "ok", detail)
    reason = "" if usable == present else ": the process is bound to these (affinity)"
    return Finding("machine", "cores", "ok", f"{usable} of {present} usable{reason}")


def cpu_quota(root: Path) -> float | None:
    """Return how many cores the control group allows; None where it sets no limit."""
    quotas = []
    for folder in _groups(root, "cpu"):
        text = _read(folder / "cpu.max")  # version 2
        if text is None:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
            text = f"{quota} {period}"
        numbers = text.split()
        if len(numbers) == 2 and all(number.isdigit() and int(number) for number in numbers):
            quotas.append(int(numbers[0]) / int(numbers[1]))
    return min(quotas, default=None)


def memory_limit(root: Path) -> int | None:
    """Return the bytes that the control group allows; None where it sets no limit."""
    limits = []
    for folder in _groups(root, "memory"):
        text = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes") or ""
        if text.isdigit() and int(text) < 1 << 60:  # version 1 writes "no limit" as a huge number
            limits.append(int(text))
    return min(limits, default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and of those around it, of either version."""
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            mount = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            mount = root / "sys/fs/cgroup" / controller
        else:
            continue
        folder = mount / group.lstrip("/")
        while folder != mount and mount in folder.parents:
            yield folder
            folder = folder.parent
        yield mount


def _flags(root: Path) -> Finding:
    present: set[str] = set()
    for line in (_read(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            present.update(value.split())
    found = [flag for flag in _FAST_FLAGS if flag in present]
    int8 = any("vnni" in flag or flag in ("amx_int8", "asimddp", "i8mm") for flag in found)
    if not found:
        return Finding(
            "machine", "instructions", "warning", "none of AVX2, AVX-512, NEON found: inference will be slow"
        )
    return Finding(
        "machine", "instructions", "ok", ", ".join(found) + ("; INT8 is fast" if int8 else "; no fast INT8 (VNNI)")
    )


def _memory(root: Path) -> Finding:
    fields = dict(line.split(":", 1) for line in (_read(root / "proc/meminfo") or "").splitlines() if ":" in line)
    sizes = {key: int(value.split()[0]) * 1024 for key, value in fields.items() if value.split()[0].isdigit()}
    total, available = sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)
    limit = memory_limit(root)
    detail = f"{_gib(available)} available of {_gib(total)}"
    if limit is not None and limit < total:
        available = min(available, limit)
        detail += f"; the container's limit is {_gib(limit)} (cgroup)"
    if available < 512 * 1024 * 1024:
        return Finding("machine", "memory", "warning", detail, "A camera and a small model want 300 MB; free some.")
    return Finding("machine", "memory", "ok", detail)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _cameras(root: Path) -> Iterator[Finding]:
    devices = sorted((root / "dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    if not devices:
        yield Finding("cameras", "usb", "missing", "no /dev/video*. Network cameras and files do not need one.")
    for device in devices:
        name = str(device)
        if os.access(device, os.R_OK | os.W_OK):
            yield Finding("cameras", name, "ok", f"may be opened as camera:{name}")
        else:
            remedy = 'Join its group: sudo usermod -aG video "$USER", then log in again.'
            yield Finding("cameras", name, "error", "this user may not open it", remedy)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
