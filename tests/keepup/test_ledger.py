from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pytest import raises

from pipeline.keepup.ledger import PLACES, Ledger

places = st.sampled_from(PLACES)
counts = st.integers(1, 5)


class AnyInterleaving(RuleBasedStateMachine):
    """A plain model beside the ledger: frames are held in lists, and what is not held cannot leave."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.held = dict.fromkeys(PLACES, 0)
        self.received = self.published = 0
        self.dropped: dict[str, dict[str, int]] = {}

    def take(self, place: str, frames: int) -> bool:
        if self.held[place] < frames:
            return False
        self.held[place] -= frames
        return True

    @rule(frames=counts)
    def receive(self, frames: int) -> None:
        self.ledger.receive(frames)
        self.received += frames
        self.held["decode"] += frames

    @rule(origin=places, towards=places, frames=counts)
    def move(self, origin, towards, frames) -> None:
        if self.take(origin, frames):
            self.ledger.move(origin, towards, frames)
            self.held[towards] += frames
        else:
            with raises(ValueError, match=f"leave '{origin}'"):
                self.ledger.move(origin, towards, frames)

    @rule(origin=places, stage=st.sampled_from(["decode", "infer"]), reason=st.sampled_from(["queue_full", "damaged"]))
    def drop(self, origin, stage, reason) -> None:
        if self.take(origin, 1):
            self.ledger.drop(origin, stage, reason)
            reasons = self.dropped.setdefault(stage, {})
            reasons[reason] = reasons.get(reason, 0) + 1
        else:
            with raises(ValueError, match="only 0 are there"):
                self.ledger.drop(origin, stage, reason)

    @rule(frames=counts)
    def publish(self, frames: int) -> None:
        if self.take("publish", frames):
            self.ledger.publish(frames)
            self.published += frames
        else:
            with raises(ValueError, match="leave 'publish'"):
                self.ledger.publish(frames)

    @invariant()
    def nothing_disappears_uncounted(self) -> None:
        snapshot = self.ledger.snapshot()
        assert snapshot.balanced
        assert snapshot.received == self.received
        assert snapshot.published == self.published
        assert snapshot.dropped == self.dropped
        assert snapshot.in_flight == self.held


AnyInterleaving.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_ledger_balances_after_any_interleaving = AnyInterleaving.TestCase
