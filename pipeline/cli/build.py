"""``onpace build``: the plan of a model, made before it is needed."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated, Any

import typer

from engines.model_spec import ModelSpec
from engines.plan_building import PlanBuilder
from engines.precision.prepare import refuse_typed
from engines.precision.ranges import Method
from engines.precision.typed_model import Calibration, Precision
from engines.runtime import PlanOptions, RuntimeOptions
from engines.shape_profile import ShapeProfile
from engines.trt.options import BuildOptions
from pipeline.accuracy.account import account_for, points_lost
from pipeline.accuracy.calibration import METHOD, PICTURES, calibration_from
from pipeline.accuracy.dataset import read_dataset
from pipeline.cli import exit_codes
from pipeline.cli.build_progress import build_progress
from pipeline.cli.model_facts import HELP, find_spec
from pipeline.cli.precision_options import (
    CALIBRATION_HELP,
    METHOD_HELP,
    PICTURES_HELP,
    PRECISION_HELP,
    precision_of,
    refuse_unused_pictures,
)
from pipeline.errors import InputError


def build(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="ONNX detector.")],
    precision: Annotated[str | None, typer.Option(help=PRECISION_HELP)] = None,
    batch: Annotated[
        str | None, typer.Option(metavar="MIN:OPT:MAX", help="Batches to build for; default: 1:8:8, or the file's own.")
    ] = None,
    calibration: Annotated[list[str] | None, typer.Option(metavar="SOURCE", help=CALIBRATION_HELP)] = None,
    calibration_pictures: Annotated[int, typer.Option(min=1, max=10_000, help=PICTURES_HELP)] = PICTURES,
    calibration_method: Annotated[Method, typer.Option(help=METHOD_HELP)] = METHOD,
    dataset: Annotated[
        Path | None, typer.Option(help="Labelled pictures, as eval takes them: says what the precision costs first.")
    ] = None,
    max_ap_loss: Annotated[
        float | None, typer.Option(min=0, max=100, help="Build nothing if more points of AP are lost on --dataset.")
    ] = None,
    optimisation_level: Annotated[
        int | None, typer.Option(min=0, max=5, help="How hard to look for fast kernels; default: the library's own, 3.")
    ] = None,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="For every GPU from Ampere on, somewhat slower.")
    ] = False,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="For later versions of TensorRT, too.")
    ] = False,
    workspace: Annotated[
        int | None, typer.Option(min=1, metavar="MIB", help="Most scratch memory of one kernel; default: the GPU's.")
    ] = None,
    gpu: Annotated[int, typer.Option(min=0, help="Which GPU to build on and for.")] = 0,
    store: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where plans are kept; default: the user's cache.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build even where the plan is there already.")] = False,
    facts: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=HELP)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
) -> int:
    """Build a TensorRT plan of a detector, or find it built already.

    A plan fits one GPU, one version of the library, one precision and one range of batches; `run` finds it by all of
    these, so a stale one is never used. TensorRT for RTX builds without a GPU.

    JSON keys: model; plan (its file); digest; sha256; bytes; runtime; version; gpu; precision; batch; build_seconds;
    built (false: it was there already, or another process built it); ap_loss (points, on --dataset; else null).

    [bold]Example:[/bold] onpace build yolox_nano.onnx --precision fp16 --batch 1:4:8
    """
    wanted = precision_of("--precision", precision)
    refuse_unused_pictures(wanted, calibration)
    path, spec = find_spec(model, facts or [])
    if wanted is not None:
        refuse_typed(path)  # no library that might be missing would help
    frames = calibration_from(calibration or [], spec, calibration_pictures, calibration_method)
    lost = _ap_lost(path, spec, wanted, frames, dataset, max_ap_loss)
    with build_progress(spec.name, show=not json) as progress:
        options = RuntimeOptions(
            precision=wanted,
            calibration=frames,
            gpu=gpu,
            plans=PlanOptions(
                store=store,
                shapes=None if batch is None else ShapeProfile.parse(batch),
                build=BuildOptions(
                    optimisation_level=optimisation_level,
                    hardware_compatible=hardware_compatible,
                    version_compatible=version_compatible,
                    workspace_bytes=None if workspace is None else workspace << 20,
                ),
                progress=progress,
            ),
        )
        builder = PlanBuilder.open(path, spec, options, to_run=False)
        plan = builder.find_or_build(rebuild=rebuild)
        built = any(one.builds for one in options.builds.counts() if one.result == "built")
    report: dict[str, Any] = {
        "model": spec.name,
        "plan": str(plan.path),
        "digest": plan.digest,
        "sha256": plan.sha256,
        "bytes": plan.nbytes,
        "runtime": builder.key.runtime,
        "version": builder.key.version,
        "gpu": builder.key.gpu,
        "precision": builder.key.precision,
        "batch": str(builder.key.shapes),
        "build_seconds": plan.build_seconds,
        "built": built,
        "ap_loss": lost,
    }
    if json:
        typer.echo(json_format.dumps(report, indent=2))
    else:
        _print_plain(report)
    return exit_codes.DONE


def _ap_lost(
    model: Path,
    spec: ModelSpec,
    precision: Precision | None,
    calibration: Calibration | None,
    dataset: Path | None,
    max_ap_loss: float | None,
) -> float | None:
    """Return the points of AP that the precision costs, None without a dataset; known before minutes go into a plan.

    Measured on the CPU, from the typed model that the plan is made of: it needs no GPU. Raises AccuracyLostError.
    """
    if dataset is None:
        if max_ap_loss is not None:
            raise InputError("--max-ap-loss needs labelled pictures to measure on: add --dataset FOLDER.")
        return None
    pictures = read_dataset(dataset)
    before, after = account_for(model, spec, pictures, precision, calibration, max_ap_loss=max_ap_loss)
    return round(points_lost(before, after), 2)


def _print_plain(report: dict[str, Any]) -> None:
    how = f"built in {report['build_seconds']:.1f} s" if report["built"] else "was there already"
    typer.echo(
        f"{report['model']}: {report['runtime']} {report['version']}, {report['gpu']}, "
        f"precision {report['precision']}, batch {report['batch']}: {report['bytes'] / 2**20:.1f} MiB, {how}"
    )
    if report["ap_loss"] is not None:
        does = "gains" if report["ap_loss"] < 0 else "loses"
        typer.echo(f"{report['precision']} {does} {abs(report['ap_loss']):.1f} points of AP")
    typer.echo(report["plan"])
