"""Steering a running pipeline: what is asked for happens to that stream, and to no other."""

from __future__ import annotations

import itertools

import pytest

from tests.dashboard.steering import Steered, steered, wait_until
from tests.helpers.numbered_clip import NumberedClip
from tests.helpers.rtsp_process import RtspServerProcess
from tests.helpers.tiny_onnx import PlantedBox, planted_detector


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Finds one sure and one doubtful object in every picture, and costs next to nothing."""
    boxes = [PlantedBox((20, 20, 60, 60), score=0.9), PlantedBox((90, 20, 130, 60), score=0.3)]
    return planted_detector(tmp_path_factory.mktemp("models") / "planted.onnx", (160, 96), boxes)


@pytest.fixture(scope="module")
def running(planted):
    """A pipeline with the stream s0, which nobody touches: its frames must not notice anything."""
    with steered(planted) as found:
        found.wait_for_frames("s0")
        yield found
        messages = found.of("s0")
        assert [message.sequence for message in messages] == list(range(1, len(messages) + 1))
        assert {message.epoch for message in messages} == {1}
        [status] = [one for one in found.pipeline.status() if one.stream_id == "s0"]
        reasons = {reason for reasons in status.ledger.dropped.values() for reason in reasons}
        assert reasons <= {"queue_full", "stale", "deadline"}, "a busy machine may lose frames; steering others may not"


_names = (f"n{number}" for number in itertools.count())


@pytest.fixture
def name(running):
    """A stream's name that no other test uses; whatever has it is removed afterwards."""
    found = next(_names)
    yield found
    running.ask("DELETE", f"/api/streams/{found}")


def epochs(running: Steered, name: str) -> list[int]:
    return sorted({message.epoch for message in running.of(name)})


def test_an_added_stream_is_listed_and_published(running, name):
    facts = running.add(name, weight=2, deadline="5s")
    assert (facts["id"], facts["weight"], facts["deadline"], facts["live"]) == (name, 2.0, "5s", True)
    running.wait_for_frames(name)
    listed = running.ask("GET", "/api/streams")[1]["streams"]
    assert [stream["id"] for stream in listed] == ["s0", name]
    assert listed[1]["status"]["published"] > 0
    first = running.of(name)[0]
    assert (first.sequence, first.epoch, first.frame_index) == (1, 1, 0)


def test_a_tracked_stream_added_to_untracked_ones_gets_identities_and_their_thresholds_stay(running, name):
    running.add(name, tracker="bytetrack")
    wait_until(lambda: any(one.track_id for message in running.of(name) for one in message.objects), "an identity")
    assert all(one.track_id is None for message in running.of("s0") for one in message.objects)
    assert all(len(message.objects) == 2 for message in running.of("s0"))


def test_a_paused_stream_keeps_still_and_comes_back_in_a_new_epoch(running, name):
    running.add(name)
    running.wait_for_frames(name)
    status, facts = running.ask("POST", f"/api/streams/{name}/pause")
    assert (status, facts["paused"]) == (200, True)
    wait_until(lambda: running.stream(name)["status"]["state"] == "paused", "the pause")
    wait_until(lambda: running.stream(name)["status"]["in_flight"] == 0, "the queue to be empty")
    before = running.stream(name)["status"]
    running.wait_for_frames("s0", 10)
    still = running.stream(name)["status"]
    assert (still["verdict"], still["received"]) == ("paused", before["received"])
    assert running.ask("POST", f"/api/streams/{name}/resume")[1]["paused"] is False
    wait_until(lambda: epochs(running, name) == [1, 2], "the second epoch")
    assert running.stream(name)["status"]["reconnects"] == 0
    indices = [message.frame_index for message in running.of(name)]
    assert indices == sorted(set(indices)), "frames are counted over all epochs"


def test_a_restarted_stream_begins_a_new_epoch_also_out_of_a_pause(running, name):
    running.add(name)
    running.wait_for_frames(name)
    running.ask("POST", f"/api/streams/{name}/restart")
    wait_until(lambda: epochs(running, name) == [1, 2], "the second epoch")
    running.ask("POST", f"/api/streams/{name}/pause")
    running.ask("POST", f"/api/streams/{name}/restart")
    wait_until(lambda: epochs(running, name)[-1] > 2, "another epoch")
    assert running.stream(name)["status"]["reconnects"] == 0


def test_a_removed_stream_leaves_an_exact_ledger_and_a_last_status(running, name):
    running.add(name)
    running.wait_for_frames(name)
    status, removed = running.ask("DELETE", f"/api/streams/{name}")
    dropped = sum(count for reasons in removed["dropped"].values() for count in reasons.values())
    assert (status, removed["gone"], removed["in_flight"]) == (200, True, 0)
    assert removed["received"] == removed["published"] + dropped
    assert removed["published"] == len(running.of(name))
    last = [message for message in running.statuses if message.stream_id == name][-1]
    assert (last.verdict, last.in_flight, last.sequence) == ("ended", 0, removed["published"])
    assert running.ask("GET", f"/api/streams/{name}")[0] == 404
    assert name not in running.pipeline.times.ages
    running.add(name)
    running.wait_for_frames(name)
    anew = running.of(name)[removed["published"]]
    assert (anew.epoch, anew.sequence) == (2, removed["published"] + 1), "subscribers tell old from new"


def test_a_rate_a_threshold_and_a_deadline_change_while_it_plays(running, name):
    running.add(name)
    running.wait_for_frames(name)
    changes = {"max_fps": 5, "score_threshold": 0.5, "deadline": "2s", "min_fps": 1, "weight": 0.5}
    status, facts = running.ask("PATCH", f"/api/streams/{name}", changes)
    assert (status, {key: facts[key] for key in changes}) == (200, changes)
    before = len(running.of(name)) + 3  # some may have been on their way
    wait_until(lambda: len(running.of(name)) > before + 8, "frames at the new rate")
    times = [message.capture_utc for message in running.of(name)[before:]]
    assert (len(times) - 1) / (times[-1] - times[0]) < 6.5
    assert all(len(message.objects) == 1 for message in running.of(name)[before:])
    assert running.stream(name)["status"]["dropped"]["decode"]["rate"] > 0
    back = running.ask("PATCH", f"/api/streams/{name}", {"deadline": None, "max_fps": None, "score_threshold": None})[1]
    assert (back["deadline"], back["max_fps"], back["score_threshold"], back["min_fps"]) == ("auto", None, 0.25, 1.0)


def test_a_stream_held_to_a_lower_rate_keeps_pace(planted):
    limited = {"id": "s", "url": "pattern:?size=64x64&fps=50", "realtime": True, "max_fps": 5}
    with steered(planted, limited, keepup={"window": "1s", "hysteresis": "500ms"}) as found:
        wait_until(lambda: found.stream("s")["status"]["verdict"] == "keeping_up", "the verdict")
        found.wait_for_frames("s", 10)
        verdicts = {message.verdict for message in found.statuses}
    assert verdicts <= {"starting", "keeping_up"}


def test_a_camera_is_let_go_by_a_pause_and_opened_again(running, name, tmp_path):
    clip = NumberedClip.make(tmp_path, fps=25, frames=50)
    with RtspServerProcess() as server:
        camera = server.add_camera("door", clip)
        running.add(name, camera.url)
        running.wait_for_frames(name)
        running.ask("POST", f"/api/streams/{name}/pause")
        assert camera.wait_for_playing(0)
        running.ask("POST", f"/api/streams/{name}/resume")
        assert camera.wait_for_playing(1)
        wait_until(lambda: epochs(running, name) == [1, 2], "the second epoch")
        assert running.ask("DELETE", f"/api/streams/{name}")[1]["gone"] is True
        assert camera.wait_for_playing(0)


@pytest.mark.parametrize("stay", [True, False])
def test_when_the_last_stream_is_gone_it_ends_unless_it_was_told_to_stay(planted, stay):
    with steered(planted, dashboard={"stay": stay}) as found:
        found.wait_for_frames("s0", 1)
        assert found.ask("DELETE", "/api/streams/s0")[1]["gone"] is True
        assert found.pipeline.wait(3.0 if not stay else 0.5) is not stay
        if stay:
            assert found.ask("GET", "/api/streams")[1]["streams"] == []
            found.add("next")
            found.wait_for_frames("next", 1)
        else:
            status, refusal = found.ask("POST", "/api/streams", {"id": "late", "url": "pattern:"})
            assert (status, refusal["error"]["code"]) == (409, "conflict")


def test_an_ended_file_cannot_be_paused_and_a_stream_that_waits_can_be_stopped_at_once(planted):
    with steered(planted, {"id": "file", "url": "pattern:?size=64x64&frames=3"}) as found:
        wait_until(lambda: found.stream("file")["status"]["verdict"] == "ended", "its end")
        status, refusal = found.ask("POST", "/api/streams/file/pause")
        assert (status, refusal["error"]["code"]) == (409, "conflict")
        found.add("idle")
        found.ask("POST", "/api/streams/idle/pause")
        found.pipeline.stop()
        assert found.pipeline.wait(10), "a paused stream ends, too"


def test_slots_wait_for_the_freshest_frame_only_while_no_file_plays(running, name):
    streams = running.pipeline.streams
    assert streams.all_live()
    running.add(name, "pattern:?size=64x64&fps=25", realtime=False)
    assert not streams.all_live(), "a file waits for us, and the engine for nobody"
    assert running.ask("DELETE", f"/api/streams/{name}")[0] == 200
    assert streams.all_live()
