"""`predict`: labels for a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapter_stilts.cli.options import (
    DeviceOption,
    MirrorOption,
    RunsOption,
    ThreadsOption,
    columns_by_role,
    usable_device,
)
from adapter_stilts.errors import UsageError
from adapter_stilts.progress import quiet_libraries, show_bytes
from adapter_stilts.tasks.formats import FORMATS, is_parquet

_FORMS = (
    "CoNLL-U (.conllu) and CoNLL-U Plus (.conllup): labels in UPOS, XPOS, DEPREL or a key of MISC, as the task has"
    " them, else in MISC as Label=...; in CoNLL-U Plus without such a column in a new one, STILTS:LABEL.",
    "Columns of words and labels (.iob2, or known by its lines), with tabs or blanks between: over the task's column of"
    " labels where the task's own data are such files, else in a new last column, so that labels in the file stay.",
    "JSON lines (.jsonl) and Parquet (.parquet, with --out): under the task's name for labels, replaced or added.",
    "Plain text: a sentence a line, words separated by blanks (segment Chinese, Japanese or Thai first); the output is"
    " word<TAB>label, a blank line between sentences.",
    "A run on texts reads .jsonl, .parquet, .tsv with a header line, or plain lines: a text, or text<TAB>text_pair, a"
    " line becomes label<TAB>line.",
)
_HELP = "\n\n".join(
    [
        "Label a file of your own. It comes back in its own format, with everything but the labels as it was.",
        "\n".join(f"- {form}" for form in _FORMS),
        "A file that may be of one format or another is refused with the --format to choose from. Output is UTF-8.",
        "Example: adapter-stilts predict udpos-bottleneck sentences.conllu --out tagged.conllu",
    ]
)

ColumnsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="ROLE=COLUMN",
        help="Where the file has tokens and labels (or text, text_pair, label): a column's name, or its number from 0, "
        "or last. With commas between, or repeatable. Example: --columns tokens=1,labels=2",
        show_default="the task's own",
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", help=f"{', '.join(FORMATS)}.", show_default="known by name, else by content"),
]


def predict(
    run: Annotated[str, typer.Argument(help="A run's name, a unique beginning of it, or its folder.")],
    file: Annotated[Path, typer.Argument(help="The file to label.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Write here instead of standard output.")] = None,
    file_format: FormatOption = None,
    columns: ColumnsOption = None,
    runs: RunsOption = None,
    hub_mirror: MirrorOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Label a file of your own."""
    chosen = columns_by_role(columns)
    if out is None and is_parquet(file):
        raise UsageError(f"{file}: found a Parquet file, accepted with --out FILE.parquet (it is no text to print)")
    if out is not None and out.is_dir():
        raise UsageError(f"--out {out}: found a folder, accepted a file to write")
    with quiet_libraries():
        from adapter_stilts.evaluation.predict import predict_file
        from adapter_stilts.files import atomic_write_bytes, write_through
        from adapter_stilts.paths import user_path
        from adapter_stilts.runs.store import RunStore

        content = predict_file(
            RunStore(runs).find(run),
            user_path(file),
            file_format=file_format,
            columns=chosen,
            mirror=hub_mirror,
            device=usable_device(device),
            threads=threads,
        )
        out = user_path(out) if out is not None else None
        if out is not None and out.exists() and not out.is_file():
            write_through(out, content)
        elif out is not None:
            atomic_write_bytes(out, content)
    if out is None:
        show_bytes(content)


predict.__doc__ = _HELP
