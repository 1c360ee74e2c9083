"""Which columns of a user's file a run reads, and which one its labels belong to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.evaluation.rendering import MISC_COLUMN
from adapter_stilts.runs.record import Record
from adapter_stilts.tasks.conllu import misc_key
from adapter_stilts.tasks.formats import UPOS_TAGS, checked_column
from adapter_stilts.tasks.kinds import find_kind

# CoNLL-U's columns, besides UPOS and MISC, that hold a task's labels and nothing that others depend on.
_OWN_COLUMNS = ("xpos", "deprel")
# Formats whose columns are named alike, so that a task's columns serve for all of a group.
_GROUPS = {"conllu": "conllu", "conllup": "conllu", "conll": "conll", "text": "text"}


@dataclass(frozen=True)
class Reading:
    """How a run's training data were read: `columns` by their roles, `format` None for files of a repository (their
    columns have names); and its `labels`."""

    kind: str
    format: str | None
    columns: Mapping[str, str | int]
    label_until: str | None
    labels: tuple[str, ...]

    @property
    def per_word(self) -> bool:
        return find_kind(self.kind).per_word

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of the columns that are read: tokens, or text and, where the run was trained on pairs, text_pair."""
        return tuple(role for role in ("tokens", "text", "text_pair") if role in self.columns)

    @property
    def labels_role(self) -> str:
        return str(find_kind(self.kind).labels_column)


def reading_of_record(record: Record) -> Reading:
    """How the run read its first training language. Raises StiltsError where its record does not say so."""
    tasks = record.identity.get("tasks")
    if not tasks:
        raise StiltsError(f"{record.name}: its record does not say which columns it read; train it again to have them")
    reading = next(iter(tasks[0]["train"].values()))["reading"]
    own, shared = reading["language"], reading["data"]
    columns = own.get("columns") or shared["columns"]
    if lacking := [role for role in find_kind(record.task.kind).columns if role not in columns]:
        found = f"columns {', '.join(columns)[:80]} in its record's identity"
        raise StiltsError(f"{record.name}: found {found}, accepted {', '.join(lacking)} among them")
    return Reading(
        record.task.kind,
        own.get("format") or shared.get("format"),
        columns,
        reading.get("label_until"),
        record.labels,
    )


@dataclass(frozen=True)
class Columns:
    """The file's columns by role; `sure`: the label's column was named for this very file, not for the task's."""

    by_role: dict[str, str | int]
    sure: bool

    def __getitem__(self, role: str) -> str | int:
        return self.by_role[role]


def columns_of_file(reading: Reading, file_format: str, typed: Mapping[str, str]) -> Columns:
    """The task's own columns where the file is of its format or one with the same names, else the usual ones; in their
    place what was typed after --columns. Raises UsageError for an unknown role or column."""
    roles = (*reading.roles, reading.labels_role)
    if typed and file_format == "text":
        raise UsageError("--columns: found it with --format text, accepted with formats that have columns")
    for role in typed:
        if role not in roles:
            raise UsageError(f"--columns {role}: found an unknown role, accepted {', '.join(roles)}")
    if _GROUPS.get(file_format, "named") == _GROUPS.get(reading.format or "", "named"):
        usual: dict[str, str | int] = {role: reading.columns[role] for role in roles}
    elif file_format in ("conllu", "conllup"):
        usual = {"tokens": "form", "labels": MISC_COLUMN}
    elif file_format == "conll":
        usual = {}
    else:
        usual = {role: role for role in roles}
    chosen = {role: checked_column(role, name, file_format) for role, name in typed.items()}
    return Columns(usual | chosen, reading.labels_role in chosen)


def label_column(reading: Reading, columns: Columns) -> str:
    """The CoNLL-U column that a tagging run's labels belong to: `upos` where all are UPOS tags, `xpos`, `deprel` or
    `misc.KEY` where the run was trained on that, else `misc.Label`."""
    if columns.sure:
        return str(columns["labels"])
    if set(reading.labels) <= set(UPOS_TAGS):
        return "upos"
    name = str(columns["labels"])
    return name if name in _OWN_COLUMNS or misc_key(name) else MISC_COLUMN
