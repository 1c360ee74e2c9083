"""Predictions of every sentence, kept so that paired tests and confusions can be made later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from adapter_stilts.errors import DataError

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


def write_predictions(folder: Path, predictions: Sequence[Predictions]) -> None:
    """Write predictions.parquet, one row an example, into a folder that appears as a whole."""
    columns = {
        "language": [own.language for own in predictions for _ in own.examples],
        "example": [int(example) for own in predictions for example in own.examples],
        "predicted": [list(labels) for own in predictions for labels in own.predicted],
        "gold": [list(labels) for own in predictions for labels in own.gold],
    }
    pq.write_table(pa.table(columns, schema=pa.schema(list(_TYPES.items()))), folder / PREDICTIONS, compression="zstd")


def read_predictions(folder: Path) -> dict[str, Predictions]:
    """Predictions by language. Raises DataError where the file is missing or damaged."""
    path = folder / PREDICTIONS
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    by_language: dict[str, tuple[list[int], list[list[str]], list[list[str]]]] = {}
    for row in table.to_pylist():
        examples, predicted, gold = by_language.setdefault(row["language"], ([], [], []))
        examples.append(row["example"])
        predicted.append(row["predicted"])
        gold.append(row["gold"])
    return {language: Predictions(language, *own) for language, own in by_language.items()}
