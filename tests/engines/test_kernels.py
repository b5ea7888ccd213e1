"""Every kernel compiles for every architecture, without a GPU; compiled kernels are kept and never served stale."""

import pytest

from engines.errors import RunError
from engines.kernels.compiler import ARCHITECTURES, SOURCES, cached_cubin, compile_kernels
from tests.helpers.compilers import need_nvrtc


@pytest.fixture(autouse=True)
def nvrtc():
    need_nvrtc()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_compiles_for_every_architecture(architecture):
    for source in SOURCES:
        assert compile_kernels(source, architecture)[:4] == b"\x7fELF"


def test_a_compiled_kernel_is_kept_and_a_damaged_one_made_anew(tmp_path):
    first = cached_cubin("letterbox", "sm_90", tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(first + b"kept")
    assert cached_cubin("letterbox", "sm_90", tmp_path) == first + b"kept"
    kept.write_bytes(b"")
    assert cached_cubin("letterbox", "sm_90", tmp_path) == first
    assert kept.read_bytes() == first


def test_a_folder_that_cannot_be_written_costs_nothing_else(tmp_path):
    (tmp_path / "file").write_text("")
    assert cached_cubin("letterbox", "sm_75", tmp_path / "file")[:4] == b"\x7fELF"


def test_an_unknown_architecture_is_refused_in_words():
    with pytest.raises(RunError, match="sm_12345"):
        compile_kernels("letterbox", "sm_12345")
