"""`tune`: search a recipe and write it into a task's YAML."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from adapter_stilts.backbone_names import recipe_key
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
    SetOption,
    ThreadsOption,
    accept,
    assignments,
    print_json,
    usable_device,
)
from adapter_stilts.errors import UsageError
from adapter_stilts.model.composition import BOTTLENECK_NAMES
from adapter_stilts.paths import user_path
from adapter_stilts.progress import quiet_libraries, show, show_values
from adapter_stilts.tasks.catalog import all_tasks, find_task
from adapter_stilts.tasks.recipe_file import write_recipe
from adapter_stilts.tasks.recipes import recipe_for

if TYPE_CHECKING:
    from adapter_stilts.schema import Task
    from adapter_stilts.training.tune import Tuned


SearchOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=SPACE",
        help="A recipe field to search: LOW:HIGH (logarithmic) or A,B,C. Repeatable. "
        "Example: --search learning_rate=1e-4:1e-2 --search rank=8,16",
        show_default="learning_rate, from 1/8 of the present recipe's to 4 times it",
    ),
]
SeedsOption = Annotated[
    list[int] | None,
    typer.Option(
        "--seed",
        min=0,
        max=2**32 - 1,
        help="Seed of a trial's run. Repeatable: a trial's score is the mean. Example: --seed 0 --seed 1 --seed 2",
        show_default="0",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        help="YAML file that gets the recipe: new, or of the same task.",
        show_default="the task's own file; for a shipped task a copy, ./TASK.yaml",
    ),
]


def tune(
    task: Annotated[str, typer.Argument(help="A task's name, or the path of a task's YAML.")],
    method: MethodOption = "bottleneck",
    trials: Annotated[
        int, typer.Option(min=1, help="Runs to train: the same number for every method that is compared.")
    ] = 5,
    search: SearchOption = None,
    backbone: BackboneOption = DEFAULT_BACKBONE,
    seeds: SeedsOption = None,
    limit: LimitOption = None,
    development_limit: DevelopmentLimitOption = None,
    match_tokens: MatchTokensOption = None,
    settings: SetOption = None,
    out: OutOption = None,
    runs: RunsOption = None,
    hub_mirror: MirrorOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search a method's recipe on English development data with Optuna, and write it into the task's YAML.

    Test data are never read. Trials are runs: an interrupted search goes on where it stopped.

    Example: adapter-stilts tune udpos --method lora --trials 10 --backbone embedded --limit 1000
    """
    accept("--method", method, METHODS)
    chosen = assignments("--set", settings)
    spaces = assignments("--search", search, "KEY=LOW:HIGH or KEY=A,B,C")
    wanted = find_task(task)
    file = user_path(out) if out is not None else _own_file(task, wanted)
    key = "bottleneck" if method in BOTTLENECK_NAMES else method
    with quiet_libraries():
        from adapter_stilts.model.backbone import load_backbone
        from adapter_stilts.training.tune import tune as tune_recipe

        base = load_backbone(backbone, mirror=hub_mirror)
        _check_file(wanted, key, base.id, file)
        tuned = tune_recipe(
            wanted,
            method=method,
            trials=trials,
            search=spaces,
            backbone=base,
            seeds=seeds or (0,),
            limit=limit,
            development_limit=development_limit,
            match_tokens=match_tokens,
            settings=chosen,
            runs=runs,
            mirror=hub_mirror,
            device=usable_device(device),
            threads=threads,
        )
    # Looked at again: another search may have put its recipe there in the meantime.
    write_recipe(_template(wanted, file), key, base.id, tuned.recipe, file)
    words = ["adapter-stilts", "train", str(file), "--method", method, "--backbone", backbone]
    for option, folder in (("--runs", runs), ("--hub-mirror", hub_mirror)):
        words += [option, str(folder)] if folder is not None else []
    command = shlex.join(words)
    if as_json:
        print_json({**_described(tuned), "file": str(file), "command": command})
        return
    show(_table(tuned, wanted.selection_metric))
    print()
    written = f"{file}, recipes: {key}: {recipe_key(base.id)}"
    show_values("tuned", {"tuning": tuned.recipe.tuning or "", "recipe": written, "use": command})


def _own_file(text: str, task: Task) -> Path:
    """Where a recipe goes by default: the file that was named; of a shipped task, a copy in the working directory."""
    shipped = text in {own.name for own in all_tasks()}
    return Path(f"{task.name}.yaml") if shipped else user_path(text)


def _template(task: Task, file: Path) -> Task:
    """The task whose YAML, with the recipe, becomes the content of `file`: what stands there, else the task's own.

    Raises UsageError where something else stands there.
    """
    accepted = f"a new YAML file, or one of the same task {task.name}"
    if file.is_dir():
        raise UsageError(f"--out: found the folder {file}, accepted {accepted}")
    if not file.exists():
        return task
    try:
        there = find_task(str(file.resolve()))
    except UsageError as error:
        raise UsageError(f"--out: found a file that is no task ({error}), accepted {accepted}") from None
    ours, theirs = (own.model_dump(exclude={"recipes"}) for own in (task, there))
    different = [key for key in ours if ours[key] != theirs[key]]
    if different:
        raise UsageError(f"--out: found in {file} a task of another {', '.join(different)}, accepted {accepted}")
    return there


def _check_file(task: Task, method: str, backbone: str, file: Path) -> None:
    """Raise UsageError where a recipe could not be written into `file`: known before the first trial trains."""
    templates = {own.path: own for own in (task, _template(task, file))}
    for own in templates.values():
        with _beside(file) as trial:
            write_recipe(own, method, backbone, recipe_for(own, method, backbone), trial)  # type: ignore[arg-type]


@contextmanager
def _beside(file: Path) -> Iterator[Path]:
    """A file beside `file` for the time of the block; what is wrong with it is told of `file`."""
    trial = file.resolve().with_name(f".{file.name}.{os.getpid()}")
    try:
        yield trial
    except UsageError as error:
        raise UsageError(str(error).replace(str(trial), str(file))) from None
    finally:
        with suppress(OSError):
            trial.unlink()


def _described(tuned: Tuned) -> dict[str, Any]:
    described = asdict(tuned)
    return {**described, "recipe": tuned.recipe.model_dump(mode="json"), "best": asdict(tuned.best)}


def _table(tuned: Tuned, metric: str) -> Table:
    keys = list(tuned.trials[0].settings)
    table = Table("trial")
    several = len(tuned.best.attempts) > 1
    for name in (*keys, f"development {metric}", *(["by seed"] if several else []), "seconds"):
        table.add_column(name, justify="right")
    table.add_column("")
    best = tuned.trials.index(tuned.best)
    for place, trial in enumerate(tuned.trials):
        cells = [trial.settings[key] for key in keys]
        mark = "best" if place == best else ""
        by_seed = [" ".join(f"{own.development:.1f}" for own in trial.attempts)] if several else []
        seconds = sum(own.seconds for own in trial.attempts)
        table.add_row(str(place + 1), *cells, f"{trial.development:.2f}", *by_seed, f"{seconds:.1f}", mark)
    return table
