"""What goes wrong again and again is said once, by all slots together, and again only after a while."""

from __future__ import annotations

import logging

import pytest

from pipeline.errors import StageError
from pipeline.infer.batch import Batch, FailedFrame
from pipeline.infer.infer_step import SlotStep
from pipeline.infer.notices import AGAIN_SECONDS, Notices
from pipeline.infer.run_pace import RunPace
from pipeline.keepup.load import BusyClock
from pipeline.stage import StageThread
from tests.infer.test_sharing import frame_of


class Failing(SlotStep):
    """Fails every frame with the same words."""

    def _work(self, batch: Batch) -> None:
        batch.failed.extend(FailedFrame(frame, "postprocess", "no numbers") for frame in batch.frames)


def failing(notices: Notices) -> Failing:
    step = Failing(BusyClock(), RunPace(just_in_time=lambda: False))
    step.share(notices)
    return step


def test_a_message_is_said_again_after_a_minute() -> None:
    now = [0.0]
    notices = Notices(lambda: now[0])
    assert [notices.is_new("a"), notices.is_new("a"), notices.is_new("b")] == [True, False, True]
    now[0] = AGAIN_SECONDS
    assert notices.is_new("a")


def test_slots_that_fail_alike_say_it_once_and_one_of_them_ends_the_pipeline(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    notices, ended = Notices(), []
    for step in (failing(notices), failing(notices)):
        try:
            for number in range(12):
                step(Batch(number, [frame_of("yard", number)], 0.0))
        except StageError as error:
            ended.append(str(error))
    assert [record.message for record in caplog.records] == ["stream yard: postprocess failed: no numbers"]
    assert ended == ["10 batches in a row failed: no numbers"]


@pytest.mark.parametrize(
    ("error", "tracebacks"), [(StageError("no numbers", stage="infer"), 0), (KeyError("a bug"), 1)]
)
def test_only_an_error_that_nobody_expected_is_logged_with_a_traceback(
    error: Exception, tracebacks: int, caplog: pytest.LogCaptureFixture
) -> None:
    def body() -> None:
        raise error

    told: list[BaseException] = []
    thread = StageThread("infer-0", body, on_failure=told.append)
    thread.start()
    assert thread.join(10)
    assert told == [error]
    assert caplog.text.count("infer-0 failed") == 1
    assert caplog.text.count("Traceback") == tracebacks
