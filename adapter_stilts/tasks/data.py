"""The rows of a task, one language and split at a time: its texts, and labels that are checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from adapter_stilts.errors import DataError
from adapter_stilts.schema import ColumnName, LanguageSource, Task
from adapter_stilts.tasks.files import (
    DEVELOPMENT_SHARE_SEED,
    SPLITS,
    Located,
    MissingData,
    file_format,
    identity_of,
    is_part,
    locate,
)
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.labels import LabelRules, read_labels
from adapter_stilts.tasks.readers import READERS, Column, RowLocations, Rows, parquet_label_names

__all__ = ["SPLITS", "MissingData", "Split", "data_identity", "data_source", "load_split"]


@dataclass(frozen=True)
class Split:
    """The rows of one language and split.

    columns: by role, one value a row, as the task's kind reads them (`Kind.columns`).
    label_names: those of the ClassLabel column, in its order; None where the column holds plain strings or there is
        none.
    sha256: of the bytes of the files read, in the order of their names, and of the development share and part, if any.
    source: repository@revision, config and split (no revision for a mirror that records none), or paths.
    locations: where each row stands in its file.
    """

    language: str
    split: str
    columns: dict[str, list[Any]]
    label_names: tuple[str, ...] | None
    sha256: str
    source: str
    files: tuple[str, ...]
    revision: str | None
    locations: RowLocations = field(default_factory=RowLocations)


def load_split(task: Task, language: str, split: str, mirror: Path | None) -> Split:
    """The rows of the task's `split` (train, validation, test) in `language`, one or more, labels as names.

    With `development_share`, train and validation are two parts of the repository's train split, drawn with a fixed
    seed. Raises `MissingData` where there is no such language or split, `DataError` for rows that cannot be read as the
    task says and where there are none, `UsageError` for a repository that neither the mirror nor the Hub can have.
    """
    located = locate(task, language, split, mirror)
    names = _class_names(task, located)
    if task.labels is None:
        _refuse_other_names(task, located, names, mirror)
    columns: dict[str, list[Any]] = {column: [] for column in located.source.columns or {}}
    parts = [_take_rows(task, located.source, path) for path in located.paths]
    for part, _ in parts:
        for column, values in part.items():
            columns[column].extend(values)
    locations = RowLocations(tuple(row for _, of_file in parts for row in of_file.rows))
    if not locations.rows:
        _refuse_no_rows(located)
    kind = find_kind(task.kind)
    kind.check(columns, locations.of)
    key = kind.label_role
    if key is not None:
        columns[key] = read_labels(columns[key], _label_rules(task, names), locations.of)
    described = located.described
    if is_part(task, split):
        rows, described = _development_part(task, split, len(locations.rows), described)
        columns = {column: [values[row] for row in rows] for column, values in columns.items()}
        locations = RowLocations(tuple(locations.rows[row] for row in rows))
    sha256 = identity_of(task, located, split)
    return Split(language, split, columns, names, sha256, described, located.names, located.revision, locations)


def data_identity(task: Task, language: str, split: str, mirror: Path | None) -> str:
    """`Split.sha256` without reading rows; the hash of an unchanged file is remembered."""
    return identity_of(task, locate(task, language, split, mirror), split)


def data_source(task: Task, language: str, split: str, mirror: Path | None) -> tuple[str, str | None]:
    """Where a split's files are (repository, config and split, or paths), and the dataset's revision where known."""
    located = locate(task, language, split, mirror)
    return located.described, located.revision


# --- rows ---------------------------------------------------------------------------------------------------------


def _take_rows(task: Task, source: LanguageSource, path: Path) -> tuple[dict[str, list[Any]], RowLocations]:
    """The file's rows under our column names, filtered, as the kind reads them, and where they stand."""
    kind, names = find_kind(task.kind), source.columns or {}
    keep, drop = source.filter or {}, source.exclude or {}
    # In the order of the roles: the tokens' column is the first, the labels' the last.
    wanted = [column for role in kind.roles if role in names for column in _columns_of(names[role])]
    rows = READERS[file_format(source, path)](path, list(dict.fromkeys([*wanted, *keep, *drop])))
    rules = [(name, values, True) for name, values in keep.items()]
    rules += [(name, values, False) for name, values in drop.items()]
    chosen = _chosen_rows(rows, rules)
    values = {role: _values(rows, name, chosen) for role, name in names.items()}
    selected = kind.take(values, names, lambda row, element: rows.location(chosen[row], element))
    columns: Mapping[str, Sequence[Any]] = {role: [column[row] for row in selected] for role, column in values.items()}
    chosen = [chosen[row] for row in selected]
    if kind.read is not None:
        class_names = rows.label_names.get(names.get(kind.answer_role or "", ""))  # type: ignore[arg-type]
        location_of = lambda row, element: rows.location(chosen[row], element)  # noqa: E731
        columns = kind.read(columns, names, location_of, task.options, class_names)
    locations = RowLocations(tuple((rows.file, row) for row in chosen))
    return {role: list(column) for role, column in columns.items()}, locations


def _columns_of(name: ColumnName) -> tuple[Column, ...]:
    """The columns of a file that make one of ours."""
    return name if isinstance(name, tuple) else (name,)


def _values(rows: Rows, name: ColumnName, chosen: Sequence[int]) -> list[Any]:
    """Our column's value in each of the rows; several columns of a file make a list of texts."""
    if not isinstance(name, tuple):
        return [rows.columns[name][row] for row in chosen]
    for column in name:
        rows.require_texts(column, chosen)
    return [[rows.columns[column][row] for column in name] for row in chosen]


def _chosen_rows(rows: Rows, rules: Sequence[tuple[str, Sequence[Any], bool]]) -> list[int]:
    """The rows whose values are among those of every filter, and among those of no exclusion."""
    chosen = list(range(len(rows)))
    for name, accepted, wanted in rules:
        rows.require_texts(name, chosen)
        column, texts = rows.columns[name], {str(value) for value in accepted}
        chosen = [row for row in chosen if (column[row] in texts) == wanted]
    return chosen


def _refuse_no_rows(located: Located) -> None:
    paths = located.paths
    where = f"{paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    rules = [
        f"{name}: {{{', '.join(f'{column}: [{_listed(values)}]' for column, values in rule.items())}}}"
        for name, rule in (("filter", located.source.filter), ("exclude", located.source.exclude))
        if rule
    ]
    why = f" that {' and '.join(rules)} leaves" if rules else ""
    raise DataError(f"{where}: found no rows{why}, accepted one or more")


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values)


def _label_rules(task: Task, names: tuple[str, ...] | None) -> LabelRules:
    listed = task.labels if isinstance(task.labels, tuple) else names
    return LabelRules(listed, task.labels == "open", task.label_until, task.metrics)


def _class_names(task: Task, located: Located) -> tuple[str, ...] | None:
    """The names of the ClassLabel column, the same in all files of the split; None for a kind without labels."""
    key = find_kind(task.kind).label_role
    if key is None:
        return None
    source, path = located.source, located.paths[0]
    column = str((source.columns or {})[key])
    parquet = [file for file in located.paths if file_format(source, file) == "parquet"]
    names = {parquet_label_names(file, column) for file in parquet} or {None}
    if len(names) > 1:
        raise DataError(f"{path.parent}: {column}: found files with different label names, accepted the same in all")
    declared = names.pop()
    if declared is None and task.labels is None:
        raise DataError(f"{path}: {column}: found no ClassLabel, accepted one, or `labels` in {task.path}")
    return declared


def _refuse_other_names(task: Task, located: Located, names: tuple[str, ...] | None, mirror: Path | None) -> None:
    """Without a list in the YAML, every split must declare the names of the train split (a label's number is not its
    meaning where they differ)."""
    try:
        train = locate(task, task.train_language, "train", mirror)
    except MissingData:
        return
    expected = _class_names(task, train)
    if names != expected:
        declared, accepted = ", ".join(names or ()), ", ".join(expected or ())
        raise DataError(f"{located.paths[0]}: found the label names {declared}, accepted those of train: {accepted}")


def _development_part(task: Task, split: str, total: int, described: str) -> tuple[list[int], str]:
    """The rows of the train file that are this split's part: a fixed draw, in their order; and what to call it."""
    share = task.development_share or 0.0
    count = max(1, round(total * share))
    if count >= total:
        raise DataError(f"{described}: found {total} rows, accepted enough for a development_share of {share}")
    drawn = np.random.default_rng(DEVELOPMENT_SHARE_SEED).permutation(total)
    rows = sorted(int(row) for row in (drawn[:count] if split == "validation" else drawn[count:]))
    what = "the development share" if split == "validation" else "all but the development share"
    return rows, f"{described} ({what}: {len(rows)} of {total} rows, share {share}, seed {DEVELOPMENT_SHARE_SEED})"
