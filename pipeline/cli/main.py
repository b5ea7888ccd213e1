"""The command ``onpace``: one subcommand a file; errors become one clear message and an exit code."""

from __future__ import annotations

import errno
import functools
import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

import pipeline
from engines.errors import EngineError, ModelError, RuntimeMissingError
from pipeline.cli import exit_codes
from pipeline.cli.build import build
from pipeline.cli.capacity import capacity
from pipeline.cli.check import check
from pipeline.cli.compare import compare
from pipeline.cli.describe import describe
from pipeline.cli.doctor import doctor
from pipeline.cli.engines import list_plans, prune, verify
from pipeline.cli.eval import eval_model
from pipeline.cli.keys import keys
from pipeline.cli.listen import listen
from pipeline.cli.output import give_up
from pipeline.cli.record import record
from pipeline.cli.run import run
from pipeline.cli.streams import COMMANDS
from pipeline.cli.top import top
from pipeline.errors import InputError, OnpaceError
from pipeline.source.redact import redact_in

app = typer.Typer(
    name="onpace",
    help="Real-time video analytics that stays on pace and can prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 done, 1 failed while running, 2 bad input, 3 did not keep pace (run --require-pace).",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"onpace {pipeline.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Real-time video analytics that stays on pace and can prove it."""


def _reporting(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turn what a command returns or raises into one message and an exit code."""

    @functools.wraps(command)
    def reported(*arguments: Any, **options: Any) -> None:
        try:
            code = command(*arguments, **options) or exit_codes.DONE
        except (InputError, ModelError, RuntimeMissingError) as error:
            code = _report(error, exit_codes.BAD_INPUT)
        except (OnpaceError, EngineError) as error:
            code = _report(error, exit_codes.FAILED)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EPIPE):
                give_up(sys.stdout)
            code = _report(_of_the_system(error), exit_codes.FAILED)
        raise typer.Exit(code)

    return reported


def _paragraphs(command: Callable[..., int | None]) -> str:
    """Return a command's words with a line a paragraph: typer keeps line breaks, which suit the source's width only."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(command.__doc__ or "").split("\n\n"))


def _report(error: Exception | str, code: int) -> int:
    print(f"onpace: {redact_in(str(error))}", file=sys.stderr)
    return code


def _of_the_system(error: OSError) -> str:
    """Return what the system refused, for people."""
    if error.filename is None and error.errno != errno.ENOSPC:
        return f"{error.strerror or error}."
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror}. Check the path, its permissions and the space left there."


for command in (run, record, check, capacity, listen, top, keys, doctor, describe, compare, build):
    app.command(help=_paragraphs(command))(_reporting(command))
app.command("eval", help=_paragraphs(eval_model))(_reporting(eval_model))
streams = typer.Typer(no_args_is_help=True, help="List, add, change, pause, restart and remove streams while running.")
for name, steering in COMMANDS.items():
    streams.command(name, help=_paragraphs(steering))(_reporting(steering))
app.add_typer(streams, name="streams")

plans = typer.Typer(help="List, verify and remove the plans that were built.", no_args_is_help=True)
_PLAN_COMMANDS: dict[str, Callable[..., int | None]] = {"list": list_plans, "verify": verify, "prune": prune}
for name, plan_command in _PLAN_COMMANDS.items():
    plans.command(name, help=_paragraphs(plan_command))(_reporting(plan_command))
app.add_typer(plans, name="engines")


def main() -> None:
    """Run the command and exit with its code."""
    app()


if __name__ == "__main__":
    main()
