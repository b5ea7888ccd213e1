"""``onpace keys``: a pair of keys for a publisher or a subscriber."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import exit_codes
from pipeline.publish.curve import make_keys


def keys(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="Path and name of the two files, without their ending.")],
) -> int:
    """Make a pair of keys, for a publisher or for a subscriber: NAME.key to give away, NAME.key_secret to keep.

    A publisher is told its own pair and the folder of those it lets in (publish.curve in the configuration); a
    subscriber its own and the publisher's public one (onpace listen --keys ME.key_secret --publisher-key THEM.key).

    [bold]Example:[/bold] onpace keys keys/lobby-service
    """
    public, secret = make_keys(name)
    typer.echo(f"{public}: public, give it to the other side")
    typer.echo(f"{secret}: secret, keep it here")
    return exit_codes.DONE
