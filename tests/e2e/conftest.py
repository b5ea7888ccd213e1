"""What every end-to-end test shares: small detectors made on the spot, a numbered clip, a camera server."""

import pytest

from tests.helpers.numbered_clip import NumberedClip
from tests.helpers.rtsp_process import RtspServerProcess
from tests.helpers.tiny_onnx import PlantedBox, colour_detector, do_nothing_detector, planted_detector, working_detector


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of detectors: nothing, planted, doubtful, working, colours."""
    folder = tmp_path_factory.mktemp("models")
    do_nothing_detector(folder / "nothing.onnx", size=(160, 96))
    planted_detector(folder / "planted.onnx", (320, 320), [PlantedBox((80, 100, 160, 220))])
    doubtful = PlantedBox((200, 100, 280, 220), score=0.15)
    planted_detector(folder / "doubtful.onnx", (320, 320), [PlantedBox((80, 100, 160, 220)), doubtful])
    working_detector(folder / "working.onnx", layers=40)
    colour_detector(folder / "colours.onnx")
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """25 pictures a second, ten seconds long, looped by the cameras."""
    return NumberedClip.make(tmp_path_factory.mktemp("clips"), fps=25, frames=250)


@pytest.fixture
def cameras():
    """An RTSP server in a process of its own."""
    with RtspServerProcess() as server:
        yield server
