"""A user's file that a run is to answer, how the run's training data were read, and which columns that makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.tasks.conllu import misc_key
from adapter_stilts.tasks.documents.rendering import MISC_COLUMN
from adapter_stilts.tasks.formats import FORMATS, UPOS_TAGS, Line, checked_column, decode_lines, read_bytes
from adapter_stilts.tasks.kinds.contract import Answer, Kind, Options
from adapter_stilts.tasks.readers import READERS, Rows

# CoNLL-U's columns, besides UPOS and MISC, that hold a task's labels and nothing that others depend on.
_LABEL_COLUMNS = ("xpos", "deprel")
# Formats whose columns are named alike, so that a task's columns serve for all of a group.
_GROUPS = {"conllu": "conllu", "conllup": "conllu", "conll": "conll", "text": "text"}
# A column by its name or number, or several that make one.
ColumnName = str | int | tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """How a run's training data were read: `columns` by their roles, `format` None for files of a repository (their
    columns have names); its `labels`, and its kind's `options`."""

    kind: Kind
    format: str | None
    columns: Mapping[str, ColumnName]
    label_until: str | None
    labels: tuple[str, ...]
    options: Options

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of the columns that are read, in order: those of the training data, but for the answers."""
        return tuple(role for role in self.kind.roles if role in self.columns and role != self.kind.answer_role)

    @property
    def answer_role(self) -> str:
        """The role of the column in which answers stand, and are given back."""
        assert self.kind.answer_role is not None
        return self.kind.answer_role


@dataclass(frozen=True)
class Columns:
    """The file's columns by role; `sure`: the answers' column was named for this very file, not for the task's."""

    by_role: dict[str, ColumnName]
    sure: bool

    def __getitem__(self, role: str) -> ColumnName:
        return self.by_role[role]

    def single(self, role: str) -> str | int | None:
        """The one column of a role; None where it has none, or several."""
        name = self.by_role.get(role)
        return None if isinstance(name, tuple) else name


@dataclass(frozen=True)
class Document:
    """A file to answer: `columns` as the kind encodes them, and `render`, which puts the answers to every example into
    what is given back."""

    columns: dict[str, list[Any]]
    render: Callable[[Sequence[Answer]], bytes]


Reader = Callable[[Path, Sequence[Line], Reading, Columns], Document]


def read_as(
    reading: Reading,
    path: Path,
    file_format: str | None,
    typed: Mapping[str, str],
    readers: Mapping[str, Reader],
    format_of: Callable[[bytes], str],
) -> Document:
    """The file by the reader of its format, which `format_of` guesses from its content where none is given.

    Raises UsageError for another format than the readers', and for columns that are not there, DataError for a file
    without an example."""
    if file_format is not None and file_format not in readers:
        known = "" if file_format in FORMATS else "no format; "
        raise UsageError(f"--format: found {file_format!r}, {known}accepted for this run: {', '.join(readers)}")
    raw = read_bytes(path)
    chosen = file_format or format_of(raw)
    columns = columns_of_file(reading, chosen, typed)
    lines = [] if chosen == "parquet" else decode_lines(path, raw)
    document = readers[chosen](path, lines, reading, columns)
    if not next(iter(document.columns.values())):
        raise DataError(f"{path}: found nothing to label, accepted one or more {reading.kind.rows}s")
    return document


def columns_of_file(reading: Reading, file_format: str, typed: Mapping[str, str]) -> Columns:
    """The task's own columns where the file is of its format or one with the same names, else the usual ones; in their
    place what was typed after --columns. Raises UsageError for an unknown role or column."""
    roles = (*reading.roles, reading.answer_role)
    if typed and file_format == "text":
        raise UsageError("--columns: found it with --format text, accepted with formats that have columns")
    for role in typed:
        if role not in roles:
            raise UsageError(f"--columns {role}: found an unknown role, accepted {', '.join(roles)}")
    if _GROUPS.get(file_format, "named") == _GROUPS.get(reading.format or "", "named"):
        usual: dict[str, ColumnName] = {role: reading.columns[role] for role in roles}
    elif file_format in ("conllu", "conllup"):
        usual = {"tokens": "form", "labels": MISC_COLUMN}
    elif file_format == "conll":
        usual = {}
    else:
        usual = {role: role for role in roles}
    chosen = {role: _typed_column(reading, role, name, file_format) for role, name in typed.items()}
    return Columns(usual | chosen, reading.answer_role in chosen)


def _typed_column(reading: Reading, role: str, name: str, file_format: str) -> ColumnName:
    """A column as it was typed; `a+b` are two that make one, where the role holds a list."""
    if "+" in name and reading.kind.roles[role] == "texts" and file_format in ("tsv", "jsonl", "parquet"):
        return tuple(name.split("+"))
    return checked_column(role, name, file_format)


def label_column(reading: Reading, columns: Columns) -> str:
    """The CoNLL-U column that a run's labels of words belong to: `upos` where all are UPOS tags, `xpos`, `deprel` or
    `misc.KEY` where the run was trained on that, else `misc.Label`."""
    if columns.sure:
        return str(columns[reading.answer_role])
    if set(reading.labels) <= set(UPOS_TAGS):
        return "upos"
    name = str(columns[reading.answer_role])
    return name if name in _LABEL_COLUMNS or misc_key(name) else MISC_COLUMN


def named_rows(
    path: Path, reading: Reading, columns: Columns, file_format: str
) -> tuple[Rows, dict[str, list[Any]], dict[str, ColumnName]]:
    """The rows, what they hold by role, and the names of the columns read.

    Raises DataError for a text where a list belongs, or the reverse."""
    names = {role: columns[role] for role in reading.roles}
    wanted = [column for name in names.values() for column in (name if isinstance(name, tuple) else (name,))]
    rows = READERS[file_format](path, list(dict.fromkeys(wanted)))
    values: dict[str, list[Any]] = {}
    for role, name in names.items():
        if isinstance(name, tuple):
            for column in name:
                rows.require_texts(column, range(len(rows)))
            values[role] = [[rows.columns[column][row] for column in name] for row in range(len(rows))]
        else:
            values[role] = rows.columns[name]
        _check_type(rows, role, name, values[role], reading.kind.roles[role] == "texts", reading.kind)
    return rows, values, names


def _check_type(rows: Rows, role: str, name: ColumnName, values: Sequence[Any], many: bool, kind: Kind) -> None:
    accepted = ("a list of words" if kind.rows == "sentence" else "a list of texts") if many else "a text"
    for index, value in enumerate(values):
        if isinstance(value, list) != many:
            form = "a list" if isinstance(value, list) else "a text"
            hint = f"--columns {role}=NAME names another column"
            raise DataError(f"{rows.location(index)}: {name}: found {form}, accepted {accepted}; {hint}")
