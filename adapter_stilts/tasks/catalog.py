"""Find and check tasks: those shipped as task_configs/*.yaml and a user's own YAML files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from adapter_stilts.arguments import listed
from adapter_stilts.errors import ConfigError, UsageError
from adapter_stilts.languages import language
from adapter_stilts.paths import is_file, shipped_configs, user_path
from adapter_stilts.schema import ColumnName, LanguageSource, Task
from adapter_stilts.strict_yaml import Complaints, complaint, load_yaml
from adapter_stilts.tasks.conllu import CONLLU_COLUMNS, misc_key
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.recipe_files import check_backbone_key, recipe_path, with_stored_recipes
from adapter_stilts.trust import is_language_code
from adapter_stilts.yaml_complaints import Location, did_you_mean

__all__ = ["Named", "Task", "all_tasks", "find_task", "find_tasks"]

# What a request may name a task by: its name, a YAML file, or the task itself.
Named = str | Path | Task

SPLITS = ("train", "validation", "test")


def find_task(name_or_path: str | Path) -> Task:
    """The task of that name among the shipped ones, or the task in a YAML file.

    Raises `UsageError`: an unknown name (with close matches), or all that is wrong in the file, a line each.
    """
    name_or_path = str(name_or_path)
    shipped = {path.stem: path for path in _shipped_files()}
    path = shipped.get(name_or_path)
    if path is None:
        path = user_path(name_or_path)
        if path.suffix not in (".yaml", ".yml") and not is_file(path):
            hint = did_you_mean(name_or_path, shipped)
            raise UsageError(
                f"task '{name_or_path}': found no such task{hint}, accepted {', '.join(sorted(shipped))}"
                " or the path of a YAML file"
            )
    if not is_file(path):
        raise UsageError(f"{path}: found no such file, accepted a task's YAML file")
    path = path.resolve()
    return _load(path, _state(path), _state(recipe_path(path)))


def find_tasks(task: Named | Sequence[Named]) -> list[Task]:
    """The tasks that a request names; a text may name several with + between. Raises UsageError."""
    if isinstance(task, str):
        names = task.split("+") if not is_file(user_path(task)) else [task]
        tasks = [find_task(name) for name in names]
    elif isinstance(task, (Path, Task)):
        tasks = [task if isinstance(task, Task) else find_task(task)]
    else:
        accepted = "tasks: names, paths or Task objects"
        tasks = [member for one in listed("task", task, (str, Path, Task), accepted) for member in find_tasks(one)]
        if not tasks:
            raise UsageError("task: found none, accepted one or more")
    names = [member.name for member in tasks]
    for member in tasks:
        if names.count(member.name) > 1:
            raise UsageError(f"task {member.name}: found twice, accepted once among the tasks that train together")
        if len(tasks) > 1 and not find_kind(member.kind).with_others:
            raise UsageError(f"task {member.name}: kind {member.kind} is mixed in with --set mlm_share=SHARE")
    return tasks


def all_tasks() -> list[Task]:
    """The shipped tasks, by name."""
    return sorted((find_task(path.stem) for path in _shipped_files()), key=lambda task: task.name)


def _shipped_files() -> Iterator[Path]:
    for role in ("intermediate", "target"):
        yield from sorted((shipped_configs() / role).glob("*.yaml"))


def _state(path: Path) -> tuple[int, int] | None:
    """What changes when a file does, or a link that leads to none; None where there is nothing of that name, or can be
    none."""
    try:
        status = path.stat() if path.exists() else path.lstat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=256)
def _load(path: Path, state: tuple[int, int] | None, recipes: tuple[int, int] | None) -> Task:
    """The checked task of a file, with the recipes of its recipe file; `state` and `recipes` are those of the two."""
    task = load_yaml(path, Task)
    task._path = path
    complaints = Complaints()
    for check in (_check_metrics, _check_splits, _check_labels):
        complaints.gather(check, task)
    for method, backbones in task.recipes.items():
        for key in backbones:
            complaints.gather(check_backbone_key, path, ("recipes", method, key), key)
    known = [complaints.gather(_check_code, task, code) for code in task.data.languages]
    if all(known):
        complaints.gather(_check_train_language, task)
    for code, source in task.data.languages.items():
        _check_language(task, code, source, complaints)
    complaints.refuse()
    return with_stored_recipes(task) if recipes is not None else task


def _check_train_language(task: Task) -> None:
    if task.train_language not in task.data.languages:
        codes = ", ".join(task.data.languages)
        _refuse(task, ("train_language",), task.train_language, f"one of data.languages ({codes})")


def _check_metrics(task: Task) -> None:
    known = find_kind(task.kind).metrics
    for index, name in enumerate(task.metrics):
        if name not in known:
            _refuse(
                task,
                ("metrics", index),
                f"{name!r}{did_you_mean(name, known)}",
                f"{', '.join(known)} (kind {task.kind})",
            )
    keys = [known[metric].result for metric in task.metrics]
    if len(set(keys)) < len(keys):
        _refuse(
            task, ("metrics",), ", ".join(task.metrics), "each result once (span_f1 and official_tag_f1 are both f1)"
        )
    if task.selection_metric not in keys:
        _refuse(task, ("selection_metric",), task.selection_metric, f"a result of `metrics`: {', '.join(keys)}")


def _check_labels(task: Task) -> None:
    if find_kind(task.kind).label_role is None and task.label_until is not None:
        _refuse(task, ("label_until",), repr(task.label_until), f"none (kind {task.kind} has no labels)")
    if task.labels is not None and find_kind(task.kind).label_role is None:
        _refuse(task, ("labels",), "labels", f"none (kind {task.kind} has no labels)")
    if isinstance(task.labels, tuple) and len(set(task.labels)) < len(task.labels):
        twice = next(label for label in task.labels if task.labels.count(label) > 1)
        _refuse(task, ("labels",), f"'{twice}' twice", "each label once")


def _check_splits(task: Task) -> None:
    given = {"splits"} <= task.data.model_fields_set and "validation" in task.data.splits
    if task.development_share is not None and given:
        _refuse(task, ("data", "splits", "validation"), "a validation split beside development_share", "one of the two")


def _check_language(task: Task, code: str, source: LanguageSource, complaints: Complaints) -> None:
    at: Location = ("data", "languages", code)
    file_format = source.format or task.data.format
    if source.columns is not None:
        _check_columns(task, (*at, "columns"), source.columns, file_format, complaints)
    else:
        _check_columns(task, ("data", "columns"), task.data.columns, file_format, complaints)
    if file_format is None:
        complaints.gather(_check_repository, task, at, source)
    elif complaints.gather(_check_format, task, at, source, file_format):
        for split in SPLITS:
            complaints.gather(_check_path, task, (*at, split), getattr(source, split))
        complaints.gather(_check_files, task, at, source, file_format)


def _check_code(task: Task, code: str) -> None:
    # Results are told by language, family and script; text without answers has none, and may be in any language.
    if not find_kind(task.kind).has_answers:
        if not is_language_code(code):
            _refuse(task, ("data", "languages", code), repr(code), "the code of a language, such as en")
        return
    try:
        language(code)
    except UsageError as error:
        raise ConfigError([complaint(task.path, ("data", "languages", code), str(error))]) from None


def _check_repository(task: Task, at: Location, source: LanguageSource) -> None:
    dataset = source.dataset or task.data.dataset
    if dataset is None:
        _refuse(task, at, "neither a dataset nor a format", "data.dataset (org/name), or data.format and paths")
    elif dataset.count("/") != 1 or dataset.startswith(("/", ".")) or dataset.endswith("/"):
        where = (*at, "dataset") if source.dataset else ("data", "dataset")
        _refuse(task, where, dataset, "org/name")
    if source.config is None:
        _refuse(task, at, "no config", "the name of a config of the repository")
    for split in SPLITS:
        if getattr(source, split) is not None:
            _refuse(task, (*at, split), "a path without a format", f"a format: {', '.join(_formats(task))}")


def _check_format(task: Task, at: Location, source: LanguageSource, file_format: str) -> None:
    if file_format not in _formats(task):
        where = (*at, "format") if source.format else ("data", "format")
        _refuse(task, where, file_format, f"{', '.join(_formats(task))} (kind {task.kind})")


def _check_path(task: Task, at: Location, path: str | None) -> None:
    if path is not None and not is_file(task.file(path)):
        _refuse(task, at, f"no file {task.file(path)}", "an existing file")


def _check_files(task: Task, at: Location, source: LanguageSource, file_format: str) -> None:
    if all(getattr(source, split) is None for split in SPLITS):
        _refuse(task, at, "no path", f"a path for one or more of {', '.join(SPLITS)} (format {file_format})")
    if task.labels is None and file_format != "parquet" and find_kind(task.kind).label_role is not None:
        _refuse(task, ("labels",), "nothing", f"a list of labels, or `open` (a {file_format} file declares none)")
    for key in ("filter", "exclude"):
        if file_format in ("conllu", "conll") and (getattr(source, key) or getattr(task.data, key)):
            where = (*at, key) if getattr(source, key) else ("data", key)
            _refuse(task, where, f"a {key} on a {file_format} file", "none (it has no columns of rows)")


def _check_columns(
    task: Task, at: Location, columns: dict[str, ColumnName], file_format: str | None, complaints: Complaints
) -> None:
    kind = find_kind(task.kind)
    roles = tuple(kind.roles)
    for key in [*columns, *(key for key in kind.columns if key not in columns)]:
        complaints.gather(_check_role, task, (*at, key), key in columns, roles)
    for key, value in columns.items():
        if key in roles:
            complaints.gather(_check_column, task, (*at, key), value, file_format, key in kind.joined_roles)


def _check_role(task: Task, at: Location, given: bool, roles: tuple[str, ...]) -> None:
    accepted = f"{', '.join(roles)} (kind {task.kind})"
    if not given:
        _refuse(task, at, "nothing", accepted)
    if at[-1] not in roles:
        _refuse(task, at, f"an unknown column{did_you_mean(str(at[-1]), roles)}", accepted)


def _check_column(task: Task, at: Location, value: ColumnName, file_format: str | None, many: bool) -> None:
    if isinstance(value, tuple):
        if not many or file_format in ("conll", "conllu"):
            _refuse(task, at, f"a list of {len(value)}", "the name of one column")
    elif file_format == "conll":
        if value != "last" and not (isinstance(value, int) and value >= 0):
            _refuse(task, at, repr(value), "the number of a column, from 0, or last")
    elif file_format == "conllu":
        if value not in CONLLU_COLUMNS and misc_key(value) is None:
            _refuse(task, at, repr(value), f"{', '.join(CONLLU_COLUMNS)}, or misc.KEY for a value in MISC")
    elif not isinstance(value, str):
        _refuse(task, at, repr(value), "a column's name")


def _formats(task: Task) -> tuple[str, ...]:
    """File formats that can hold the kind's rows."""
    return (*find_kind(task.kind).formats, "jsonl", "parquet")


def _refuse(task: Task, location: Location, refused: str, accepted: str) -> NoReturn:
    raise ConfigError([complaint(task.path, location, f"found {refused}, accepted {accepted}")])
