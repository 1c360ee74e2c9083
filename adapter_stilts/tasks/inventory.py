"""The labels of a task's head, and which splits they can score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapter_stilts.errors import DataError, StiltsError, UsageError
from adapter_stilts.schema import Task
from adapter_stilts.strict_yaml import location_text
from adapter_stilts.tasks.data import Split, load_split
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.labels import first_location, meaning, refused_by_metrics

LABELS_NAMED = 10  # of more, a message names the first


def label_inventory(task: Task, mirror: Path | None) -> tuple[str, ...]:
    """Names of the labels that a head of this task has, in the order of their ids.

    A closed list stands in the task's YAML or in the data's ClassLabel feature; an open one is what the whole English
    train split shows, sorted, whatever part of it a run is limited to. A kind without labels has an empty one.
    Raises UsageError for a list in the YAML that a metric of the task cannot score, and what `load_split` raises.
    """
    kind = find_kind(task.kind)
    if kind.inventory is not None:
        return kind.inventory(load_split(task, task.train_language, "train", mirror).columns)
    if kind.label_role is None:
        return ()
    if isinstance(task.labels, tuple):
        _refuse_unscored(task)
        return task.labels
    split = load_split(task, task.train_language, "train", mirror)
    if task.labels is None and split.label_names is not None:
        return split.label_names
    return tuple(sorted(_distinct(split.columns[kind.label_role])))


def _distinct(column: Sequence[Any]) -> set[str]:
    """The labels of a column that holds one, or a list of them, a row."""
    return {label for value in column for label in (value if isinstance(value, list) else [value])}


def _refuse_unscored(task: Task) -> None:
    for label in task.labels or ():
        if (accepted := refused_by_metrics(label, task.metrics)) is not None:
            raise UsageError(f"{location_text(task.path, ('labels',))}: found '{label}', accepted {accepted}")


def refuse_strange_labels(task: Task, loaded: Split, labels: Sequence[str], mirror: Path | None) -> None:
    """Raise DataError where an open inventory cannot take the split's labels; another spelling of a
    trained one (`Pos` beside `pos`), or not one label that was trained: a score would mean nothing."""
    key = find_kind(task.kind).label_role
    gold = None if key is None else loaded.columns.get(key)
    if gold is None or task.labels != "open":
        return
    seen = _distinct(gold)
    trained = {meaning(label): label for label in labels}
    for label in sorted(seen.difference(labels)):
        if (spelling := trained.get(meaning(label))) is not None:
            where, in_train = (
                first_location(gold, label, loaded.locations.of),
                _location_in_train(task, spelling, mirror),
            )
            raise DataError(f"{where}: found the label '{label}', accepted '{spelling}' as {in_train}")
    if seen.isdisjoint(labels):
        where, shown = loaded.locations.of(0), _few(sorted(seen))
        raise DataError(
            f"{where}: found no label that training showed ({shown}), accepted one or more of {_few(labels)}"
        )


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:LABELS_NAMED]) + ("" if len(labels) <= LABELS_NAMED else ", ...")


def _location_in_train(task: Task, label: str, mirror: Path | None) -> str:
    try:
        train = load_split(task, task.train_language, "train", mirror)
        return f"at {first_location(train.columns[find_kind(task.kind).label_role or ''], label, train.locations.of)}"
    except (StiltsError, ValueError):
        return "in training"
