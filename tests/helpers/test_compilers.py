"""A test that needs a compiler which is not here is skipped, or fails where all of them should be here."""

import sys

import pytest

from tests.helpers.compilers import c_compiler, cpp_compiler, need_nvrtc


@pytest.mark.parametrize("needs", [c_compiler, cpp_compiler, need_nvrtc])
@pytest.mark.parametrize(("value", "outcome"), [("0", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_missing_compiler_skips_or_fails_as_asked(monkeypatch, tmp_path, needs, value, outcome):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "cuda.core", None)  # as where it is not installed
    monkeypatch.setenv("FAIL_WITHOUT_COMPILERS", value)
    with pytest.raises(outcome, match="nstall"):
        needs()
