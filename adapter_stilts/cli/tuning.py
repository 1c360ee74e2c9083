"""`tune`: search a recipe and write it into a task's recipe file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from adapter_stilts.backbone_names import portable_name, recipe_key
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
from adapter_stilts.paths import check_folder, user_path
from adapter_stilts.progress import quiet_libraries, show, show_values
from adapter_stilts.recipe_schema import StoredRecipe
from adapter_stilts.schema import EMBEDDED_PREFIX
from adapter_stilts.tasks.catalog import SPLITS, all_tasks, find_task
from adapter_stilts.tasks.recipe_files import check_room, read_recipes, recipe_path, write_recipe

if TYPE_CHECKING:
    from adapter_stilts.schema import MethodName, Task
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
        help="The task's YAML file whose recipe file (X.recipes.yaml beside X.yaml) gets the recipe: of the same task, "
        "or a new one, which becomes a copy of it.",
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
    """Search a method's recipe on English development data with Optuna, and write it into the task's recipe file.

    Test data are never read. Trials are runs: an interrupted search goes on where it stopped.

    Example: adapter-stilts tune udpos --method lora --trials 10 --backbone embedded --limit 1000
    """
    accept("--method", method, METHODS)
    chosen = assignments("--set", settings)
    spaces = assignments("--search", search, "KEY=LOW:HIGH or KEY=A,B,C")
    wanted = find_task(task)
    file = user_path(out) if out is not None else _default_file(task, wanted)
    key: MethodName = "bottleneck" if method in BOTTLENECK_NAMES else method  # type: ignore[assignment]
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
    amounts = {"--limit": limit, "--development-limit": development_limit, "--match-tokens": match_tokens}
    searched = {"--trials": trials, "--search": _assigned(spaces), "--seed": seeds or (), "--set": _assigned(chosen)}
    # Without the folders of this machine.
    common = {"--method": method, "--backbone": portable_name(backbone)}
    repeat = _command("tune", wanted.name, {**common, **searched, **amounts})
    fields = tuned.recipe.model_copy(update={"tuning": None})
    stored = StoredRecipe(set=fields, tuning=tuned.search.model_copy(update={"command": repeat}))
    # Looked at again: the file may have changed in the meantime.
    recipes = write_recipe(_template(wanted, file), key, base.id, stored, file)
    options = {"--method": method, "--backbone": backbone, "--runs": runs, "--hub-mirror": hub_mirror}
    command = _command("train", str(file), options)
    if as_json:
        print_json({**_described(tuned), "file": str(file), "recipes": str(recipes), "command": command})
        return
    show(_table(tuned, wanted.selection_metric))
    print()
    written = f"{recipes}, recipes: {key}: {recipe_key(base.id)}"
    show_values("tuned", {"tuning": tuned.recipe.tuning or "", "recipe": written, "use": command})


def _command(name: str, task: str, options: Mapping[str, Any]) -> str:
    """A command as one types it; an option of None is left out, one of several values is repeated."""
    words = ["adapter-stilts", name, task]
    for option, value in options.items():
        values = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
        words += [word for one in values for word in (option, str(one))]
    return shlex.join(words)


def _assigned(values: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]


def _default_file(text: str, task: Task) -> Path:
    """Where a recipe goes by default: the file that was named; of a shipped task, a copy in the working directory."""
    shipped = text in {known.name for known in all_tasks()}
    return Path(f"{task.name}.yaml") if shipped else user_path(text)


def _template(task: Task, file: Path) -> Task:
    """The task that `file` will hold: the one that stands there, else `task`, of which it becomes a copy.

    Raises UsageError where something else stands there.
    """
    accepted = f"a new YAML file, or one of the same task {task.name}"
    if file.is_dir():
        raise UsageError(f"--out: found the folder {file}, accepted {accepted}")
    if not file.exists():
        return task
    try:
        existing = find_task(str(file.resolve()))
    except UsageError as error:
        raise UsageError(f"--out: found a file that is no task ({error}), accepted {accepted}") from None
    fields, existing_fields = (each.model_dump(exclude={"recipes"}) for each in (task, existing))
    different = [key for key in fields if fields[key] != existing_fields[key]]
    if different:
        raise UsageError(f"--out: found in {file} a task of another {', '.join(different)}, accepted {accepted}")
    return existing


def _check_file(task: Task, method: MethodName, backbone: str, file: Path) -> None:
    """Raise UsageError where a recipe could not be written beside `file`: known before the first trial trains."""
    template = _template(task, file)
    if not file.exists():
        _refuse_other_folder(task, file)
    check_folder(file.resolve().parent, "--out")
    check_room(template.path, method, backbone)
    read_recipes(recipe_path(file.resolve()), task.name)


def _refuse_other_folder(task: Task, file: Path) -> None:
    """Raise UsageError where a copy of the task in `file` would not find its data."""
    folder = task.path.resolve().parent
    if file.resolve().parent == folder:
        return
    for code, source in task.data.languages.items():
        for split in SPLITS:
            value = getattr(source, split)
            if value is None or value.startswith(EMBEDDED_PREFIX) or user_path(value).is_absolute():
                continue
            raise UsageError(
                f"--out: found {file}, accepted a file in {folder}: data.languages.{code}.{split} is relative to the"
                " task's file, so the copy must lie beside the original"
            )


def _described(tuned: Tuned) -> dict[str, Any]:
    described = {key: value for key, value in vars(tuned).items() if key not in ("trials", "search")}
    trials = [asdict(trial) for trial in tuned.trials]
    return {**described, "recipe": tuned.recipe.model_dump(mode="json"), "trials": trials, "best": asdict(tuned.best)}


def _table(tuned: Tuned, metric: str) -> Table:
    keys = list(tuned.trials[0].settings)
    table = Table("trial")
    several = len(tuned.best.attempts) > 1
    for name in (*keys, f"development {metric}", *(["by seed"] if several else []), "seconds"):
        table.add_column(name, justify="right")
    table.add_column("")
    best = tuned.trials.index(tuned.best)
    for index, trial in enumerate(tuned.trials):
        cells = [trial.settings[key] for key in keys]
        mark = "best" if index == best else ""
        by_seed = [" ".join(f"{attempt.development:.1f}" for attempt in trial.attempts)] if several else []
        seconds = sum(attempt.seconds for attempt in trial.attempts)
        table.add_row(str(index + 1), *cells, f"{trial.development:.2f}", *by_seed, f"{seconds:.1f}", mark)
    return table
