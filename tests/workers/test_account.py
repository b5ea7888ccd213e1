"""What a lost worker's frames amount to: sums that stay exact, from what is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.load import config_from_mapping
from pipeline.keepup.ledger import LedgerSnapshot
from pipeline.keepup.meter import StreamMeter
from pipeline.keepup.settings import KeepupSettings
from pipeline.part import Past
from pipeline.plan import plan_stream
from pipeline.publish.sink import Encoded
from pipeline.samples import find_sample
from pipeline.workers.account import Account
from pipeline.workers.share import assign, workers_for
from pipeline.workers.wire import DETECTIONS, Frames, detections_frame, read_detections

CONFIG = config_from_mapping(
    {
        "streams": [{"id": f"s{number}", "url": "pattern:", "realtime": True} for number in range(5)],
        "infer": {"model": str(find_sample("street.onnx"))},
        "keepup": {"max_age": "1s"},
    },
    origin="test",
)


def account_of(past=Past()):  # noqa: B008 (frozen)
    return Account(plan_stream(CONFIG.streams[0], CONFIG), CONFIG.keepup, 1, past)


def reported(received, published, dropped, state="live"):
    """A worker's report of its stream."""
    status = StreamMeter("s0", KeepupSettings(), live=True).snapshot(0.0)
    flying = received - published - dropped
    lost = {"decode": {"queue_full": dropped}} if dropped else {}
    return replace(status, state=state, ledger=LedgerSnapshot(received, published, lost, {"queue": flying}))


lives = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["published", "dropped", "flying"]), max_size=30),  # as of the last report
        st.lists(st.sampled_from(["published", "dropped", "flying"]), max_size=10),  # and what came after it
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(lives=lives)
def test_every_frame_up_to_the_last_message_or_report_is_in_the_sums(lives):
    """Frames leave in order here; the ones in flight at the report may still be published after it, or be lost."""
    account = account_of()
    sequence = known = published = 0
    for number, (before, after) in enumerate(lives, 1):
        fates = before + after
        first = account.past.frames
        last_message = max((place + 1 for place, fate in enumerate(fates) if fate == "published"), default=0)
        for place, fate in enumerate(fates):
            if fate == "published":
                sequence += 1
                account.forward(Encoded("s0", number, sequence, first + place, b"", b""))
        account.report(reported(len(before), before.count("published"), before.count("dropped")))
        account.lose("gone", now=1.0)
        known += max(len(before), last_message)
        published += fates.count("published")
        ledger = account.status(2.0).ledger
        assert ledger.balanced
        assert (ledger.received, ledger.published, ledger.in_flight_total) == (known, published, 0)
        assert account.past == Past(sequence, number if "published" in fates else account.past.epoch, known)
    shown = account.status(2.0)
    assert (shown.state, shown.verdict, shown.cause) == ("waiting", "reconnecting", "gone")
    assert account.status(32.0).verdict == "offline"


def test_a_stream_that_was_there_before_goes_on_from_its_past():
    account = account_of(Past(sequence=70, epoch=3, frames=100))
    account.forward(Encoded("s0", 4, 71, 104, b"", b""))  # the fifth frame: four were dropped, or are under way
    account.lose("gone", now=1.0)
    assert account.past == Past(71, 4, 105)
    assert account.status(1.0).ledger == LedgerSnapshot(5, 1, {"worker": {"worker_lost": 4}}, {})


def test_streams_are_spread_evenly_and_always_alike():
    assert assign(CONFIG.streams, 2) == [0, 1, 0, 1, 0]
    slow = [stream.model_copy(update={"max_fps": 5.0}) for stream in CONFIG.streams[1:]]
    assert assign([CONFIG.streams[0], *slow], 2) == [0, 1, 1, 1, 1]


@settings(deadline=None)
@given(
    messages=st.lists(
        st.builds(
            Encoded,
            stream_id=st.sampled_from(["a", "lobby-cam", "x" * 64]),
            epoch=st.integers(0, 2**60),
            sequence=st.integers(0, 2**60),
            frame_index=st.integers(0, 2**60),
            msgpack=st.binary(max_size=80),
            json=st.binary(max_size=80),
        ),
        max_size=8,
    ),
    cuts=st.lists(st.integers(0, 2000)),
)
def test_what_is_written_in_pieces_is_read_whole(messages, cuts):
    data = b"".join(map(detections_frame, messages))
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    frames = Frames()
    read = [
        body for begin, end in pairwise(places) for kind, body in frames.feed(data[begin:end]) if kind == DETECTIONS
    ]
    assert [read_detections(body) for body in read] == messages


@pytest.mark.parametrize(
    ("streams", "cores", "workers"),
    [(0, 16, 1), (1, 16, 1), (10, 16, 1), (11, 16, 2), (140, 16, 14), (140, 4, 3), (28, 2, 1), (28, 1, 1)],
)
def test_workers_are_as_many_as_the_streams_need_and_the_cores_allow(streams, cores, workers):
    assert workers_for(streams, cores) == workers
