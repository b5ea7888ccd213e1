"""A detector that does nothing, and runs whose streams two workers share."""

import pytest

from tests.helpers.tiny_onnx import do_nothing_detector


@pytest.fixture(scope="session")
def nothing(tmp_path_factory):
    """A detector whose runs take no time and find nothing."""
    return do_nothing_detector(tmp_path_factory.mktemp("models") / "nothing.onnx", size=(160, 96))
