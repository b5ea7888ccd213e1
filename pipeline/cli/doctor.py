"""``onpace doctor``: what works on this machine, what does not, why, and what to do about it."""

from __future__ import annotations

import importlib
import json as json_format
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

import pipeline
from engines.device import find_gpus
from engines.errors import RuntimeMissingError
from engines.runtime import RUNTIMES, runtime_class
from pipeline.cli import exit_codes
from pipeline.cli.doctor_machine import Finding, Status, examine_machine
from pipeline.errors import UrlError
from pipeline.samples import find_sample

PACKAGES = {  # distribution -> module, as in pyproject.toml
    "numpy": "numpy",
    "av": "av",
    "opencv-python-headless": "cv2",
    "onnx": "onnx",
    "msgspec": "msgspec",
    "pyzmq": "zmq",
    "pydantic": "pydantic",
    "PyYAML": "yaml",
    "prometheus-client": "prometheus_client",
    "typer": "typer",
    "rich": "rich",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
}
_ORT_BUILDS = ("onnxruntime", "onnxruntime-gpu")
_DECODERS = {  # codec -> FFmpeg decoders that need no hardware, best first
    "h264": ("h264",),
    "hevc": ("hevc",),
    "av1": ("libdav1d", "libaom-av1", "libgav1"),
    "mjpeg": ("mjpeg",),
    "vp9": ("vp9", "libvpx-vp9"),
}
_NVDEC_CODECS = {"h264": "H264", "hevc": "HEVC", "av1": "AV1", "vp9": "VP9"}
_MARKS = {"ok": "green", "missing": "dim", "warning": "yellow", "error": "red"}


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, and nothing else.")] = False,
) -> int:
    """Show what works here, what does not, and why.

    Exit codes: 0 when detection can run (some runtime works), 1 when it cannot.

    JSON keys: ok; findings, a list of {section, name, status, detail, remedy}. Sections: onpace, packages, runtimes,
    video, cameras, messaging, machine. Status: ok, missing (not here, and not needed), warning, error. remedy may be
    null.

    [bold]Example:[/bold] onpace doctor --json
    """
    findings = list(examine())
    ok = can_detect(findings)
    if json:
        typer.echo(json_format.dumps({"ok": ok, "findings": [asdict(finding) for finding in findings]}, indent=2))
    elif sys.stdout.isatty():
        _print_table(findings)
    else:
        _print_plain(findings)
    if not json:
        typer.echo("Detection can run here." if ok else "Detection cannot run here: see the errors above.")
    return exit_codes.DONE if ok else exit_codes.FAILED


def examine() -> Iterator[Finding]:
    """Yield everything that is found, in the order of the report."""
    yield Finding("onpace", "onpace", "ok", pipeline.__version__)
    yield Finding("onpace", "python", "ok", f"{platform.python_version()} ({sys.executable})")
    yield from _samples()
    yield from _packages()
    yield from _runtimes()
    yield from _video()
    yield from _messaging()
    yield from examine_machine()


def can_detect(findings: list[Finding]) -> bool:
    """Return whether the main job works: some runtime, and every package it stands on."""
    runtime = any(finding.section == "runtimes" and finding.status == "ok" for finding in findings)
    packages = {finding.name: finding.status for finding in findings if finding.section == "packages"}
    return runtime and all(packages[name] == "ok" for name in PACKAGES)


def _samples() -> Iterator[Finding]:
    for name in ("street.mp4", "street.onnx"):
        try:
            yield Finding("onpace", f"sample:{name}", "ok", str(find_sample(name)))
        except UrlError as error:
            yield Finding("onpace", f"sample:{name}", "missing", str(error), "Only the demo needs it. Install again.")


# --- packages and runtimes


def _packages() -> Iterator[Finding]:
    for distribution, module in PACKAGES.items():
        problem = _import_problem(module)
        if problem is None:
            yield Finding("packages", distribution, "ok", _version(distribution) or "of unknown version")
        else:
            yield Finding("packages", distribution, "error", problem, f'pip install "{distribution}"')
    yield from onnxruntime_builds()


def onnxruntime_builds() -> Iterator[Finding]:
    """Yield which builds of ONNX Runtime are installed. Two at once overwrite each other's files."""
    found = {build: number for build in _ORT_BUILDS if (number := _version(build)) is not None}
    both = len(found) == len(_ORT_BUILDS)
    for build, number in found.items():
        if both and build == "onnxruntime-gpu":
            yield Finding(
                "packages",
                "onnxruntime, onnxruntime-gpu",
                "error",
                f"{found['onnxruntime']} and {number} are both installed. They are two builds of one module: the one "
                "installed last has overwritten the other, and removing one breaks both.",
                'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "onnxruntime>=1.23,<2" '
                '(with an NVIDIA GPU, "onnxruntime-gpu>=1.23,<2" in its place)',
            )
        elif not both:
            yield Finding("packages", build, "ok", number)


def _runtimes() -> Iterator[Finding]:
    for name in RUNTIMES:
        problem = _runtime_problem(name)
        if problem is None:
            yield Finding("runtimes", name, "ok", "ran a test model" if name == "cpu" else "usable")
        elif name == "cpu":
            yield Finding("runtimes", name, "error", problem, 'pip install "onnxruntime>=1.23,<2"')
        else:
            yield Finding("runtimes", name, "missing", problem)


def _runtime_problem(name: str) -> str | None:
    """Return why a runtime cannot be used, in the words in which ``auto`` passes it over; None where it can."""
    if name == "cpu":
        return _import_problem("onnxruntime") or _trial_run()
    reason: str | None = runtime_class(name).why_not()
    return reason


def _trial_run() -> str | None:
    """Run the smallest model there is: an install that imports may still not run."""
    try:
        import numpy as np
        import onnxruntime
        from onnx import TensorProto, helper

        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "trial", ends[:1], ends[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        result = session.run(None, {"x": np.array([-1.0], np.float32)})[0]
        return None if result[0] == 0.0 else f"a test model gave {result[0]} where 0 is right."
    except Exception as error:  # whatever a broken install raises is the finding
        return f"a test model failed: {error}"


def _import_problem(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken library raises anything, OSError for a missing .so among it
        return f"{error}."
    return None


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


# --- video and messages


def _video() -> Iterator[Finding]:
    problem = _import_problem("av")
    if problem is not None:
        yield Finding("video", "ffmpeg", "error", problem, 'pip install "av>=17.1,<20"')
        return
    import av

    libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
    yield Finding("video", "ffmpeg", "ok", f"libavcodec {libavcodec}, with PyAV {av.__version__}")
    for codec, decoders in _DECODERS.items():
        found = next((name for name in decoders if name in av.codecs_available and _decodes(av, name)), None)
        if found:
            yield Finding("video", codec, "ok", f"decoder {found}")
        else:
            remedy = 'Install the wheel: pip install --force-reinstall --only-binary av "av>=17.1,<20"'
            yield Finding("video", codec, "warning", "this FFmpeg has no decoder for it", remedy)
    if "rtsp" in av.formats_available:
        yield Finding("video", "rtsp", "ok", "network cameras can be opened")
    else:
        yield Finding("video", "rtsp", "warning", "this FFmpeg opens no network cameras", "Install PyAV's own wheel.")
    yield nvdec()


def nvdec() -> Finding:
    """Return whether video is decoded on the GPU here, and which codecs."""
    try:
        gpus = find_gpus()
    except RuntimeMissingError as error:
        return Finding("video", "nvdec", "missing", f"video is decoded on the CPU: {error}")
    if not gpus:
        return Finding("video", "nvdec", "missing", "video is decoded on the CPU: there is no NVIDIA GPU here.")
    try:
        library = importlib.import_module("PyNvVideoCodec")
    except ImportError as error:
        install = 'pip install "pynvvideocodec>=2.2,<3" (the extras cuda and cuda12 bring it)'
        return Finding("video", "nvdec", "missing", f"video is decoded on the CPU: {error}.", install)
    except RuntimeError as error:  # its own search for the driver's video libraries
        remedy = (
            "In a container, set NVIDIA_DRIVER_CAPABILITIES=compute,utility,video; Jetson Orin has no such library."
        )
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        return Finding("video", "nvdec", "missing", f"video is decoded on the CPU: {reason}.", remedy)
    decodes = [name for name, codec in _NVDEC_CODECS.items() if _nvdec_decodes(library, gpus[0].index, codec)]
    codecs = ", ".join(decodes) or "none of " + ", ".join(_NVDEC_CODECS)
    status: Status = "ok" if decodes else "warning"
    return Finding("video", "nvdec", status, f"PyNvVideoCodec {_version('PyNvVideoCodec')} on {gpus[0].name}: {codecs}")


def _nvdec_decodes(library: Any, gpu: int, codec: str) -> bool:
    kind, chroma = getattr(library.cudaVideoCodec, codec), library.cudaVideoChromaFormat(1)  # 4:2:0
    caps = library.GetDecoderCaps(gpuid=gpu, codec=kind, chromaformat=chroma, bitdepth=8)
    return bool(dict(caps).get("num_decoder_engines"))


def _decodes(av: Any, name: str) -> bool:
    try:
        av.codec.Codec(name, "r")
    except ValueError:
        return False
    return True


def _messaging() -> Iterator[Finding]:
    problem = _import_problem("zmq")
    if problem is not None:
        yield Finding("messaging", "zeromq", "error", problem, 'pip install "pyzmq>=26,<28"')
        return
    import zmq

    curve = "with CURVE" if zmq.has("curve") else "without CURVE"
    yield Finding("messaging", "zeromq", "ok", f"libzmq {zmq.zmq_version()}, {curve}")


# --- the report


def _print_table(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("", "", "", box=None, show_header=False, pad_edge=False)
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            table.add_row(Text(section, "bold"))
        detail = Text(finding.detail)
        if finding.remedy:
            detail.append(f"\n{finding.remedy}", "italic")
        table.add_row(f"  {finding.name}", Text(finding.status, _MARKS[finding.status]), detail)
    Console().print(table)


def _print_plain(findings: list[Finding]) -> None:
    widest = max(len(finding.name) for finding in findings)
    for finding in findings:
        remedy = f" {finding.remedy}" if finding.remedy else ""
        end = "" if not remedy or finding.detail.endswith(".") else "."
        typer.echo(
            f"{finding.section:<9}  {finding.name:<{widest}}  {finding.status:<7}  {finding.detail}{end}{remedy}"
        )
