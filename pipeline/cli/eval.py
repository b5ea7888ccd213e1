"""``onpace eval``: COCO's average precision of a detector on labelled pictures, the way the pipeline would see them."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from engines.precision.ranges import Method
from pipeline.accuracy.account import points_lost, refuse_loss
from pipeline.accuracy.calibration import METHOD, PICTURES, calibration_from
from pipeline.accuracy.dataset import Dataset, read_dataset
from pipeline.accuracy.evaluate import evaluate
from pipeline.cli import exit_codes
from pipeline.cli.model_facts import HELP, find_spec
from pipeline.cli.precision_options import (
    CALIBRATION_HELP,
    METHOD_HELP,
    PICTURES_HELP,
    PRECISION_HELP,
    precision_of,
    refuse_unused_pictures,
)
from pipeline.clock import monotonic


def eval_model(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="ONNX detector.")],
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="COCO JSON, or a folder of pictures with it or YOLO labels.")
    ],
    runtime: Annotated[str, typer.Option(help="auto, cpu, cuda or tensorrt.")] = "auto",
    precision: Annotated[str | None, typer.Option(help=PRECISION_HELP)] = None,
    calibration: Annotated[list[str] | None, typer.Option(metavar="SOURCE", help=CALIBRATION_HELP)] = None,
    calibration_pictures: Annotated[int, typer.Option(min=1, max=10_000, help=PICTURES_HELP)] = PICTURES,
    calibration_method: Annotated[Method, typer.Option(help=METHOD_HELP)] = METHOD,
    max_ap_loss: Annotated[
        float | None, typer.Option(min=0, max=100, help="Fail if more points of AP are lost against the file as it is.")
    ] = None,
    facts: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=HELP)] = None,
    score: Annotated[float, typer.Option(min=0, max=1, help="Lowest score that counts.")] = 0.01,
    iou: Annotated[float, typer.Option(min=0, max=1, help="Overlap above which boxes of a class are one.")] = 0.65,
    limit: Annotated[int | None, typer.Option(min=1, help="Take the first so many pictures only.")] = None,
    one_class: Annotated[
        bool, typer.Option("--one-class", help="Count each box with its best class only, as a pipeline does.")
    ] = False,
    per_class: Annotated[bool, typer.Option("--per-class", help="Also print every class.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
) -> int:
    """Measure a detector's accuracy: COCO AP over pictures, at most 100 boxes in each.

    JSON keys: model; precision (null: as the file is); dataset; runtime; pictures; objects; seconds; ap (mean over IoU
    0.50 to 0.95); ap50; ap_loss (points, 0-100, with --max-ap-loss, else null); classes, a list of {class_id, name,
    ap, ap50} with --per-class, else null.

    [bold]Example:[/bold] onpace eval yolox_nano.onnx coco/val2017 --set classes=coco
    """
    wanted = precision_of("--precision", precision)
    refuse_unused_pictures(wanted, calibration)
    path, spec = find_spec(model, facts or [])
    pictures = read_dataset(dataset)
    if limit is not None:
        pictures = replace(pictures, pictures=pictures.pictures[:limit])
    begun = monotonic()
    measure = partial(
        evaluate, path, spec, pictures, score_threshold=score, iou_threshold=iou, every_class=not one_class
    )
    frames = calibration_from(calibration or [], spec, calibration_pictures, calibration_method)
    count, lost = len(pictures.pictures), None
    with _progress(count * (1 if max_ap_loss is None else 2)) as progress:
        accuracy, described = measure(runtime=runtime, precision=wanted, calibration=frames, progress=progress)
        if max_ap_loss is not None:
            before, _ = measure(runtime="cpu", progress=lambda done: progress(count + done))
            refuse_loss(f"{wanted or 'this'} of {spec.name}", before, accuracy, max_ap_loss)
            lost = round(points_lost(before, accuracy), 2)
    report: dict[str, Any] = {
        "model": spec.name,
        "precision": wanted,
        "dataset": str(dataset),
        "runtime": described,
        "pictures": count,
        "objects": sum(len(picture.labels) for picture in pictures.pictures),
        "seconds": round(monotonic() - begun, 3),
        "ap": round(accuracy.ap, 4),
        "ap50": round(accuracy.ap50, 4),
        "ap_loss": lost,
        "classes": _classes(accuracy.classes, pictures, spec.class_names) if per_class else None,
    }
    typer.echo(json_format.dumps(report, indent=2)) if json else _print_plain(report)
    return exit_codes.DONE


def _classes(
    classes: dict[int, tuple[float, float]], dataset: Dataset, model_names: tuple[str, ...]
) -> list[dict[str, Any]]:
    names = dataset.class_names or model_names
    return [
        {
            "class_id": class_id,
            "name": names[class_id] if class_id < len(names) else str(class_id),
            "ap": round(ap, 4),
            "ap50": round(ap50, 4),
        }
        for class_id, (ap, ap50) in sorted(classes.items())
    ]


def _print_plain(report: dict[str, Any]) -> None:
    typer.echo(f"{report['model']} on {report['dataset']}: {report['pictures']} pictures, {report['objects']} objects")
    typer.echo(f"{report['runtime']}, {report['seconds']:.1f} s")
    for row in report["classes"] or []:
        typer.echo(f"  {row['name']:20} AP {row['ap']:.3f}  AP50 {row['ap50']:.3f}")
    lost = "" if report["ap_loss"] is None else f"  lost {report['ap_loss']:.1f} points"
    typer.echo(f"AP {report['ap']:.3f}  AP50 {report['ap50']:.3f}{lost}")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Yield what to call with the number of pictures done; shows a bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("pictures", total=total)
        yield lambda done: bar.update(task, completed=done)
