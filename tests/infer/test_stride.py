"""Every n-th frame is inferred, the others pass in their place, and what adapts loses nothing that it could carry."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.bounded_queue import BoundedQueue
from pipeline.detections import Detections
from pipeline.infer.batch import Batch, InferredFrame
from pipeline.infer.batcher import Batcher
from pipeline.infer.stride import LONGEST_ADAPTED_SECONDS
from pipeline.infer.terms import Terms, TimeToPublish
from pipeline.infer.waiting import Popped, Waiting
from tests.infer.test_sharing import frame_of

START = 1000.0


def waiting(terms: Terms, frames: int) -> Waiting:
    """A live stream that just put ``frames`` frames into its queue, at ``START``."""
    stream = Waiting(BoundedQueue(max(frames, 1), "drop_oldest"), terms, TimeToPublish())
    for index in range(frames):
        stream.queue.put(frame_of("a", index, START))
    return stream


def indices(popped: Popped) -> tuple[list[int], int | None, list[tuple[int, str]]]:
    return (
        [frame.index for frame in popped.passing],
        popped.frame.index if popped.frame else None,
        [(frame.index, reason) for frame, reason in popped.given_up],
    )


def test_every_third_frame_is_inferred_and_those_between_pass() -> None:
    stream = waiting(Terms(every=3, carries=True), 8)
    assert [indices(stream.pop(START, 60.0)) for _ in range(3)] == [
        ([], 0, []),
        ([1, 2], 3, []),
        ([4, 5], 6, []),
    ]
    assert indices(stream.pop(START, 60.0)) == ([7], None, [])


def test_without_a_tracker_the_frames_between_are_dropped_for_the_stride() -> None:
    stream = waiting(Terms(every=2), 3)
    assert indices(stream.pop(START, 60.0)) == ([], 0, [])
    assert indices(stream.pop(START, 60.0)) == ([], 2, [(1, "stride")])


def test_the_first_frame_of_an_epoch_is_always_inferred() -> None:
    stream = waiting(Terms(every=4, carries=True), 2)
    assert indices(stream.pop(START, 60.0)) == ([], 0, [])
    again = frame_of("a", 2, START)
    object.__setattr__(again, "epoch", 2)
    stream.queue.put(again)
    assert indices(stream.pop(START, 60.0)) == ([1], 2, [])


def overloaded(terms: Terms, seconds: float = 4.0) -> list[tuple[float, Popped]]:
    """What leaves a 30 fps camera's queue when the model takes 0.1 s a frame: three times too much."""
    stream = Waiting(BoundedQueue(8, "drop_oldest"), terms, TimeToPublish())
    taken, sent, now = [], 0, START
    while now < START + seconds:
        while START + sent / 30 <= now:
            stream.queue.put(frame_of("a", sent, START + sent / 30))
            sent += 1
        popped = stream.pop(now, 60.0)
        taken.append((now, popped))
        now += 0.1 if popped.frame else 1 / 30
    return taken


def test_what_adapts_carries_what_the_model_has_no_time_for() -> None:
    taken = overloaded(Terms(adapt=True, carries=True))
    assert not any(popped.given_up for _, popped in taken)
    later = [popped for now, popped in taken if now > START + 1]
    inferred, passed = sum(popped.frame is not None for popped in later), sum(len(popped.passing) for popped in later)
    assert inferred + passed == 90
    assert 2.8 <= (inferred + passed) / inferred <= 3.3
    assert max(now - popped.frame.captured_at for now, popped in taken[20:] if popped.frame) < 0.05
    lost = [popped for _, popped in overloaded(Terms(carries=True)) if popped.given_up]
    assert lost, "without adapt the same load loses frames"


def test_what_adapts_goes_back_to_every_frame_when_there_is_room() -> None:
    stream = waiting(Terms(adapt=True, carries=True), 1)
    for index in range(1, 60):
        assert indices(stream.pop(START + index / 30, 60.0)) == ([], index - 1, [])
        stream.queue.put(frame_of("a", index, START + index / 30))


def test_boxes_are_not_carried_for_ever() -> None:
    stream = Waiting(BoundedQueue(100, "drop_oldest"), Terms(adapt=True, carries=True), TimeToPublish())
    for index in range(61):
        stream.queue.put(frame_of("a", index, START + index / 30))
    assert indices(stream.pop(START, 60.0)) == ([], 0, [])
    passing, frame, given_up = indices(stream.pop(START + 0.1, 60.0))
    assert (passing, frame, given_up) == ([], 1, []), "the queue does not stand yet"
    passing, frame, given_up = indices(stream.pop(START + 2, 60.0))
    within = [index for index in range(2, 60) if (index - 1) / 30 < LONGEST_ADAPTED_SECONDS]
    assert frame == 60
    assert passing == within
    assert given_up == [(index, "stale") for index in range(within[-1] + 1, 60)]


@settings(deadline=None, max_examples=60)
@given(
    every=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    frames=st.integers(0, 40),
    batch_size=st.integers(1, 6),
)
def test_nothing_is_lost_or_overtaken_whatever_the_strides(every: list[int], frames: int, batch_size: int) -> None:
    dropped: list[str] = []
    batcher = Batcher(
        batch_size=batch_size,
        deadline_seconds=0.0,
        max_age_seconds=60.0,
        on_drop=lambda frame, reason: dropped.append(reason),
    )
    for number, stride in enumerate(every):
        terms = Terms(every=stride, carries=True)
        queue = batcher.add_stream(capacity=frames + 1, policy="block", terms=terms)
        for index in range(frames):
            queue.put(frame_of(str(number), index))
        queue.close()
    batcher.close()
    seen: dict[str, list[tuple[int, bool]]] = {str(number): [] for number in range(len(every))}
    while (batch := batcher.take()) is not None:
        assert len(batch.frames) <= batch_size
        batch.inferred = [InferredFrame(frame, Detections.empty(), 0.0, 0.0, 0.0) for frame in batch.frames]
        for result in batch.results():
            seen[result.frame.stream_id].append((result.frame.index, result.carried))
    assert not dropped
    for number, stride in enumerate(every):
        assert seen[str(number)] == [(index, index % stride != 0) for index in range(frames)]


def test_results_of_several_streams_come_in_turns_so_that_they_are_tracked_together() -> None:
    batch = Batch(0, [], passing=[frame_of(name, index) for name in "ab" for index in range(2)])
    assert [(one.frame.stream_id, one.frame.index) for one in batch.results()] == [
        ("a", 0),
        ("b", 0),
        ("a", 1),
        ("b", 1),
    ]
