"""Which packets need no decoding: what would become of their pictures is clear, and no other picture needs them."""

from __future__ import annotations

from pipeline.bounded_queue import BoundedQueue
from pipeline.clock import monotonic
from pipeline.decode.disposable import open_disposable
from pipeline.frame import Frame, Packet, StreamInfo
from pipeline.infer.outlook import Outlook
from pipeline.keepup.picture_watch import SAMPLE_SECONDS, PictureWatch
from pipeline.thinning import Thinning


class BeforeDecode:
    """One connection's packets, before they are decoded. Not thread-safe."""

    def __init__(
        self,
        info: StreamInfo,
        queue: BoundedQueue[Frame],
        thinning: Thinning,
        outlook: Outlook,
        watch: PictureWatch | None,
    ) -> None:
        """``watch`` has to see a picture now and then, whatever becomes of it."""
        self._disposable = open_disposable(info)
        self._live = info.live
        self._queue = queue
        self._thinning = thinning
        self._outlook = outlook
        self._watch = watch

    def leave_out(self, packet: Packet, *, decoding: bool) -> str:
        """Return why a packet is left out, the reason its frame is dropped for; empty where it is to be decoded.

        Call for every packet, in order. ``decoding``: those before it became pictures.
        """
        if self._disposable is None:
            return ""
        keyframe = getattr(packet.payload, "is_keyframe", True)  # what is no coded packet depends on no other
        if not self._live and not keyframe and self._thinning.is_idle:  # it can wait: no frame overtakes another
            return ""
        now = monotonic()
        thinned = self._thinning.would_leave_out(packet.captured_at)
        if not thinned:
            self._outlook.arrived(packet.received_at)
        in_vain = bool(thinned) or self._is_overtaken(now)
        # Parameters that tell what can be left out come with keyframes.
        if not ((in_vain or keyframe) and self._disposable(packet) and in_vain and decoding):
            return ""
        # Pictures between keyframes are not all left out: the next one will do, unless it is long in coming.
        patience = 0.0 if keyframe else SAMPLE_SECONDS
        if self._watch is not None and self._watch.wants(now - patience, keyframe=keyframe):
            return ""
        self._thinning.leave_out(packet.captured_at)
        if thinned:
            return thinned
        self._outlook.left_out(now)
        return self._outlook.reason

    def _is_overtaken(self, now: float) -> bool:
        """Whether a fresher frame will come before one is taken, and one waits already should that go wrong."""
        return bool(self._outlook.reason) and len(self._queue) > 0 and self._outlook.is_overtaken(now)
