"""Files of words: CoNLL-U and other columns, JSON lines, Parquet, or a sentence a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.tasks.column_files import ColumnFile, column_file
from adapter_stilts.tasks.conllu_plus import read_conllu_plus
from adapter_stilts.tasks.documents.document import (
    Columns,
    Document,
    Reader,
    Reading,
    label_column,
    named_rows,
    read_as,
)
from adapter_stilts.tasks.documents.rendering import (
    Labels,
    refuse_breaking_labels,
    render_columns,
    render_conllu,
    render_conllu_plus,
    render_jsonl,
    render_parquet,
    render_words,
)
from adapter_stilts.tasks.formats import Line, format_of_words
from adapter_stilts.tasks.readers import READERS, Rows

# What stands in a column of labels where there is none, and the commonest label of spans.
_NO_LABELS = ("_", "-", "O", "*", "?")


def read(reading: Reading, path: Path, file_format: str | None, columns: Mapping[str, str]) -> Document:
    """The file's sentences, and a label for each word to be given back; see `predict_file` for formats and errors."""
    return read_as(reading, path, file_format, columns, _READERS, partial(_format, reading, path))


def _format(reading: Reading, path: Path, raw: bytes) -> str:
    return format_of_words(path, raw, reading.labels)


def _line_numbers(rows: Rows) -> Any:
    """The line of every word of every row, in a format that has lines."""
    return rows.lines


def _words(path: Path, lines: Sequence[Line], reading: Reading, _: Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    for line in lines:
        if "\r" in line.text:
            problem = "carriage returns within a line"
            raise DataError(
                f"{path}:{line.number}: found {problem}, accepted lines that all end alike, a sentence a line"
            )
    sentences = [words for line in lines if (words := line.text.split())]
    return Document({"tokens": sentences}, partial(render_words, sentences))


def _conllu(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    column = str(columns["tokens"])
    rows = READERS["conllu"](path, [column])
    tokens = rows.columns[column]
    if all(word == "_" for sentence in tokens for word in sentence) and any(tokens):
        problem = f"_ in {column.upper()} on every word"
        raise DataError(f"{rows.location(0)}: found {problem}, accepted words (some treebanks come without text)")
    render = partial(render_conllu, lines, _line_numbers(rows), label_column(reading, columns))
    return Document({"tokens": tokens}, render)


def _conllu_plus(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    file = read_conllu_plus(path, lines, str(columns["tokens"]))
    render = partial(render_conllu_plus, lines, file.numbers, file.header, label_column(reading, columns))
    return Document({"tokens": file.tokens}, render)


def _column_file(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    file = column_file(path, lines, columns.single("tokens"), columns.single("labels"))
    if not file.tokens:
        return Document({"tokens": []}, lambda _: b"")
    refuse_breaking_labels(path, reading.labels, file.blanks_separate)
    index = _label_index(columns.single("labels"), file)
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
    short = [value if until is None else value.split(until, 1)[0] for sentence in values for value in sentence]
    known = {*reading.labels, *_NO_LABELS}
    if 2 * sum(value in known for value in short) >= len(short):
        return
    other = next(value for value in short if value not in known)
    raise UsageError(
        f"{path}: found values such as {other!r}, which are no labels of this run, in the column of labels ({index}), "
        "accepted --columns labels=N (a column, from 0, to replace; past the last: one more)"
    )


def _jsonl(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    rows, values, _ = named_rows(path, reading, columns, "jsonl")
    key = str(columns[reading.answer_role])
    return _of_rows(values["tokens"], lambda labels: render_jsonl(lines, _line_numbers(rows), key, labels))


def _parquet(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    _, values, _ = named_rows(path, reading, columns, "parquet")
    name = str(columns[reading.answer_role])
    return _of_rows(values["tokens"], lambda labels: render_parquet(path, name, labels, pa.list_(pa.string())))


def _of_rows(sentences: list[list[str]], render: Callable[[Labels], bytes]) -> Document:
    """Rows with a list of labels each; a row without words is not encoded, and gets an empty list."""
    filled = [index for index, words in enumerate(sentences) if words]

    def render_all(labels: Labels) -> bytes:
        every: list[list[str]] = [[] for _ in sentences]
        for index, names in zip(filled, labels, strict=True):
            every[index] = list(names)
        return render(every)

    return Document({"tokens": [sentences[index] for index in filled]}, render_all)


_READERS: dict[str, Reader] = {
    "conllu": _conllu,
    "conllup": _conllu_plus,
    "conll": _column_file,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "text": _words,
}
