"""The command line: parses, calls, prints.

Results go to standard output (with --json exactly one JSON document), progress and notes to standard error, all of it
in UTF-8. Exit codes: 0, 1 for work that failed, 2 for bad usage or config, 130 for an interruption. Heavy modules
(torch, transformers, adapters, peft, datasets) are imported inside the commands that compute with models: `--help`,
`tasks`, `compare`, `study plan` and `study report` need none.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from safetensors import SafetensorError
from typer.core import TyperGroup

from adapter_stilts import __version__
from adapter_stilts.cli.data import data
from adapter_stilts.cli.listing import tasks
from adapter_stilts.cli.predicting import predict
from adapter_stilts.cli.quickstart import quickstart
from adapter_stilts.cli.reports import report, watch
from adapter_stilts.cli.scoring import compare, evaluate
from adapter_stilts.cli.studies import study
from adapter_stilts.cli.training import train
from adapter_stilts.cli.tuning import tune
from adapter_stilts.errors import StiltsError
from adapter_stilts.plain_text import printable
from adapter_stilts.progress import use_utf8

__all__ = ["app", "main"]


class OneLineErrors(TyperGroup):
    """A group whose commands end with one line on standard error and an exit code, not with a traceback, where the
    package or the operating system says what is wrong."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, so that a full disk is told in one line
            return result
        except StiltsError as error:
            _fail(error.exit_code, *error.lines)
        except BrokenPipeError:  # whoever read the output has gone: Typer ends quietly
            raise
        except OSError as error:
            _fail(1, f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
        except SafetensorError as error:  # its form of a full disk
            _fail(1, f"weights: {error}")
        except KeyboardInterrupt:
            _fail(130, "interrupted")


def _fail(exit_code: int, *lines: str) -> None:
    for line in lines:
        print(printable(" ".join(line.split())), file=sys.stderr)
    raise typer.Exit(exit_code)


app = typer.Typer(
    cls=OneLineErrors,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (quickstart, tasks, train, tune, evaluate, predict, compare):
    app.command()(command)
study.command()(report)
study.command()(watch)
app.add_typer(data, name="data")
app.add_typer(study, name="study")


def main() -> None:
    """The console script `adapter-stilts`."""
    use_utf8()
    app(prog_name="adapter-stilts")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"adapter-stilts {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Intermediate-task training (STILTs) with adapters on a frozen multilingual encoder.

    Example: adapter-stilts quickstart
    """
