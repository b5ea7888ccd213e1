"""Whose turn it is: capacity goes first to streams below their ``min_fps``, then to all by weight."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.infer.waiting import Waiting

_CREDIT_FRAMES = 2.0
_OWED_SECONDS = 1.0
_LATELY_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 1.0


class Turns:
    """The turns of all streams (start-time fair queueing). Not thread-safe. Times are monotonic seconds.

    ``Waiting.turn`` counts the frames that a stream was given, over its weight: whoever waits and has the lowest is
    next. A stream that brought nothing may catch up a little, not on all it never sent: on two frames, or on what one
    frame of the lightest stream is worth. The clock that absence is measured by goes in steps of that size: a heavy
    stream that has nothing for the moment, and lets a light one pass, would otherwise lose several turns by it.
    """

    def __init__(self) -> None:
        self._clock = 0.0
        self._largest_step = 0.0
        self._look_at = float("-inf")

    @staticmethod
    def next_of(streams: Sequence[Waiting], now: float) -> Waiting | None:
        """Return the stream that is to have the next frame; None when nothing waits."""
        chosen: Waiting | None = None
        owed: Waiting | None = None
        for stream in streams:
            if not stream.items:
                continue
            if stream.due_at <= now and (owed is None or stream.due_at < owed.due_at):
                owed = stream
            if chosen is None or stream.turn < chosen.turn:
                chosen = stream
        return owed or chosen

    def served(self, stream: Waiting, streams: Sequence[Waiting], now: float) -> None:
        """``stream``, one of ``streams``, was given a frame."""
        terms = stream.terms
        stream.served_at = now
        if now >= self._look_at:
            self._look_at = now + _LOOK_AGAIN_SECONDS
            lately = now - _LATELY_SECONDS
            self._largest_step = max(1.0 / other.terms.weight for other in streams if other.served_at >= lately)
        began = max(stream.turn, self._clock - max(_CREDIT_FRAMES / terms.weight, self._largest_step))
        stream.turn = began + 1.0 / terms.weight
        if terms.min_fps:
            owed = stream.due_at <= now
            stream.due_at = max(stream.due_at, now - _OWED_SECONDS) + 1.0 / terms.min_fps
            if owed:  # out of turn: the turns of the others stand where they stood
                return
        self._clock = max(self._clock, began)
