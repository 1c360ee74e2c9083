"""Files of texts, or pairs of them: tables, JSON lines, Parquet, or a text a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.documents.document import Columns, Document, Reader, Reading, named_rows, read_as
from adapter_stilts.tasks.documents.rendering import (
    Labels,
    refuse_breaking_labels,
    render_jsonl,
    render_parquet,
    render_texts,
    render_tsv,
)
from adapter_stilts.tasks.formats import Line, format_of_texts


def read(reading: Reading, path: Path, file_format: str | None, columns: Mapping[str, str]) -> Document:
    """The file's texts, and a label for each to be given back; see `predict_file` for formats and errors."""
    names = [str(columns.get(role, reading.columns[role])) for role in reading.roles]
    return read_as(reading, path, file_format, columns, _READERS, partial(_format, path, names))


def _format(path: Path, names: Sequence[str], raw: bytes) -> str:
    return format_of_texts(path, raw, names)


def _lines(path: Path, lines: Sequence[Line], reading: Reading, _: Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    filled = [line for line in lines if not line.blank]
    rows = [line.text.split("\t") for line in filled]
    for line, row in zip(filled, rows, strict=True):
        if len(row) != len(reading.roles):
            form = f"{len(reading.roles)} ({'<TAB>'.join(reading.roles)}), or --format tsv with a header line"
            raise DataError(f"{path}:{line.number}: found {len(row)} columns, accepted {form}")
    columns = {role: [row[index] for row in rows] for index, role in enumerate(reading.roles)}
    return Document(columns, partial(render_texts, filled))


def _tsv(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    refuse_breaking_labels(path, reading.labels, blanks_separate=False)
    rows, values, _ = named_rows(path, reading, columns, "tsv")
    numbers: Any = rows.lines
    name = str(columns[reading.answer_role])
    return Document(values, lambda labels: render_tsv(lines, numbers, name, _single(labels)))


def _jsonl(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    rows, values, _ = named_rows(path, reading, columns, "jsonl")
    numbers: Any = rows.lines
    key = str(columns[reading.answer_role])
    return Document(values, lambda labels: render_jsonl(lines, numbers, key, _single(labels)))


def _parquet(path: Path, lines: Sequence[Line], reading: Reading, columns: Columns) -> Document:
    _, values, _ = named_rows(path, reading, columns, "parquet")
    name = str(columns[reading.answer_role])
    return Document(values, lambda labels: render_parquet(path, name, _single(labels), pa.string()))


def _single(labels: Labels) -> list[str]:
    return [label for (label,) in labels]


_READERS: dict[str, Reader] = {"tsv": _tsv, "jsonl": _jsonl, "parquet": _parquet, "text": _lines}
