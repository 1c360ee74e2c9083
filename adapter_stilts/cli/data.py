"""`data check`: is annotated data as it should be?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapter_stilts.checking.findings import CODES
from adapter_stilts.cli.options import JsonOption, MirrorOption, accept, columns_by_role, print_json
from adapter_stilts.paths import mirror_dir, user_path
from adapter_stilts.progress import show_lines
from adapter_stilts.tasks.formats import FORMATS

data = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

_CHECKED = (
    "CoNLL-U, always: its form, text against words, UPOS and relations of UD v2, trees, entity spans"
    " (Entity=B-PER in MISC: IOB2 over PER, LOC, ORG), and coarse semantic tags (Sem in MISC). What a file has not at"
    " all (no HEAD, no Entity) is not checked there, and the summary says so."
)
_OTHERS = (
    "Columns of words and labels, .tsv, .jsonl and .parquet: what stops the reader, what is empty, what can be no"
    " label, one label in two spellings, and tags of spans (their scheme; I- within a span alone). A line a file says"
    " what was read, and which labels: name other columns with --columns. A task's YAML: all of its files, with its"
    " columns, and labels of development and test data that its training data do not have."
)
_ALL = (
    "All formats: sentences or texts that stand twice, or in both training and test data (the task, or train, dev, test"
    " in the files' names tell)."
)
_ASKED_FOR = (
    "--varied, --parallel and --minimum ask for more: for small data sets of one's own, not for treebanks. The data"
    " that come with this package pass them all. Exit code: 0 without findings, 1 with, 2 for wrong usage."
)
_HELP = "\n\n".join(
    [
        "Check data files: a line a finding (file:line: what was found, what is accepted), then a summary.",
        _CHECKED,
        _OTHERS,
        _ALL,
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
        list[Path],
        typer.Argument(help="Data files, a task's YAML, or folders of .conllu files.", show_default=False),
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
    file_format: Annotated[
        str | None,
        typer.Option("--format", help=f"{', '.join(FORMATS[:-1])}.", show_default="known by name, else by content"),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=COLUMN",
            help="Where files that are no task's have tokens and labels, or text, text_pair and label: a column's "
            "name, or its number from 0, or last. With commas between, or repeatable. "
            "Example: --columns tokens=1,labels=2",
            show_default="the usual names",
        ),
    ] = None,
    hub_mirror: MirrorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check data files."""
    from adapter_stilts.checking.check import check_files

    codes = [code.strip() for code in (skip or "").split(",") if code.strip()]
    for code in codes:
        accept("--skip", code, list(CODES))
    report = check_files(
        [user_path(file) for file in files],
        varied=varied,
        parallel=parallel,
        minimum=minimum,
        skip=codes,
        file_format=file_format,
        columns=columns_by_role(columns),
        mirror=mirror_dir(hub_mirror),
    )
    if as_json:
        print_json(report.as_json())
    else:
        described = [file.description for file in report.files if file.read]
        show_lines(*map(str, report.findings), *described, report.summary)
    if report.findings:
        raise typer.Exit(1)
