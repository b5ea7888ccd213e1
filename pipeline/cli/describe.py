"""``onpace describe``: what a model file is, and where each fact about it came from."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from engines.model_spec import ModelSpec, TensorSpec
from pipeline.accuracy.look import Look, look_at
from pipeline.cli import exit_codes
from pipeline.cli.model_facts import HELP, find_spec


def describe(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="ONNX detector.")],
    facts: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=HELP)] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw what the model sees and finds in this picture.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Where to draw it; default: MODEL-sees-FILE.png here.")
    ] = None,
    runtime: Annotated[str, typer.Option(help="auto, cpu, cuda or tensorrt; for --image.")] = "auto",
    score: Annotated[float, typer.Option(min=0, max=1, help="Lowest score that is drawn.")] = 0.25,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")] = False,
) -> int:
    """Show what a detector is: family, inputs, outputs, classes, pixels, and where each fact came from.

    With --image the picture is drawn as the model gets it, letterbox and all, beside the same with red and blue
    swapped: the colour order that finds more, with higher scores, is the right one.

    JSON keys: name; file; sha256; family; has_nms; input {name, dtype, shape}; size_input; width; height; max_batch;
    outputs; class_names; pixels {order, scale, mean, deviation, placement, pad_value}; head_options; origins (fact ->
    shape, name, metadata, structure, override or default); image, null without --image, else {file, drawn, orders}
    with orders a list of {order, objects, best_score, mean_score}, the stated order first.

    [bold]Example:[/bold] onpace describe yolox_nano.onnx --image street.jpg
    """
    path, spec = find_spec(model, facts or [])
    look: Look | None = None
    if image is not None:
        drawn = output or Path(f"{spec.name}-sees-{image.stem}.png")
        look = look_at(path, spec, image, drawn, runtime=runtime, score_threshold=score)
    if json:
        typer.echo(json_format.dumps(_report(path, spec, look), indent=2))
    else:
        _print_plain(spec, look)
    return exit_codes.DONE


def _report(path: Path, spec: ModelSpec, look: Look | None) -> dict[str, Any]:
    return {
        "name": spec.name,
        "file": str(path),
        "sha256": spec.sha256,
        "family": spec.family,
        "has_nms": spec.has_nms,
        "input": asdict(spec.image_input),
        "size_input": asdict(spec.size_input) if spec.size_input else None,
        "width": spec.input_width,
        "height": spec.input_height,
        "max_batch": spec.max_batch,
        "outputs": [asdict(output) for output in spec.outputs],
        "class_names": list(spec.class_names),
        "pixels": asdict(spec.pixels),
        "head_options": dict(spec.head_options),
        "origins": dict(spec.origins),
        "image": None if look is None else asdict(look) | {"file": str(look.file), "drawn": str(look.drawn)},
    }


def _print_plain(spec: ModelSpec, look: Look | None) -> None:
    pixels = spec.pixels
    count = len(spec.class_names)
    shown = ", ".join(spec.class_names[:8]) + (", ..." if count > 8 else "")
    batch = "any batch" if spec.max_batch is None else f"batch {spec.max_batch}"
    ranged = f"0-{_plain(255 * pixels.scale)}"
    rows = [
        ("model", f"{spec.name}  sha256 {spec.sha256[:12]}", None),
        ("family", spec.family, "family"),
        ("input", f"{_tensor(spec.image_input)}, {batch}", "batch"),
        ("size", f"{spec.input_width}x{spec.input_height}", "input_size"),
        *[("output", _tensor(output), None) for output in spec.outputs],
        ("classes", f"{count}: {shown}" if count else "not known how many; numbered", "classes"),
        ("overlaps", "boxes are finished in the graph" if spec.has_nms else "suppressed here, per class", "family"),
        ("colours", pixels.order.upper(), "pixels.order"),
        ("range", ranged, "pixels.scale"),
        ("mean", ", ".join(map(_plain, pixels.mean)), "pixels.mean"),
        ("deviation", ", ".join(map(_plain, pixels.deviation)), "pixels.deviation"),
        ("placement", pixels.placement.replace("_", " "), "pixels.placement"),
    ]
    if pixels.placement != "stretch":
        rows.append(("padding", str(pixels.pad_value), "pixels.pad_value"))
    if spec.size_input is not None:
        rows.append(("sizes", f"{_tensor(spec.size_input)}: fed the input's own size", None))
    for option, value in spec.head_options.items():
        rows.append(("head", f"{option}: {_listed(value)}", option if option in spec.origins else None))
    widest = max(len(text) for _, text, fact in rows if fact)
    for name, text, fact in rows:
        typer.echo(f"{name:10} {text:{widest}}  from {spec.origins[fact]}" if fact else f"{name:10} {text}")
    if look is not None:
        for order in look.orders:
            typer.echo(
                f"{order.order:10} {order.objects} objects in {look.file.name}, best score {order.best_score:.2f}, "
                f"mean {order.mean_score:.2f}"
            )
        typer.echo(f"drawn      {look.drawn}")


def _tensor(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.dtype} [{', '.join(str(length or '?') for length in tensor.shape)}]"


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
