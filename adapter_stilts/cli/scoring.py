"""`evaluate`, `predict` and `compare`: what trained runs are worth, and what they say."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from adapter_stilts.cli.options import (
    SPLITS,
    DeviceOption,
    JsonOption,
    MirrorOption,
    RunsOption,
    SplitOption,
    accept,
    language_codes,
    print_json,
    usable_device,
)
from adapter_stilts.errors import UsageError
from adapter_stilts.languages import language
from adapter_stilts.plain_text import printable
from adapter_stilts.progress import quiet_libraries, show

if TYPE_CHECKING:
    from adapter_stilts.evaluation.zero_shot import Scores
    from adapter_stilts.runs.store import Run

KEEP = ("scores", "adapters", "all")


def evaluate(
    run: Annotated[str, typer.Argument(help="A run's name, a unique beginning of it, or its folder.")],
    languages: Annotated[str | None, typer.Option(help="Codes with commas between.", show_default="all")] = None,
    split: SplitOption = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Sentences a language, the same for every run.")] = None,
    out: Annotated[Path | None, typer.Option(help="Copy scores.json and the predictions into this folder.")] = None,
    keep: Annotated[
        str,
        typer.Option(help="What stays of the run's weights: scores (none), adapters (not those of full runs), all."),
    ] = "all",
    runs: RunsOption = None,
    hub_mirror: MirrorOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score a run in every language of its task.

    Example: adapter-stilts evaluate udpos-bottleneck --languages de,ar --hub-mirror DIR
    """
    accept("--split", split, SPLITS)
    accept("--keep", keep, KEEP)
    codes = language_codes(languages)
    with quiet_libraries():
        from adapter_stilts.evaluation.zero_shot import evaluate as evaluate_run

        scores = evaluate_run(
            run,
            languages=codes,
            split=split,
            limit=limit,
            runs=runs,
            mirror=hub_mirror,
            out=out,
            keep=keep,  # type: ignore[arg-type]
            device=usable_device(device),
        )
    if as_json:
        print_json(scores.model_dump(mode="json"))
    else:
        _show_scores(scores)


def _show_scores(scores: Scores) -> None:
    names = list(scores.mean)
    table = Table("", "language", "family", "script")
    for name in (*names, "n"):
        table.add_column(name, justify="right")
    for code, own in scores.languages.items():
        about = language(code)
        values = [f"{own[name]:.2f}" for name in names]
        table.add_row(code, about.name, about.family, about.script, *values, f"{own['n']:.0f}")
    table.add_section()
    others = f"mean without {', '.join(scores.trained_languages)}"
    for label, mean in (("mean", scores.mean), (others, scores.mean_zero_shot)):
        if mean is not None:
            table.add_row("", label, "", "", *(f"{mean[name]:.2f}" for name in names), "")
    show(table)
    for code, reason in scores.missing.items():
        print(printable(f"missing: {code} ({reason})"))


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

        text = predict_file(_find_runs(runs, [run])[0], file, mirror=hub_mirror, device=usable_device(device))
        if out is not None and out.exists() and not out.is_file():
            out.write_text(text, encoding="utf-8")  # a rename would put a file in a device's or pipe's place
        elif out is not None:
            atomic_write_text(out, text)
    if out is None:
        sys.stdout.write(text)


def compare(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs.", show_default="all scored")
    ] = None,
    split: SplitOption = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Evaluations with so many sentences a language.")] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Compare scored runs: deltas against no intermediate and against full STILTs, by language, family and mean.

    Example: adapter-stilts compare --markdown
    """
    accept("--split", split, SPLITS)
    if as_json and as_markdown:
        raise UsageError("--json and --markdown: found both, accepted one of them")
    with quiet_libraries():
        from adapter_stilts.analysis.compare import compare_runs
        from adapter_stilts.runs.store import RunStore

        comparison = compare_runs(RunStore(runs), _find_runs(runs, names) if names else None, split=split, limit=limit)
    if as_json:
        print_json(comparison.as_json())
    elif as_markdown:
        print(comparison.markdown())
    else:
        for table in comparison.tables():
            show(table)
            print()


def _find_runs(runs: Path | None, names: Sequence[str]) -> list[Run]:
    from adapter_stilts.runs.store import RunStore

    store = RunStore(runs)
    return [store.find(name) for name in names]
