"""A file that ends too early: all of it is published, and nobody takes it for the whole."""

from __future__ import annotations

import av
import pytest

from tests.helpers.cut_movie import PICTURES, cut_movie
from tests.helpers.onpace_process import OnpaceProcess, balanced, onpace, run_with_summary

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    return cut_movie(tmp_path_factory.mktemp("cut") / "cut.mp4", share=0.5)


def test_what_there_is_is_published_and_the_exit_code_tells_that_more_was_due(cut, models, tmp_path):
    with av.open(str(cut)) as container:
        decodable = 0
        for packet in container.demux(video=0):
            try:
                decodable += len(packet.decode())
            except av.error.InvalidDataError:  # the one that is cut
                continue
    summary = run_with_summary(cut, "--model", models / "nothing.onnx", code=1)
    (stream,) = summary["streams"]
    assert 0 < decodable < PICTURES
    assert stream["published"] == decodable
    assert balanced(stream)
    assert (
        f"it ends after {stream['received']} of {PICTURES} pictures"
        in onpace("run", cut, "--model", models / "nothing.onnx").stderr
    )


def test_played_over_and_over_it_is_said_once(cut, models):
    arguments = ("run", cut, "--loop", "--for", "4s", "--model", models / "nothing.onnx")
    with OnpaceProcess(*arguments) as process:
        assert process.wait() == 0
    assert process.stderr.count("It is repeated all the same.") == 1
    assert process.stderr.count("ends after") == 1
