"""The command ``onpace``: one subcommand a file; errors become one clear message and an exit code."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import click
import typer

import pipeline
from engines.errors import EngineError, ModelError, RuntimeMissingError
from pipeline.cli import exit_codes
from pipeline.cli.check import check
from pipeline.cli.doctor import doctor
from pipeline.cli.listen import listen
from pipeline.cli.run import run
from pipeline.errors import InputError, OnpaceError

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


for command in (run, check, listen, doctor):
    app.command()(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit with its code."""
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    logging.captureWarnings(True)
    try:
        code = app(arguments, standalone_mode=False)
    except click.exceptions.Exit as exit_request:
        return int(exit_request.exit_code)
    except click.ClickException as usage:
        usage.show()
        return exit_codes.BAD_INPUT
    except (InputError, ModelError, RuntimeMissingError) as error:
        return _report(error, exit_codes.BAD_INPUT)
    except (OnpaceError, EngineError) as error:
        return _report(error, exit_codes.FAILED)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        return exit_codes.FAILED
    return code if isinstance(code, int) else exit_codes.DONE


def _report(error: Exception, code: int) -> int:
    print(f"onpace: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
