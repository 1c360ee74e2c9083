"""`data check`: is annotated data as it should be?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapter_stilts.checking.check import check_files
from adapter_stilts.checking.findings import CODES
from adapter_stilts.cli.options import JsonOption, accept, print_json
from adapter_stilts.plain_text import printable

data = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

_CHECKED = (
    "Always checked: the form of CoNLL-U, text against words, UPOS and relations of UD v2, trees, entity spans"
    " (Entity=B-PER in MISC: IOB2 over PER, LOC, ORG), coarse semantic tags (Sem in MISC), and sentences that stand"
    " twice, or in both training and test data (train, dev, test in the files' names tell). What a file has not at all"
    " (no HEAD, no Entity) is not checked there, and the summary says so."
)
_ASKED_FOR = (
    "--varied, --parallel and --minimum ask for more: for small data sets of one's own, not for treebanks. The data"
    " that come with this package pass them all. Exit code: 0 without findings, 1 with, 2 for wrong usage."
)
_HELP = "\n\n".join(
    [
        "Check CoNLL-U files: a line a finding (file:line: what was found, what is accepted), then a summary.",
        _CHECKED,
        _ASKED_FOR,
        "Example: adapter-stilts data check my.conllu",
        "Codes of findings, for --skip:",
        "\n".join(f"- {code}: {what}" for code, what in CODES.items()),
    ]
)


@data.callback()
def _group() -> None:
    """Look after annotated data.

    Example: adapter-stilts data check my.conllu
    """


@data.command(help=_HELP)
def check(
    files: Annotated[
        list[Path], typer.Argument(help="CoNLL-U files, or folders of .conllu files.", show_default=False)
    ],
    varied: Annotated[
        bool,
        typer.Option("--varied", help="Also: no four words in more than 3 sentences, no UPOS sequence in over 2%."),
    ] = False,
    parallel: Annotated[
        bool, typer.Option("--parallel", help="Also: the same sentences in de.conllu, fr.conllu and so on.")
    ] = False,
    minimum: Annotated[int | None, typer.Option(min=1, help="Also: so many sentences in each file.")] = None,
    skip: Annotated[
        str | None,
        typer.Option(metavar="CODES", help="Leave these findings out. Example: --skip duplicate,entity-type"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check CoNLL-U files."""
    codes = [code.strip() for code in (skip or "").split(",") if code.strip()]
    for code in codes:
        accept("--skip", code, list(CODES))
    report = check_files(files, varied=varied, parallel=parallel, minimum=minimum, skip=codes)
    if as_json:
        print_json(report.as_json())
    else:
        print("\n".join(printable(str(own)) for own in (*report.findings, report.summary)))
    if report.findings:
        raise typer.Exit(1)
