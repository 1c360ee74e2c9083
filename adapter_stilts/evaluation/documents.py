"""A user's own file as what a run labels: words or texts, and how their labels are given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.evaluation.rendering import (
    MISC_COLUMN,
    Labels,
    refuse_breaking_labels,
    render_columns,
    render_conllu,
    render_conllu_plus,
    render_jsonl,
    render_parquet,
    render_texts,
    render_tsv,
    render_words,
)
from adapter_stilts.runs.record import Record
from adapter_stilts.schema import CONLLU_COLUMNS
from adapter_stilts.tasks.conllu import misc_key
from adapter_stilts.tasks.conllu_plus import read_conllu_plus
from adapter_stilts.tasks.formats import (
    FORMATS,
    TEXT_FORMATS,
    UPOS_TAGS,
    WORD_FORMATS,
    Line,
    decode_lines,
    format_of,
    read_bytes,
)
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.readers import READERS, Rows

# CoNLL-U's columns, besides UPOS and MISC, that hold a task's labels and nothing that others depend on.
_OWN_COLUMNS = ("xpos", "deprel")
# Formats whose columns are named alike, so that a task's columns serve for all of a group.
_GROUPS = {"conllu": "conllu", "conllup": "conllu", "conll": "conll", "text": "text"}
_NO_LABELS = ("_", "-", "O", "*", "?")


@dataclass(frozen=True)
class Document:
    """A file to label: `columns` as the kind encodes them, and `render`, which puts the labels of every example's units
    into what is given back."""

    columns: dict[str, list[Any]]
    render: Callable[[Labels], bytes]


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
    """How the run read its first training language."""
    reading = next(iter(record.identity["tasks"][0]["train"].values()))["reading"]
    own, shared = reading["language"], reading["data"]
    return Reading(
        record.task.kind,
        own.get("format") or shared.get("format"),
        own.get("columns") or shared["columns"],
        reading.get("label_until"),
        record.labels,
    )


def read_document(
    record: Record, path: Path, file_format: str | None = None, columns: Mapping[str, str] | None = None
) -> Document:
    """The file as the run's kind reads it; see `predict_file` for formats and errors."""
    reading = reading_of_record(record)
    accepted = WORD_FORMATS if reading.per_word else TEXT_FORMATS
    if file_format is not None and file_format not in accepted:
        known = "" if file_format in FORMATS else "no format; "
        raise UsageError(f"--format: found {file_format!r}, {known}accepted for this run: {', '.join(accepted)}")
    raw = read_bytes(path)
    texts = [str((columns or {}).get(role, reading.columns[role])) for role in reading.roles]
    chosen = file_format or format_of(
        path, raw, per_word=reading.per_word, labels=reading.labels, texts=[] if reading.per_word else texts
    )
    named = _columns(reading, chosen, columns or {})
    lines = [] if chosen == "parquet" else decode_lines(path, raw)
    document = _READ[chosen](path, lines, reading, named)
    if not next(iter(document.columns.values())):
        what = "sentences" if reading.per_word else "texts"
        raise DataError(f"{path}: found nothing to label, accepted one or more {what}")
    return document


# --- which columns ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """The file's columns by role; `sure`: the label's column was named for this very file, not for the task's."""

    by_role: dict[str, str | int]
    sure: bool

    def __getitem__(self, role: str) -> str | int:
        return self.by_role[role]


def _columns(reading: Reading, file_format: str, typed: Mapping[str, str]) -> _Columns:
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
    chosen = {role: _checked_column(role, name, file_format) for role, name in typed.items()}
    return _Columns(usual | chosen, reading.labels_role in chosen)


def _checked_column(role: str, name: str, file_format: str) -> str | int:
    if file_format == "conll":
        if name.isdecimal() or name == "last":
            return int(name) if name.isdecimal() else name
        raise UsageError(f"--columns {role}: found {name!r}, accepted the number of a column, from 0, or last")
    if file_format == "conllu" and name not in CONLLU_COLUMNS and misc_key(name) is None:
        raise UsageError(f"--columns {role}: found {name!r}, accepted {', '.join(CONLLU_COLUMNS)} or misc.KEY")
    return name


def label_column(reading: Reading, columns: _Columns) -> str:
    """The CoNLL-U column that a tagging run's labels belong to: `upos` where all are UPOS tags, `xpos`, `deprel` or
    `misc.KEY` where the run was trained on that, else `misc.Label`."""
    if columns.sure:
        return str(columns["labels"])
    if set(reading.labels) <= set(UPOS_TAGS):
        return "upos"
    name = str(columns["labels"])
    return name if name in _OWN_COLUMNS or misc_key(name) else MISC_COLUMN


# --- format by format ---------------------------------------------------------------------------------------------


def _line_numbers(rows: Rows) -> Any:
    """The line of every row, or of every word of it, in a format that has lines."""
    return rows.lines


def _words(path: Path, lines: Sequence[Line], reading: Reading, _: _Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    sentences = [words for line in lines if (words := line.text.split())]
    return Document({"tokens": sentences}, partial(render_words, sentences))


def _texts(path: Path, lines: Sequence[Line], reading: Reading, _: _Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    kept = [line for line in lines if not line.blank]
    rows = [line.text.split("\t") for line in kept]
    for line, row in zip(kept, rows, strict=True):
        if len(row) != len(reading.roles):
            form = f"{len(reading.roles)} ({'<TAB>'.join(reading.roles)}), or --format tsv with a header line"
            raise DataError(f"{path}:{line.number}: found {len(row)} columns, accepted {form}")
    columns = {role: [row[index] for row in rows] for index, role in enumerate(reading.roles)}
    return Document(columns, partial(render_texts, kept))


def _conllu(path: Path, lines: Sequence[Line], reading: Reading, columns: _Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    rows = READERS["conllu"](path, [columns["tokens"]])
    render = partial(render_conllu, lines, _line_numbers(rows), label_column(reading, columns))
    return Document({"tokens": rows.columns[columns["tokens"]]}, render)


def _conllu_plus(path: Path, lines: Sequence[Line], reading: Reading, columns: _Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    column = str(columns["tokens"])
    file = read_conllu_plus(path, lines, column)
    render = partial(render_conllu_plus, lines, _line_numbers(file.rows), file.header, label_column(reading, columns))
    return Document({"tokens": file.rows.columns[column]}, render)


def _column_file(path: Path, lines: Sequence[Line], reading: Reading, columns: _Columns) -> Document:
    rows = READERS["conll"](path, [0])
    numbers = _line_numbers(rows)
    if not len(rows):
        return Document({"tokens": []}, lambda _: b"")
    texts = {line.number: line.text for line in lines}
    first = texts[numbers[0][0]]
    blanks_separate = "\t" not in first and " " in first.strip(" ")
    refuse_breaking_labels(path, reading.labels, blanks_separate)
    width = len(first.split("\t") if "\t" in first else first.split())
    by_role = columns.by_role
    tokens = by_role.get("tokens", 1 if width > 1 and _numbered(rows.columns[0]) else 0)
    rows = READERS["conll"](path, [tokens])
    words = rows.columns[tokens]
    if width > 1 and _numbered(words):
        found = f"numbers of words in the column of tokens ({tokens})"
        raise UsageError(f"{path}: found {found}, accepted words; --columns tokens=N names another column, from 0")
    index = _label_index(path, by_role.get("labels"), tokens, width)
    if index is not None and not columns.sure:
        _refuse_other_column(path, index, reading)
    return Document({"tokens": words}, partial(render_columns, lines, numbers, index))


def _numbered(sentences: Sequence[Sequence[str]]) -> bool:
    """Whether this column counts the words of every sentence."""
    return all(own == [str(number) for number in range(1, len(own) + 1)] for own in sentences)


def _label_index(path: Path, column: str | int | None, tokens: str | int, width: int) -> int | None:
    """The column whose values the labels replace; None where they become one more: the file does not have it."""
    index = width - 1 if column == "last" else column
    if index is None or int(index) >= width:
        return None
    return None if index == (width - 1 if tokens == "last" else tokens) else int(index)


def _refuse_other_column(path: Path, index: int, reading: Reading) -> None:
    """Labels are written over a column of labels, not over another that stands where training data have theirs."""
    rows = READERS["conll"](path, [index])
    until = reading.label_until
    values = [value.split(until, 1)[0] if until else value for row in rows.columns[index] for value in row]
    known = {*reading.labels, *_NO_LABELS}
    if 2 * sum(value in known for value in values) >= len(values):
        return
    other = next(value for value in values if value not in known)
    raise UsageError(
        f"{path}: found values such as {other!r}, which are no labels of this run, in the column of labels ({index}), "
        "accepted --columns labels=N (a column, from 0, to replace; past the last: one more)"
    )


def _named_rows(path: Path, reading: Reading, columns: _Columns, file_format: str) -> tuple[Rows, dict[str, list[Any]]]:
    """The rows, and their tokens or texts by role. Raises DataError for a text where tokens belong, or the reverse."""
    names = [columns[role] for role in reading.roles]
    rows = READERS[file_format](path, names)
    accepted = "a list of words" if reading.per_word else "a text"
    for role in reading.roles:
        for index, value in enumerate(rows.columns[columns[role]]):
            if isinstance(value, list) != reading.per_word:
                found = "a list" if isinstance(value, list) else "a text"
                hint = f"--columns {role}=NAME names another column"
                raise DataError(f"{rows.place(index)}: {columns[role]}: found {found}, accepted {accepted}; {hint}")
    return rows, {role: rows.columns[columns[role]] for role in reading.roles}


def _tsv(path: Path, lines: Sequence[Line], reading: Reading, columns: _Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    rows, values = _named_rows(path, reading, columns, "tsv")
    return Document(values, partial(render_tsv, lines, _line_numbers(rows), str(columns["label"])))


def _jsonl(path: Path, lines: Sequence[Line], reading: Reading, columns: _Columns) -> Document:
    rows, values = _named_rows(path, reading, columns, "jsonl")
    key = str(columns[reading.labels_role])
    return _of_rows(values, reading.per_word, lambda labels: render_jsonl(lines, _line_numbers(rows), key, labels))


def _parquet(path: Path, lines: Sequence[Line], reading: Reading, columns: _Columns) -> Document:
    _, values = _named_rows(path, reading, columns, "parquet")
    name, per_word = str(columns[reading.labels_role]), reading.per_word
    return _of_rows(values, per_word, lambda labels: render_parquet(path, name, labels, per_word))


def _of_rows(values: dict[str, list[Any]], per_word: bool, render: Callable[[Sequence[Any]], bytes]) -> Document:
    """Rows with a label each, or a list of labels each; a row without words is not encoded, and gets an empty list."""
    if not per_word:
        return Document(values, lambda labels: render([label for (label,) in labels]))
    filled = [index for index, words in enumerate(values["tokens"]) if words]

    def render_all(labels: Labels) -> bytes:
        own: list[list[str]] = [[] for _ in values["tokens"]]
        for index, names in zip(filled, labels, strict=True):
            own[index] = list(names)
        return render(own)

    return Document({"tokens": [values["tokens"][index] for index in filled]}, render_all)


_READ: dict[str, Callable[[Path, Sequence[Line], Reading, _Columns], Document]] = {
    "conllu": _conllu,
    "conllup": _conllu_plus,
    "conll": _column_file,
    "tsv": _tsv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}


def _text(path: Path, lines: Sequence[Line], reading: Reading, columns: _Columns) -> Document:
    return (_words if reading.per_word else _texts)(path, lines, reading, columns)


_READ["text"] = _text
