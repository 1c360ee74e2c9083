"""`evaluate` and `compare`: what trained runs are worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from adapter_stilts.cli.options import (
    SPLITS,
    DeviceOption,
    JsonOption,
    MirrorOption,
    RunsOption,
    SentenceIntervalsOption,
    SplitOption,
    ThreadsOption,
    accept,
    language_codes,
    print_json,
    usable_device,
)
from adapter_stilts.errors import UsageError
from adapter_stilts.languages import language
from adapter_stilts.progress import quiet_libraries, show, show_lines, terminal_width

if TYPE_CHECKING:
    from adapter_stilts.evaluation.scores import Scores
    from adapter_stilts.runs.store import Run

KEEP = ("scores", "adapters", "all")


def evaluate(
    run: Annotated[str, typer.Argument(help="A run's name, a unique beginning of it, or its folder.")],
    task: Annotated[
        str | None,
        typer.Option(
            help="Score the files of this task (a name, or a YAML): one that the run could have been trained on.",
            show_default="the one that the run was last asked for with",
        ),
    ] = None,
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
    threads: ThreadsOption = None,
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
            task,
            languages=codes,
            split=split,
            limit=limit,
            runs=runs,
            mirror=hub_mirror,
            out=out,
            keep=keep,  # type: ignore[arg-type]
            device=usable_device(device),
            threads=threads,
        )
    if as_json:
        print_json(scores.model_dump(mode="json"))
    else:
        _show_scores(scores)


def _show_scores(scores: Scores) -> None:
    from adapter_stilts.evaluation.floor import nothing_learnt
    from adapter_stilts.runs.leaks import leak_line

    show(_scores_table(scores))
    show_lines(*(f"missing: {code} ({reason})" for code, reason in scores.missing.items()))
    metric = scores.selection_metric
    values = {code: row[metric] for code, row in scores.languages.items()} if metric else {}
    unseen = [f"{code} {row['unseen_gold']:.0f}" for code, row in scores.languages.items() if "unseen_gold" in row]
    lines = [
        nothing_learnt(metric, values, scores.majority, scores.predicted_labels),
        leak_line(scores.leaks or ()),
        f"gold labels that training never showed count as wrong: {', '.join(unseen)}" if unseen else "",
    ]
    show_lines(*filter(None, lines))


def _scores_table(scores: Scores) -> Table:
    """Languages down; metrics, the majority class's score in the one that selects, and numbers across."""
    names, majority = list(scores.mean), scores.majority
    unseen = any("unseen_gold" in row for row in scores.languages.values())
    floor = "majority class" if len(names) == 1 else f"majority class ({scores.selection_metric})"
    table = Table("", "language", "family", "script")
    for name in (*names, *([floor] if majority else []), *(["unseen gold"] if unseen else []), "n"):
        table.add_column(name, justify="right")
    for code, row in scores.languages.items():
        about = language(code)
        values = [f"{row[name]:.2f}" for name in names]
        values += [f"{majority[code]:.2f}"] if majority else []
        values += [f"{row.get('unseen_gold', 0):.0f}"] if unseen else []
        table.add_row(code, about.name, about.family, about.script, *values, f"{row['n']:.0f}")
    table.add_section()
    others = [code for code in scores.languages if code not in scores.trained_languages]
    means = [("mean", scores.mean, list(scores.languages))]
    means += (
        [(f"mean without {', '.join(scores.trained_languages)}", scores.mean_zero_shot, others)]
        if scores.mean_zero_shot
        else []
    )
    for label, mean, codes in means:
        values = [f"{mean[name]:.2f}" for name in names]
        values += [f"{fmean(majority[code] for code in codes):.2f}"] if majority else []
        table.add_row("", label, "", "", *values, *([""] if unseen else []), "")
    return table


def compare(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs.", show_default="all scored")
    ] = None,
    split: SplitOption = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Evaluations with so many sentences a language.")] = None,
    sentence_intervals: SentenceIntervalsOption = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Compare scored runs: deltas against no intermediate and against full STILTs, by language, family and mean.

    Runs that were trained or tested on other data stand in tables of their own, and a line says so. Deltas of rows that
    share three seeds or more have 95% intervals over seeds and test sentences.

    Example: adapter-stilts compare --markdown
    """
    accept("--split", split, SPLITS)
    if as_json and as_markdown:
        raise UsageError("--json and --markdown: found both, accepted one of them")
    with quiet_libraries():
        from adapter_stilts.analysis.compare import compare_runs
        from adapter_stilts.runs.store import RunStore

        chosen = _find_runs(runs, names) if names else None
        comparison = compare_runs(RunStore(runs), chosen, split, limit, sentence_intervals)
    if as_json:
        print_json(comparison.as_json())
    elif as_markdown:
        print(comparison.markdown())
    else:
        for table in comparison.tables(terminal_width()):
            show(table)
            print()


def _find_runs(runs: Path | None, names: Sequence[str]) -> list[Run]:
    from adapter_stilts.runs.store import RunStore

    store = RunStore(runs)
    return [store.find(name) for name in names]
