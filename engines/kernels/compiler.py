"""Compiles the kernels of this folder with NVRTC, for any architecture, GPU or not; keeps the results on disk."""

from __future__ import annotations

import hashlib
import importlib
import logging
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from engines.cache_folder import cache_folder
from engines.device import Gpu, cuda_errors
from engines.errors import RunError, RuntimeMissingError

ARCHITECTURES = tuple(f"sm_{number}" for number in (75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121))
"""All of CUDA 13.0, Turing to Blackwell; sm_87 is Jetson Orin, sm_110 Thor. Each compiles from the same source."""

SOURCES = ("letterbox", "heads")
"""Files of this folder, without ``.cu``."""

_HERE = Path(__file__).parent
_log = logging.getLogger("onpace.kernels")


def compile_kernels(source: str, architecture: str) -> bytes:
    """Return the cubin of ``source`` for ``architecture`` ("sm_90"). Needs NVRTC, no GPU and no driver.

    Raises RuntimeMissingError without NVRTC, RunError where it refuses the source or the architecture.
    """
    core = _cuda_core()
    # No fused multiply-adds: results are the host's, operation by operation.
    options = core.ProgramOptions(arch=architecture, std="c++17", fma=False, include_path=str(_HERE))
    text = (_HERE / f"{source}.cu").read_text()
    try:
        code = core.Program(text, "c++", options).compile("cubin").code
    except Exception as error:
        if type(error).__name__ == "DynamicLibNotFoundError":
            raise RuntimeMissingError(
                "the GPU's kernels are compiled by NVRTC, which is not here. Install it: "
                'pip install "nvidia-cuda-nvrtc" (on CUDA 12: "nvidia-cuda-nvrtc-cu12").'
            ) from error
        if type(error).__module__.partition(".")[0] != "cuda":
            raise
        told = str(error).rstrip("\0\n .")
        raise RunError(f"kernel {source} does not compile for {architecture}: {told}.") from error
    return bytes(code)


def cached_cubin(source: str, architecture: str, folder: Path | None = None) -> bytes:
    """Return the cubin from ``folder`` (the user's cache folder by default); compile and keep it where it is not there.

    The name holds a hash of everything that goes in, so that a changed source or compiler is never served an old one.
    A folder that cannot be written costs the compilation at every start, nothing else.
    """
    folder = folder or cache_folder() / "kernels"
    path = folder / f"{source}-{architecture}-{_fingerprint(source)}.cubin"
    try:
        kept = path.read_bytes()
    except OSError:
        kept = b""
    if kept[:4] == b"\x7fELF":
        return kept
    code = compile_kernels(source, architecture)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(code)
        Path(file.name).replace(path)  # at once or not at all: others may read meanwhile
    except OSError as error:
        _log.warning("kernels cannot be kept in %s (%s): they are compiled at every start", folder, error.strerror)
    return code


def load_kernel(gpu: Gpu, source: str, name: str) -> Any:
    """Return kernel ``name`` of ``source``, ready to be launched on ``gpu`` by ``cuda.core.launch``."""
    gpu.use()
    major, minor = gpu.compute_capability
    with cuda_errors():
        return _cuda_core().ObjectCode.from_cubin(cached_cubin(source, f"sm_{major}{minor}")).get_kernel(name)


def _cuda_core() -> Any:
    try:
        return importlib.import_module("cuda.core")
    except ImportError as error:
        raise RuntimeMissingError(f'kernels need cuda.core: {error}. Install it: pip install "onpace[cuda]"') from error


@lru_cache
def _fingerprint(source: str) -> str:
    digest = hashlib.sha256(_compiler().encode())
    for name in (f"{source}.cu", "half.cuh"):
        digest.update((_HERE / name).read_bytes())
    return digest.hexdigest()[:16]


def _compiler() -> str:
    import cuda.bindings
    import cuda.core

    return f"cuda.core {cuda.core.__version__}, cuda.bindings {cuda.bindings.__version__}"
