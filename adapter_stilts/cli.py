"""The command line: parses, calls, prints.

Results go to standard output (with --json exactly one JSON document), progress and notes to standard error. Exit codes:
0, 1 for work that failed, 2 for bad usage or config, 130 for an interruption.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.table import Table
from safetensors import SafetensorError
from typer.core import TyperGroup

from adapter_stilts import __version__
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.languages import language
from adapter_stilts.progress import quiet_libraries, show, show_values
from adapter_stilts.schema import MethodName, SplitName
from adapter_stilts.tasks.catalog import all_tasks, find_task

if TYPE_CHECKING:
    from adapter_stilts.evaluation.zero_shot import Scores
    from adapter_stilts.runs.record import Record
    from adapter_stilts.runs.store import Run
    from adapter_stilts.schema import Task

# Heavy modules (torch, transformers, adapters) are imported inside the commands: `--help` and `tasks` need none.
DEFAULT_BACKBONE = "FacebookAI/xlm-roberta-large"
ROLES = ("intermediate", "target")
COMPOSITIONS = ("none", "stack")
KEEP = ("scores", "adapters", "all")


class OneLineErrors(TyperGroup):
    """A group whose commands end with one line on standard error and an exit code, not with a traceback, where the
    package or the operating system says what is wrong."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except StiltsError as error:
            _fail(str(error), error.exit_code)
        except BrokenPipeError:  # whoever read the output has gone: Typer ends quietly
            raise
        except OSError as error:
            _fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error), 1)
        except SafetensorError as error:  # its form of a full disk
            _fail(f"weights: {error}", 1)
        except KeyboardInterrupt:
            _fail("interrupted", 130)


def _fail(message: str, exit_code: int) -> None:
    print(" ".join(message.split()), file=sys.stderr)
    raise typer.Exit(exit_code)


app = typer.Typer(
    cls=OneLineErrors,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

RunsOption = Annotated[
    Path | None, typer.Option("--runs", help="Folder of runs.", show_default="$ADAPTER_STILTS_RUNS, else runs")
]
MirrorOption = Annotated[
    Path | None,
    typer.Option(
        "--hub-mirror", help="Folder in place of the Hub.", show_default="$ADAPTER_STILTS_HUB_MIRROR, else none"
    ),
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or cuda:N.", show_default="cuda where there is one")
]
SplitOption = Annotated[str, typer.Option("--split", help=f"{', '.join(get_args(SplitName))}.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def main() -> None:
    """The console script `adapter-stilts`."""
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

    Example: adapter-stilts train udpos --over ud_deprel --backbone embedded --hub-mirror DIR
    """


@app.command()
def tasks(
    role: Annotated[str | None, typer.Option(help="Only tasks that can be intermediate, or target.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the tasks.

    Example: adapter-stilts tasks --role intermediate
    """
    _accept("--role", role, ROLES)
    listed = [_described(task) for task in all_tasks() if role in (None, task.role) or task.role == "both"]
    if as_json:
        _print_json(listed)
        return
    table = Table(*listed[0])
    for own in listed:
        codes = own["languages"]
        cells = {**own, "languages": codes[0] if len(codes) == 1 else len(codes)}
        table.add_row(*map(str, cells.values()))
    show(table)


def _described(task: Task) -> dict[str, Any]:
    fields = ("name", "kind", "role", "knowledge", "granularity")
    return {
        **{field: getattr(task, field) for field in fields},
        "languages": list(task.data.languages),
        "dataset": task.data.dataset,
        "licence": task.licence,
    }


@app.command()
def train(
    task: Annotated[str, typer.Argument(help="A task's name, or the path of a task's YAML.")],
    over: Annotated[
        list[str] | None,
        typer.Option(help="Intermediate underneath: a run, or a task, which is trained first. Repeatable."),
    ] = None,
    compose: Annotated[
        str | None, typer.Option(help="none or stack.", show_default="stack where there is an --over, else none")
    ] = None,
    method: Annotated[
        str, typer.Option(help="bottleneck (adapters), or full; full --over X is sequential full STILTs.")
    ] = "bottleneck",
    backbone: Annotated[
        str, typer.Option(help="An XLM-R checkpoint's Hub id or folder, or embedded.")
    ] = DEFAULT_BACKBONE,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0,
    limit: Annotated[
        int | None, typer.Option(min=1, help="English training examples, drawn with the seed.", show_default="all")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a field of the recipe. Repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Copy the run's folder here.")] = None,
    runs: RunsOption = None,
    hub_mirror: MirrorOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a task in English, over intermediate tasks if any are given.

    A run that exists is not trained again.

    Example: adapter-stilts train udpos --over ud_deprel --backbone embedded --limit 1000 --set epochs=3
    """
    _accept("--method", method, get_args(MethodName))
    _accept("--compose", compose, COMPOSITIONS)
    assignments = _assignments(settings or [])
    wanted = find_task(task)
    with quiet_libraries():
        from adapter_stilts.training.api import train as train_run

        run = train_run(
            wanted,
            over=over or [],
            compose=compose,
            method=method,
            backbone=backbone,
            seed=seed,
            limit=limit,
            settings=assignments,
            runs=runs,
            mirror=hub_mirror,
            out=out,
            device=_device(device),
        )
    if as_json:
        _print_json({"folder": str(run.folder), **run.record.model_dump(mode="json")})
    else:
        show_values("trained", {"run": run.name, "folder": str(run.folder), **_training_summary(run.record)})


def _assignments(settings: Sequence[str]) -> dict[str, str]:
    for setting in settings:
        if "=" not in setting:
            raise UsageError(f"--set {setting}: found no '=', accepted KEY=VALUE")
    return dict(setting.split("=", 1) for setting in settings)


def _training_summary(record: Record) -> dict[str, str]:
    cost, share = record.cost, 100 * record.trainable_parameters / record.total_parameters
    return {
        f"development {record.task.selection_metric}": f"{record.development:.2f} (epoch {record.selected_epoch})",
        "trainable parameters": f"{record.trainable_parameters:,} of {record.total_parameters:,} ({share:.2f}%)",
        "seconds": f"{cost.seconds:.1f} ({cost.train_seconds:.1f} in training steps)",
        "tokens/s": f"{cost.tokens_per_second:,.0f}",
    }


@app.command()
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
    _accept("--split", split, get_args(SplitName))
    _accept("--keep", keep, KEEP)
    codes = None if languages is None else [code.strip() for code in languages.split(",") if code.strip()]
    if codes == []:
        raise UsageError(f"--languages: found {languages!r}, accepted codes with commas between, such as de,ar")
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
            device=_device(device),
        )
    if as_json:
        _print_json(scores.model_dump(mode="json"))
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
    for label, mean in (("mean", scores.mean), ("mean without English", scores.mean_without_english)):
        if mean is not None:
            table.add_row("", label, "", "", *(f"{mean[name]:.2f}" for name in names), "")
    show(table)
    for code, reason in scores.missing.items():
        print(f"missing: {code} ({reason})")


@app.command()
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

        text = predict_file(_find_runs(runs, [run])[0], file, mirror=hub_mirror, device=_device(device))
        if out is not None and out.exists() and not out.is_file():
            out.write_text(text, encoding="utf-8")  # a rename would put a file in a device's or pipe's place
        elif out is not None:
            atomic_write_text(out, text)
    if out is None:
        sys.stdout.write(text)


@app.command()
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
    _accept("--split", split, get_args(SplitName))
    if as_json and as_markdown:
        raise UsageError("--json and --markdown: found both, accepted one of them")
    with quiet_libraries():
        from adapter_stilts.analysis.compare import compare_runs
        from adapter_stilts.runs.store import RunStore

        comparison = compare_runs(RunStore(runs), _find_runs(runs, names) if names else None, split=split, limit=limit)
    if as_json:
        _print_json(comparison.as_json())
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


def _accept(option: str, value: str | None, accepted: Sequence[str]) -> None:
    if value is not None and value not in accepted:
        raise UsageError(f"{option}: found {value!r}, accepted: {', '.join(accepted)}")


def _device(option: str | None) -> str | None:
    """The device asked for, if PyTorch can use it here."""
    if option is None or option == "cpu":
        return option
    import torch

    usable = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    usable += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    _accept("--device", option, usable)
    return option


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))
