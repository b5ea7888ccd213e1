"""The ratios that the GPU path is judged by, made from measurements of one run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Results = dict[str, dict[str, Any]]


def table(results: Results, machine: str) -> str:
    """Return the table, a gap where a measurement failed, and the reasons below it."""
    lines = [machine, "", f"{'ratio':70} {'measured':>10} {'floor':>7} {'aim':>7}"]
    for name, floor, aim, ratio in _ROWS:
        lines.append(f"{name:70} {_shown(ratio, results):>10} {floor:>7} {aim:>7}")
    errors = [f"{name}: {figures['error']}" for name, figures in results.items() if "error" in figures]
    return "\n".join([*lines, *errors])


def _shown(ratio: Callable[[Results], float], results: Results) -> str:
    try:
        return f"{ratio(results):.3g}"
    except (KeyError, TypeError, ZeroDivisionError):
        return "-"


def _end_to_end(results: Results) -> float:
    """The lower of both cases: each against the slower of its engine and the decoder."""
    return min(
        results[f"pipeline-{size}-h264"]["fps"]
        / min(results[f"engine-{size}"]["fps"], _decoded(results["decode-h264"]))
        for size in "ns"
    )


def _decoded(figures: dict[str, Any]) -> float:
    """The most that our stages decode, in one process or in several."""
    return max(figures[f"stages_fps_{how}"] for how in (14, 28, "workers"))


def _decode(codec: str) -> Callable[[Results], float]:
    def ratio(results: Results) -> float:
        figures = results[f"decode-{codec}"]
        return _decoded(figures) / max(figures["bare_fps_14"], figures["bare_fps_28"])

    return ratio


def _added(part: str) -> Callable[[Results], float]:
    def milliseconds(results: Results) -> float:
        figures = results["latency"]
        return figures[f"age_ms_{part}"] - figures["bare_decode_ms"] - figures["bare_infer_ms"]

    return milliseconds


_ROWS: tuple[tuple[str, str, str, Callable[[Results], float]], ...] = (
    ("end to end / min(engine only, decode only), 28 streams, tracking, publishing", "0.90", "0.97", _end_to_end),
    (
        "engine-bound (s, batch 16) / engine only",
        "0.93",
        "0.98",
        lambda r: r["pipeline-s-h264"]["fps"] / r["engine-s"]["fps"],
    ),
    (
        "engine-bound (m, batch 16) / engine only, where NVDEC bounds s",
        "0.93",
        "0.98",
        lambda r: r["pipeline-m-h264"]["fps"] / r["engine-m"]["fps"],
    ),
    (
        "decode-bound (bundled detector) / decode only",
        "0.95",
        "0.99",
        lambda r: r["pipeline-street-h264"]["fps"] / _decoded(r["decode-h264"]),
    ),
    (
        "decode-bound (n) / decode only",
        "0.95",
        "0.99",
        lambda r: r["pipeline-n-h264"]["fps"] / _decoded(r["decode-h264"]),
    ),
    ("decode through our stages / bare NVDEC loop, H.264", "0.90", "0.98", _decode("h264")),
    ("decode through our stages / bare NVDEC loop, HEVC", "0.90", "0.98", _decode("hevc")),
    ("added latency, 1 stream, p50, ms", "3", "1", _added("p50")),
    ("added latency, 1 stream, p99, ms", "8", "3", _added("p99")),
    (
        "fused kernel time / bytes moved at full bandwidth",
        "4",
        "2",
        lambda r: (
            r["engine-s"]["preprocess_us"] * 1e-6 * r["engine-s"]["bandwidth"] / r["engine-s"]["preprocess_bytes"]
        ),
    ),
    (
        "preprocess + heads / engine time (s, batch 16)",
        "0.08",
        "0.04",
        lambda r: (r["engine-s"]["preprocess_us"] + r["engine-s"]["heads_us"]) / r["engine-s"]["engine_us"],
    ),
    (
        "CUDA graphs on / off, n, batch 1: inference alone",
        "1.4",
        "1.8",
        lambda r: r["graphs-n"]["engine_fps_on"] / r["graphs-n"]["engine_fps_off"],
    ),
    (
        "CUDA graphs on / off, n, batch 1: the slot's whole way",
        "1.4",
        "1.8",
        lambda r: r["graphs-n"]["slot_ms_off"] / r["graphs-n"]["slot_ms_on"],
    ),
    ("fps with a second busy Python thread / without", "0.90", "0.97", lambda r: r["pipeline-n-h264"]["busy_ratio"]),
    (
        "process CPU-seconds per 1,000 frames",
        "1.5",
        "0.8",
        lambda r: r["pipeline-n-h264"]["cpu_seconds_per_1000"],
    ),
    ("1080p30 streams carried, H.264", "140", "165", lambda r: r["cameras-h264"]["carried"]),
    ("1080p30 streams carried, HEVC", "210", "270", lambda r: r["cameras-hevc"]["carried"]),
)
