"""`predict`: labels for a file of one's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from adapter_stilts.cli.options import DeviceOption, MirrorOption, RunsOption, usable_device
from adapter_stilts.progress import quiet_libraries


def predict(
    run: Annotated[str, typer.Argument(help="A run's name, a unique beginning of it, or its folder.")],
    file: Annotated[Path, typer.Argument(help="Plain text, CoNLL-U, or text<TAB>text_pair lines.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Write here instead of standard output.")] = None,
    runs: RunsOption = None,
    hub_mirror: MirrorOption = None,
    device: DeviceOption = None,
) -> None:
    """Label a file of your own.

    Plain text: a sentence a line, words separated by blanks (segment Chinese, Japanese or Thai first); the output is
    word<TAB>label, a blank line between sentences. CoNLL-U comes back as it was, with the labels in UPOS, DEPREL, or
    MISC (Label=...), as the task has it. A classification run reads a text, or text<TAB>text_pair, a line and writes
    label<TAB>line.

    Example: adapter-stilts predict udpos-bottleneck sentences.conllu --out tagged.conllu
    """
    with quiet_libraries():
        from adapter_stilts.evaluation.predict import predict_file
        from adapter_stilts.paths import atomic_write_text
        from adapter_stilts.runs.store import RunStore

        text = predict_file(RunStore(runs).find(run), file, mirror=hub_mirror, device=usable_device(device))
        if out is not None and out.exists() and not out.is_file():
            out.write_text(text, encoding="utf-8")  # a rename would put a file in a device's or pipe's place
        elif out is not None:
            atomic_write_text(out, text)
    if out is None:
        sys.stdout.write(text)
