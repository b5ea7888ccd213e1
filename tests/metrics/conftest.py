"""What the tests of this room share: a detector that costs nothing, and one that costs too much."""

import pytest

from tests.helpers.tiny_onnx import do_nothing_detector, working_detector


@pytest.fixture(scope="session")
def nothing(tmp_path_factory):
    """Faster than any camera."""
    return do_nothing_detector(tmp_path_factory.mktemp("models") / "nothing.onnx", size=(160, 96))


@pytest.fixture(scope="session")
def working(tmp_path_factory):
    """Slower than a camera of 200 fps, in two threads."""
    return working_detector(tmp_path_factory.mktemp("models") / "working.onnx", layers=40)
