"""Predictions of every sentence, kept so that paired tests and confusions can be made later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adapter_stilts.errors import DataError
from adapter_stilts.paths import sha256_file
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.kinds.contract import Answer
from adapter_stilts.trust import regular_file

if TYPE_CHECKING:
    from adapter_stilts.evaluation.scores import Scores

PREDICTIONS = "predictions.parquet"
_ANSWERS = {"labels": pa.list_(pa.string()), "number": pa.int32()}


def _types(kind: str) -> dict[str, pa.DataType]:
    """The columns, and their types for answers of that kind of task."""
    answer = _ANSWERS[find_kind(kind).answer]
    return {"language": pa.string(), "example": pa.int32(), "predicted": answer, "gold": answer}


@dataclass(frozen=True)
class Predictions:
    """One language's predictions: the answer to each example, as its kind keeps them, beside the gold one.

    `examples` are row numbers in the split, counted from 0: the same examples have the same numbers in every run.
    """

    language: str
    examples: Sequence[int]
    predicted: Sequence[Answer]
    gold: Sequence[Answer]


def write_predictions(folder: Path, predictions: Sequence[Predictions], kind: str) -> str:
    """Write predictions.parquet, one row an example, into a folder that appears as a whole; returns its SHA-256."""
    columns = {
        "language": [each.language for each in predictions for _ in each.examples],
        "example": [int(example) for each in predictions for example in each.examples],
        "predicted": [answer for each in predictions for answer in each.predicted],
        "gold": [answer for each in predictions for answer in each.gold],
    }
    table = pa.table(columns, schema=pa.schema(list(_types(kind).items())))
    pq.write_table(table, folder / PREDICTIONS, compression="zstd")
    return sha256_file(folder / PREDICTIONS)


def check_predictions(folder: Path, sha256: str | None) -> Path:
    """The file of predictions. Raises StiltsError where it is not the one whose SHA-256 its scores hold (None: they are
    from before they held one)."""
    path = regular_file(folder / PREDICTIONS, folder)
    if sha256 is not None and sha256_file(path) != sha256:
        raise DataError(f"{path}: altered since it was written (its SHA-256 differs from that in scores.json)")
    return path


def read_predictions(folder: Path, scores: Scores, kind: str) -> dict[str, Predictions]:
    """Predictions by language. Raises StiltsError where the file is missing, damaged, or not that of the scores."""
    path = check_predictions(folder, scores.predictions)
    by_language: dict[str, tuple[list[int], list[Answer], list[Answer]]] = {}
    for row in read_columns(path.parent, scores, kind, list(_types(kind))).to_pylist():
        examples, predicted, gold = by_language.setdefault(row["language"], ([], [], []))
        examples.append(row["example"])
        predicted.append(row["predicted"])
        gold.append(row["gold"])
    predictions = {language: Predictions(language, *columns) for language, columns in by_language.items()}
    _check_examples(path, predictions)
    return predictions


def read_columns(folder: Path, scores: Scores, kind: str, names: Sequence[str]) -> pa.Table:
    """These columns of predictions.parquet; its checksum is not looked at. Raises StiltsError where the file is missing
    or damaged, or has not as many rows in all, and of each language where that is read, as the scores say."""
    path, types = regular_file(folder / PREDICTIONS, folder), _types(kind)
    numbers = {code: int(metrics["n"]) for code, metrics in scores.languages.items()}
    try:
        file = pq.ParquetFile(path)
        if file.metadata.num_rows != sum(numbers.values()):
            accepted = f"{sum(numbers.values()):,}, as scores.json says"
            raise DataError(f"{path}: found {file.metadata.num_rows:,} rows, accepted {accepted}")
        table = file.read(columns=list(names))
        columns = {name: table.column(name).combine_chunks() for name in names}
        table.validate(full=True)
    except (OSError, KeyError, UnicodeDecodeError, MemoryError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]})") from None
    for name, column in columns.items():
        values = column.flatten() if pa.types.is_list(column.type) else column
        if column.type != types[name] or column.null_count or values.null_count:
            raise DataError(f"{path}: {name}: found {column.type} or gaps, accepted {types[name]}")
    if "language" in columns:
        counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(columns["language"]).to_pylist()}
        for code in {**numbers, **counts}:
            count, expected = counts.get(code, 0), numbers.get(code, 0)
            if count != expected:
                problem = f"found {count} examples, accepted {expected}, as scores.json says"
                raise DataError(f"{path}: language {code[:80]!r}: {problem}")
    return table


def _check_examples(path: Path, predictions: Mapping[str, Predictions]) -> None:
    """Raise DataError where numbers or labels of examples do not agree."""
    for code, each in predictions.items():
        examples = each.examples
        if len(set(examples)) != len(examples) or min(examples, default=0) < 0:
            raise DataError(f"{path}: language {code!r}: found an example number twice, or under 0, accepted each once")
        for example, predicted, gold in zip(examples, each.predicted, each.gold, strict=True):
            if isinstance(gold, list) and len(predicted) != len(gold):
                what = f"found {len(predicted)} predicted and {len(gold)} gold labels, accepted as many"
                raise DataError(f"{path}: language {code!r}, example {example}: {what}")
