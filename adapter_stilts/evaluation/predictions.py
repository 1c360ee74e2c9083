"""Predictions of every sentence, kept so that paired tests and confusions can be made later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from adapter_stilts.errors import DataError
from adapter_stilts.paths import sha256_file
from adapter_stilts.trust import regular_file

PREDICTIONS = "predictions.parquet"
_TYPES = {
    "language": pa.string(),
    "example": pa.int32(),
    "predicted": pa.list_(pa.string()),
    "gold": pa.list_(pa.string()),
}


@dataclass(frozen=True)
class Predictions:
    """One language's predictions: label names of the units of each example, beside the gold ones.

    `examples` are row numbers in the split, counted from 0: the same examples have the same numbers in every run.
    """

    language: str
    examples: Sequence[int]
    predicted: Sequence[Sequence[str]]
    gold: Sequence[Sequence[str]]


def write_predictions(folder: Path, predictions: Sequence[Predictions]) -> str:
    """Write predictions.parquet, one row an example, into a folder that appears as a whole; returns its SHA-256."""
    columns = {
        "language": [own.language for own in predictions for _ in own.examples],
        "example": [int(example) for own in predictions for example in own.examples],
        "predicted": [list(labels) for own in predictions for labels in own.predicted],
        "gold": [list(labels) for own in predictions for labels in own.gold],
    }
    pq.write_table(pa.table(columns, schema=pa.schema(list(_TYPES.items()))), folder / PREDICTIONS, compression="zstd")
    return sha256_file(folder / PREDICTIONS)


def check_predictions(folder: Path, sha256: str | None) -> Path:
    """The file of predictions. Raises StiltsError where it is not the one whose SHA-256 its scores hold (None: they are
    from before they held one)."""
    path = regular_file(folder / PREDICTIONS, folder)
    if sha256 is not None and sha256_file(path) != sha256:
        raise DataError(f"{path}: altered since it was written (its SHA-256 differs from that in scores.json)")
    return path


def read_predictions(folder: Path, sha256: str | None = None) -> dict[str, Predictions]:
    """Predictions by language; `sha256` is what their scores say of the file. Raises StiltsError where it is missing or
    damaged."""
    path = check_predictions(folder, sha256)
    try:
        table = pq.ParquetFile(path).read()
        columns = {name: table.column(name).combine_chunks() for name in _TYPES}
        table.validate(full=True)
    except (OSError, KeyError, UnicodeDecodeError, MemoryError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]})") from None
    for name, column in columns.items():
        values = column.flatten() if pa.types.is_list(column.type) else column
        if column.type != _TYPES[name] or column.null_count or values.null_count:
            raise DataError(f"{path}: {name}: found {column.type} or gaps, accepted {_TYPES[name]}")
    by_language: dict[str, tuple[list[int], list[list[str]], list[list[str]]]] = {}
    for row in table.to_pylist():
        examples, predicted, gold = by_language.setdefault(row["language"], ([], [], []))
        examples.append(row["example"])
        predicted.append(row["predicted"])
        gold.append(row["gold"])
    return {language: Predictions(language, *own) for language, own in by_language.items()}
