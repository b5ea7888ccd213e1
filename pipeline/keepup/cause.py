"""The cause line: which stage is in the way, and the evidence for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.errors import Cause
from pipeline.keepup.load import StageLoad
from pipeline.keepup.picture_watch import BLACK_SECONDS, FROZEN_SECONDS, PictureState
from pipeline.keepup.settings import KeepupSettings

BUSY = 0.85
"""Utilisation from which a stage counts as used up: with waiting in between, few get higher."""
_FULL = 0.75
_SLOWER = 0.8
_ADAPTED = 1.02
"""A stride is longer than asked for from so many times on."""
_CLOCK_SUSPECT_SECONDS = 2.0
"""Cameras and networks that hold pictures for longer are rarer than cameras whose clock is wrong."""

PHRASES: dict[Cause, str] = {
    Cause.REFUSED: "connection refused",
    Cause.UNREACHABLE: "unreachable",
    Cause.UNAUTHORISED: "not authorised: check username and password",
    Cause.NOT_FOUND: "not found: check the address",
    Cause.BUSY: "the camera has no session left",
    Cause.UNSUPPORTED: "cannot be decoded here",
    Cause.STALLED: "connected, but sent no pictures",
    Cause.ENDED: "the camera ended the stream",
    Cause.CORRUPT: "undecodable for too long",
    Cause.FAILED: "failed",
}


class CauseLine(NamedTuple):
    """Why a verdict is not better."""

    stage: str
    """The stage in the way, "camera" for what lies before us, or empty."""
    text: str
    """One line with the evidence; empty while all is well."""


ALL_IS_WELL = CauseLine("", "")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a cause is decided from: figures of the window."""

    cadence_fps: float | None
    usual_fps: float | None
    """Median cadence over the stream's life."""
    published_fps: float | None
    age_p95: float | None
    wait_p95: float | None
    service_p95: float | None
    """All ages and times in seconds."""
    inferred_every: float | None = None
    """Frames for each one that the model saw."""
    input_size: tuple[int, int] | None = None
    """Width and height, in pixels, at which it saw the last one."""


def busiest(loads: Sequence[StageLoad]) -> StageLoad | None:
    """Return the stage in the way, or None when none stands out.

    The busiest of those that are used up; among equals (within 5 %) the one with the fuller queue in front of it, and
    then the later one, because a full stage fills those before it. Where none is used up, the last one with a full
    queue: it waits for something that is not its own work.
    """
    busy = [(round(load.utilisation * 20), load.fill, place) for place, load in enumerate(loads)]
    used_up = [key for key in busy if loads[key[2]].utilisation >= BUSY]
    if used_up:
        return loads[max(used_up)[2]]
    full = [load for load in loads if load.fill >= _FULL]
    return full[-1] if full else None


def load_line(load: StageLoad) -> str:
    """Return "busy 99 %, queue 2/2": one stage's evidence."""
    workers = f" of {load.workers} workers" if load.workers > 1 else ""
    queue = f", queue {load.queue_frames}/{load.queue_capacity}" if load.queue_capacity else ""
    return f"busy {load.utilisation:.0%}{workers}{queue}".replace("%", " %")


def pace_cause(loads: Sequence[StageLoad], evidence: Evidence, settings: KeepupSettings) -> CauseLine:
    """Return why a live stream is falling behind or overloaded."""
    rates = _rates(evidence) + _smaller(evidence, settings)
    stage = busiest(loads)
    if stage is not None and stage.utilisation >= BUSY:
        return CauseLine(stage.stage, f"{stage.stage} is the limit: {load_line(stage)}{rates}")
    upstream = _transport_seconds(evidence)
    if upstream is not None and upstream > max(0.5 * settings.max_age_seconds, (evidence.age_p95 or 0.0) / 2):
        where = "camera or network" if upstream < _CLOCK_SUSPECT_SECONDS else "camera, network, or its clock is behind"
        return CauseLine("camera", f"frames reach us {upstream:.2f} s after capture ({where}){rates}")
    if stage is not None:
        text = f"{stage.stage} waits, though not for its own work: {load_line(stage)} (CPU taken by others?){rates}"
        return CauseLine(stage.stage, text)
    nearest = max(loads, key=lambda load: load.utilisation, default=None)
    if nearest is None:
        return CauseLine("", f"frames are lost{rates}")
    times = ""
    if evidence.wait_p95 is not None and evidence.service_p95 is not None:
        times = f", p95 wait {evidence.wait_p95:.2f} s, work {evidence.service_p95:.2f} s"
    text = f"{nearest.stage} is the busiest, not used up: {load_line(nearest)}{times} (bursts, or CPU taken by others?)"
    return CauseLine(nearest.stage, text + rates)


def stuck_cause(loads: Sequence[StageLoad], silent_seconds: float) -> CauseLine:
    """Return why frames enter and none leave."""
    stage = busiest(loads) or max(loads, key=lambda load: load.utilisation, default=None)
    if stage is None:
        return CauseLine("", f"nothing published for {silent_seconds:.1f} s")
    return CauseLine(stage.stage, f"{stage.stage}: nothing published for {silent_seconds:.1f} s, {load_line(stage)}")


def given_up_cause(stage: str, reason: str, silent_seconds: float) -> CauseLine:
    """Return why frames enter and all of them are dropped."""
    return CauseLine(stage, f"{stage} gives up every frame ({reason}): nothing published for {silent_seconds:.1f} s")


def silent_cause(silent_seconds: float, *, live: bool) -> CauseLine:
    """Return why nothing enters although the stream is connected."""
    return CauseLine("camera", f"{'camera' if live else 'source'} delivers nothing for {silent_seconds:.1f} s")


def picture_cause(state: PictureState) -> CauseLine:
    """Return what is wrong with pictures that arrive."""
    if state == "black":
        return CauseLine("camera", f"pictures are black for {BLACK_SECONDS:.0f} s or more (lens covered, no light?)")
    return CauseLine("camera", f"pictures arrive, but do not change for {FROZEN_SECONDS:.0f} s or more (camera hangs?)")


def stride_cause(evidence: Evidence, settings: KeepupSettings) -> CauseLine | None:
    """Return what keeping pace takes: a stride that has grown beyond what was asked for. None where it has not."""
    every = evidence.inferred_every
    if every is None or evidence.cadence_fps is None or every < _ADAPTED * settings.every:
        return None
    rates = f"{evidence.cadence_fps / every:.1f} of {evidence.cadence_fps:.1f} fps"
    return CauseLine("infer", f"infers one frame in {every:.1f} to keep pace ({rates}), not one in {settings.every}")


def resolution_cause(evidence: Evidence, settings: KeepupSettings) -> CauseLine | None:
    """Return what keeping pace takes: an input that is smaller than what was asked for. None where it is not."""
    smaller = _smaller(evidence, settings)
    return CauseLine("infer", f"infers{smaller.removeprefix(',')} to keep pace") if smaller else None


def slow_camera_cause(evidence: Evidence) -> CauseLine:
    """Return a hint while all is well but the camera delivers clearly less than it usually does."""
    cadence, usual = evidence.cadence_fps, evidence.usual_fps
    if cadence is None or usual is None or cadence >= _SLOWER * usual:
        return ALL_IS_WELL
    return CauseLine("camera", f"camera delivers {cadence:.1f} fps, usually {usual:.1f}")


def connection_cause(cause: Cause | None, error: str) -> CauseLine:
    """Return why a stream is not connected. ``error`` is redacted by whoever caught it."""
    phrase = PHRASES[cause] if cause is not None else "not connected"
    return CauseLine("camera", f"{phrase} ({error})" if error else phrase)


def _rates(evidence: Evidence) -> str:
    if evidence.published_fps is None or evidence.cadence_fps is None:
        return ""
    return f", {evidence.published_fps:.1f} of {evidence.cadence_fps:.1f} fps published"


def _smaller(evidence: Evidence, settings: KeepupSettings) -> str:
    """Return ", at 416 instead of 640"; empty at full size."""
    now, full = evidence.input_size, settings.input_size
    return "" if now is None or full is None or now == full else f", at {_side(now)} instead of {_side(full)}"


def _side(size: tuple[int, int]) -> str:
    width, height = size
    return str(width) if width == height else f"{width}x{height}"


def _transport_seconds(evidence: Evidence) -> float | None:
    if evidence.age_p95 is None:
        return None
    return evidence.age_p95 - (evidence.wait_p95 or 0.0) - (evidence.service_p95 or 0.0)
