"""A user's own file as what a run labels: words or texts, and how their labels are given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.evaluation.columns import Columns, Reading, columns_of_file, label_column, reading_of_record
from adapter_stilts.evaluation.rendering import (
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
from adapter_stilts.tasks.column_files import ColumnFile, column_file
from adapter_stilts.tasks.conllu_plus import read_conllu_plus
from adapter_stilts.tasks.formats import (
    FORMATS,
    TEXT_FORMATS,
    WORD_FORMATS,
    Line,
    decode_lines,
    format_of,
    read_bytes,
)
from adapter_stilts.tasks.readers import READERS, Rows

# What stands in a column of labels where there is none, and the commonest label of spans.
_NO_LABELS = ("_", "-", "O", "*", "?")


@dataclass(frozen=True)
class Document:
    """A file to label: `columns` as the kind encodes them, and `render`, which puts the labels of every example's units
    into what is given back."""

    columns: dict[str, list[Any]]
    render: Callable[[Labels], bytes]


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
    named = columns_of_file(reading, chosen, columns or {})
    lines = [] if chosen == "parquet" else decode_lines(path, raw)
    document = _READ[chosen](path, lines, reading, named)
    if not next(iter(document.columns.values())):
        what = "sentences" if reading.per_word else "texts"
        raise DataError(f"{path}: found nothing to label, accepted one or more {what}")
    return document


# --- format by format ---------------------------------------------------------------------------------------------


def _line_numbers(rows: Rows) -> Any:
    """The line of every row, or of every word of it, in a format that has lines."""
    return rows.lines


def _words(path: Path, lines: Sequence[Line], reading: Reading, _: Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    for line in lines:
        if "\r" in line.text:
            found = "carriage returns within a line"
            raise DataError(
                f"{path}:{line.number}: found {found}, accepted lines that all end alike, a sentence a line"
            )
    sentences = [words for line in lines if (words := line.text.split())]
    return Document({"tokens": sentences}, partial(render_words, sentences))


def _texts(path: Path, lines: Sequence[Line], reading: Reading, _: Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    kept = [line for line in lines if not line.blank]
    rows = [line.text.split("\t") for line in kept]
    for line, row in zip(kept, rows, strict=True):
        if len(row) != len(reading.roles):
            form = f"{len(reading.roles)} ({'<TAB>'.join(reading.roles)}), or --format tsv with a header line"
            raise DataError(f"{path}:{line.number}: found {len(row)} columns, accepted {form}")
    columns = {role: [row[index] for row in rows] for index, role in enumerate(reading.roles)}
    return Document(columns, partial(render_texts, kept))


def _conllu(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    rows = READERS["conllu"](path, [columns["tokens"]])
    tokens = rows.columns[columns["tokens"]]
    if all(word == "_" for own in tokens for word in own) and any(tokens):
        found = f"_ in {str(columns['tokens']).upper()} on every word"
        raise DataError(f"{rows.place(0)}: found {found}, accepted words (some treebanks come without text)")
    render = partial(render_conllu, lines, _line_numbers(rows), label_column(reading, columns))
    return Document({"tokens": tokens}, render)


def _conllu_plus(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    file = read_conllu_plus(path, lines, str(columns["tokens"]))
    render = partial(render_conllu_plus, lines, file.numbers, file.header, label_column(reading, columns))
    return Document({"tokens": file.tokens}, render)


def _column_file(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    file = column_file(path, lines, columns.by_role.get("tokens"), columns.by_role.get("labels"))
    if not file.tokens:
        return Document({"tokens": []}, lambda _: b"")
    refuse_breaking_labels(path, reading.labels, file.blanks_separate)
    index = _label_index(columns.by_role.get("labels"), file)
    if index is not None and not columns.sure:
        _refuse_other_column(path, file.labels, index, reading)
    return Document({"tokens": file.tokens}, partial(render_columns, lines, file.numbers, index))


def _label_index(column: str | int | None, file: ColumnFile) -> int | None:
    """The column whose values the labels replace; None where they become one more: the file does not have it."""
    index = file.width - 1 if column == "last" else column
    return int(index) if index is not None and int(index) < file.width and index != file.column else None


def _refuse_other_column(path: Path, values: Sequence[Sequence[str]], index: int, reading: Reading) -> None:
    """Labels are written over a column of labels, not over another that stands where training data have theirs."""
    until = reading.label_until
    short = [value if until is None else value.split(until, 1)[0] for own in values for value in own]
    known = {*reading.labels, *_NO_LABELS}
    if 2 * sum(value in known for value in short) >= len(short):
        return
    other = next(value for value in short if value not in known)
    raise UsageError(
        f"{path}: found values such as {other!r}, which are no labels of this run, in the column of labels ({index}), "
        "accepted --columns labels=N (a column, from 0, to replace; past the last: one more)"
    )


def _named_rows(path: Path, reading: Reading, columns: Columns, file_format: str) -> tuple[Rows, dict[str, list[Any]]]:
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


def _tsv(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    rows, values = _named_rows(path, reading, columns, "tsv")
    return Document(values, partial(render_tsv, lines, _line_numbers(rows), str(columns["label"])))


def _jsonl(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    rows, values = _named_rows(path, reading, columns, "jsonl")
    key = str(columns[reading.labels_role])
    return _of_rows(values, reading.per_word, lambda labels: render_jsonl(lines, _line_numbers(rows), key, labels))


def _parquet(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
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


_READ: dict[str, Callable[[Path, Sequence[Line], Reading, Columns], Document]] = {
    "conllu": _conllu,
    "conllup": _conllu_plus,
    "conll": _column_file,
    "tsv": _tsv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}


def _text(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    return (_words if reading.per_word else _texts)(path, lines, reading, columns)


_READ["text"] = _text
