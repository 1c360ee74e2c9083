"""Files of questions with choices: tables, JSON lines or Parquet, with the number (or key) of a choice given back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.documents.document import (
    ColumnName,
    Columns,
    Document,
    Reader,
    Reading,
    named_rows,
    read_as,
)
from adapter_stilts.tasks.documents.rendering import render_jsonl, render_parquet, render_tsv
from adapter_stilts.tasks.formats import Line, format_of_rows
from adapter_stilts.tasks.readers import Rows


def read(reading: Reading, path: Path, file_format: str | None, columns: Mapping[str, str]) -> Document:
    """The file's questions and choices, and the answers to be given back as the task has them: by key where its choices
    have keys, else by number; see `predict_file` for formats and errors."""
    return read_as(reading, path, file_format, columns, _READERS, partial(format_of_rows, path))


def _document(
    reading: Reading,
    rows: Rows,
    values: dict[str, list[Any]],
    names: Mapping[str, ColumnName],
    render: Callable[[Sequence[Any]], bytes],
) -> Document:
    kind = reading.kind
    selected = kind.take(values, names, rows.location)
    if len(selected) != len(rows):
        lacking = len(rows) - len(selected)
        raise DataError(f"{rows.path}: found {lacking} rows without choices, accepted choices in each")
    assert kind.read is not None
    made = kind.read(values, names, rows.location, reading.options)

    def rendered(answers: Sequence[int]) -> bytes:
        keys, first = values.get("keys"), getattr(reading.options, "first_answer", 0)
        return render([answer + first if keys is None else keys[row][answer] for row, answer in enumerate(answers)])

    return Document({role: list(column) for role, column in made.items()}, rendered)


def _tsv(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    rows, values, names = named_rows(path, reading, columns, "tsv")
    numbers: Any = rows.lines
    column = str(columns[reading.answer_role])
    return _document(
        reading, rows, values, names, lambda answers: render_tsv(lines, numbers, column, list(map(str, answers)))
    )


def _jsonl(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    rows, values, names = named_rows(path, reading, columns, "jsonl")
    numbers: Any = rows.lines
    key = str(columns[reading.answer_role])
    return _document(reading, rows, values, names, lambda answers: render_jsonl(lines, numbers, key, answers))


def _parquet(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    rows, values, names = named_rows(path, reading, columns, "parquet")
    name, by_key = str(columns[reading.answer_role]), "keys" in values
    type_ = pa.string() if by_key else pa.int32()
    return _document(reading, rows, values, names, lambda answers: render_parquet(path, name, answers, type_))


_READERS: dict[str, Reader] = {"tsv": _tsv, "jsonl": _jsonl, "parquet": _parquet}
