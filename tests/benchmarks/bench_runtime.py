"""How much of bare ONNX Runtime the CPU runtime's slots deliver, on a prepared tensor.

    python -m tests.benchmarks.bench_runtime MODEL... [--threads 2] [--rounds 9] [--seconds 1] [--batch 4] [--json FILE]

"Bare" is a loop of ``session.run``, the better of one session with all threads and of concurrent runs of one session
with one thread. ``--batch`` adds a throughput runtime that takes so many pictures a run (models with a dynamic batch).
All variants take turns, a fraction of a second each; medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import numpy as np

from engines.cpu_runtime import CpuRuntime
from engines.cpu_session import open_session
from engines.inspect_model import read_model_spec
from engines.model_spec import ModelSpec
from engines.runtime import RuntimeOptions

Run = Callable[[], object]


def main() -> None:
    """Print a table a model; write all as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each variant in each round")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = [_measure(model, arguments) for model in arguments.models]
    if arguments.json:
        arguments.json.write_text(json.dumps({"runtime": results}, indent=2) + "\n")


def _measure(model: Path, arguments: argparse.Namespace) -> dict[str, object]:
    spec = read_model_spec(model)
    variants, pictures, runtimes = _variants(model, spec, arguments)
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for name in variants:  # concurrent arenas grow in their first runs
        _rate(variants[name], 0.2)
    for _ in range(arguments.rounds):
        for name, runs in variants.items():
            rates[name].append(_rate(runs, arguments.seconds) * pictures.get(name, 1))
    bare = max(("bare wide", "bare narrow"), key=lambda name: statistics.median(rates[name]))
    rows = {
        name: {
            "pictures_per_second": round(statistics.median(values), 2),
            # Of each round's own bare rate: what the machine did meanwhile falls on both.
            "of_bare": round(statistics.median(a / b for a, b in zip(values, rates[bare], strict=True)), 4),
        }
        for name, values in rates.items()
    }
    print(f"{model.name}: pictures/s, and parts of {bare}")
    for name, row in rows.items():
        print(f"  {name:24} {row['pictures_per_second']:8.2f} {row['of_bare']:7.3f}")
    for runtime in runtimes:
        runtime.close()
    return {"model": model.stem, "bare": bare, "variants": rows}


def _variants(
    model: Path, spec: ModelSpec, arguments: argparse.Namespace
) -> tuple[dict[str, list[Run]], dict[str, int], list[CpuRuntime]]:
    """Return each variant's concurrent runs, its pictures a run where not 1, and what to close."""
    threads = arguments.threads
    picture = np.random.default_rng(0).random((1, 3, spec.input_height, spec.input_width))
    picture = (picture * 255 * spec.pixels.scale).astype(spec.image_input.dtype)
    feeds = {spec.image_input.name: picture}
    wide, narrow = open_session(model, threads), open_session(model, 1)
    variants: dict[str, list[Run]] = {
        "bare wide": [lambda: wide.run(None, feeds)],
        "bare narrow": [lambda: narrow.run(None, feeds)] * threads,
    }
    runtimes = {
        "slots, throughput": CpuRuntime(model, spec, RuntimeOptions(prefer="throughput", threads=threads)),
        "slots, latency": CpuRuntime(model, spec, RuntimeOptions(prefer="latency", threads=threads)),
    }
    pictures = {}
    if arguments.batch and spec.max_batch is None:
        options = RuntimeOptions(prefer="throughput", threads=threads, max_batch=arguments.batch)
        runtimes[f"slots, batch {arguments.batch}"] = CpuRuntime(model, spec, options)
        pictures[f"slots, batch {arguments.batch}"] = arguments.batch
    for name, runtime in runtimes.items():
        variants[name] = []
        for slot in runtime.slots:
            slot.input[:] = picture
            variants[name].append(lambda slot=slot, count=runtime.max_batch: slot.run(count))  # type: ignore[misc]
    return variants, pictures, list(runtimes.values())


def _rate(runs: Sequence[Run], seconds: float) -> float:
    """Run all in a loop, a thread each; return runs a second. Each thread ends with a whole run."""
    counts = [0.0] * len(runs)

    def loop(index: int, run: Run) -> None:
        begun = monotonic()
        done = 0
        while (elapsed := monotonic() - begun) < seconds or done == 0:
            run()
            done += 1
        counts[index] = done / elapsed

    threads = [threading.Thread(target=loop, args=item) for item in enumerate(runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


if __name__ == "__main__":
    main()
