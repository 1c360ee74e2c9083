"""`train`: one run, over intermediates if any are given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.table import Table

from adapter_stilts.cli.options import (
    DEFAULT_BACKBONE,
    METHODS,
    BackboneOption,
    DevelopmentLimitOption,
    DeviceOption,
    JsonOption,
    LimitOption,
    MatchTokensOption,
    MethodOption,
    MirrorOption,
    RunsOption,
    SeedOption,
    SetOption,
    TensorboardOption,
    ThreadsOption,
    accept,
    assignments,
    language_codes,
    print_json,
    usable_device,
)
from adapter_stilts.model.composition import Composition
from adapter_stilts.paths import is_file, user_path
from adapter_stilts.progress import quiet_libraries, show, show_values
from adapter_stilts.tasks.catalog import find_task

if TYPE_CHECKING:
    from adapter_stilts.runs.record import Record
    from adapter_stilts.schema import Task

COMPOSITIONS = get_args(Composition)
CONTROLS = ("random", "shuffled")
PRECISIONS = ("float32", "bf16")
STEPS = ("auto", "eager", "captured", "unrecorded")
COMPILE = ("auto", "on", "off")


OverOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Intermediate underneath: a run, or a task (or A+B), which is trained first; TASK@random (never "
        "trained) and TASK@shuffled (trained on shuffled labels) are its controls. Repeatable. "
        "Example: --over ud_deprel --over chunking@shuffled"
    ),
]
ComposeOption = Annotated[
    str | None,
    typer.Option(
        help="How intermediates lie under the target: none, stack (active underneath), fuse (AdapterFusion over "
        "them), continue (the target starts as a copy), merge (their weighted average, then stacked or continued) "
        "or bake (merged into the backbone). Example: --compose fuse",
        show_default="none; with --over stack, or continue for full",
    ),
]
LanguagesOption = Annotated[
    str | None,
    typer.Option(
        help="Languages of the training data, with commas between. Example: --languages de,fr",
        show_default="the task's own, English",
    ),
]
ControlOption = Annotated[
    str | None,
    typer.Option(
        help="Make the run itself a control: random (never trained) or shuffled (shuffled labels). "
        "Example: --control random",
        show_default="none",
    ),
]


def train(
    task: Annotated[
        str,
        typer.Argument(
            help="A task's name, or the path of a task's YAML; A+B+C trains them together, one adapter and a head each."
        ),
    ],
    over: OverOption = None,
    compose: ComposeOption = None,
    method: MethodOption = "bottleneck",
    backbone: BackboneOption = DEFAULT_BACKBONE,
    seed: SeedOption = 0,
    limit: LimitOption = None,
    development_limit: DevelopmentLimitOption = None,
    match_tokens: MatchTokensOption = None,
    languages: LanguagesOption = None,
    control: ControlOption = None,
    settings: SetOption = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Precision of training: float32 or bf16.", show_default="bf16 on CUDA, float32 on a CPU"),
    ] = None,
    step: Annotated[
        str,
        typer.Option(
            help="How steps run: eager, captured (a CUDA graph), unrecorded (what that graph records, run as it is), "
            "or auto: captured on CUDA."
        ),
    ] = "auto",
    compile_: Annotated[
        str, typer.Option("--compile", help="Compile encoder layers: on, off, or auto: on CUDA, where it pays.")
    ] = "auto",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Less memory, more time: compute each layer twice.")
    ] = False,
    tensorboard: TensorboardOption = None,
    out: Annotated[Path | None, typer.Option(help="Copy the run's folder here.")] = None,
    runs: RunsOption = None,
    hub_mirror: MirrorOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a task in English, over intermediate tasks if any are given.

    A run that exists is not trained again.

    Example: adapter-stilts train udpos --over ud_deprel --backbone embedded --limit 1000 --set epochs=3
    """
    accept("--method", method, METHODS)
    accept("--compose", compose, COMPOSITIONS)
    accept("--control", control, CONTROLS)
    accept("--precision", precision, PRECISIONS)
    accept("--step", step, STEPS)
    accept("--compile", compile_, COMPILE)
    chosen, codes = assignments("--set", settings), language_codes(languages)
    wanted = _tasks(task)
    with quiet_libraries():
        from adapter_stilts.training.api import train as train_run
        from adapter_stilts.training.execution import Execution

        run = train_run(
            wanted,
            over=over or [],
            compose=compose,
            method=method,
            backbone=backbone,
            seed=seed,
            limit=limit,
            development_limit=development_limit,
            match_tokens=match_tokens,
            languages=codes,
            control=control,  # type: ignore[arg-type]
            settings=chosen,
            runs=runs,
            mirror=hub_mirror,
            out=out,
            device=usable_device(device),
            precision=precision,
            execution=Execution(step, compile_, checkpointing, tensorboard=tensorboard),  # type: ignore[arg-type]
            threads=threads,
        )
    if as_json:
        print_json({"folder": str(run.folder), **run.record.model_dump(mode="json")})
        return
    show_values("trained", {"run": run.name, "folder": str(run.folder), **_summary(run.record)})
    print()
    show(_parts(run.record))


def _tasks(text: str) -> list[Task]:
    """The tasks that TASK names: looked up before anything heavy is imported."""
    names = [text] if is_file(user_path(text)) else text.split("+")
    return [find_task(name) for name in names]


def _summary(record: Record) -> dict[str, str]:
    cost, share = record.cost, 100 * record.trainable_parameters / record.total_parameters
    over = " + ".join(intermediate.label for intermediate in record.over)
    about = {"variant": record.variant, "control": record.control}
    return {
        "composition": f"{record.composition} over {over}" if over else record.composition,
        **{key: value for key, value in about.items() if value},
        f"development {record.task.selection_metric}": _development(record),
        "trainable parameters": f"{record.trainable_parameters:,} of {record.total_parameters:,} ({share:.2f}%)",
        "seconds": f"{cost.seconds:.1f} ({cost.train_seconds:.1f} in training steps)",
        "tokens/s": f"{cost.tokens_per_second:,.0f}",
    }


def _development(record: Record) -> str:
    """The selected epoch's score; where it is a mean over tasks, what each task scored; and the majority class's."""
    if not record.history:
        return f"{record.development:.2f} (untrained)"
    scores = record.history[record.selected_epoch - 1].scores
    # Of several tasks the scores are keyed by task.metric.
    each = [f"{key} {value:.2f}" for key, value in scores.items() if "." in key]
    majority = record.development_majority
    each += [] if majority is None else [f"majority class {majority:.2f}"]
    return f"{record.development:.2f} ({', '.join([f'epoch {record.selected_epoch}', *each])})"


def _parts(record: Record) -> Table:
    table = Table("part", "trains")
    for name in ("tensors", "parameters"):
        table.add_column(name, justify="right")
    for part in record.parts:
        table.add_row(part.name, "yes" if part.trains else "no", f"{part.tensors:,}", f"{part.parameters:,}")
    return table
