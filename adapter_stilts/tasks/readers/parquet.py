"""Parquet, with the names of a ClassLabel as `datasets` writes them.

Nothing but the wanted columns is looked at: others may be of any type.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.readers.rows import (
    Column,
    FileLines,
    Rows,
    as_text,
    inside,
    refuse_other_than_text,
    require_columns,
    value_inside,
)

_METADATA = b"huggingface"
# Equal rows take no room in a file and all of it in memory.
MOST_ROWS = 5_000_000


def read_parquet(path: Path, columns: Sequence[Column]) -> Rows:
    """The columns of a Parquet file. Raises `DataError`: truncated or no Parquet, or a column that is not there."""
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            require_columns(columns, schema.names, str(path))
            if file.metadata.num_rows > MOST_ROWS:
                raise DataError(f"{path}: found {file.metadata.num_rows:,} rows, accepted up to {MOST_ROWS:,}")
            parts = {name: inside(name, schema.names) for name in columns}
            table = file.read(columns=list(dict.fromkeys(column for column, _ in parts.values())))
        values = {name: _values(path, table, name, *part) for name, part in parts.items()}
    # Invalid UTF-8 and dates that Python does not have are a ValueError or an OverflowError.
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _damaged(path, error) from None
    plain = [name for name, (_, keys) in parts.items() if not keys]
    names = {name: _class_names(path, schema, str(name)) for name in plain}
    declared = {name: labels for name, labels in names.items() if labels is not None}
    rows = Rows(FileLines(path), {name: _decode(values[name], declared.get(name)) for name in columns}, declared)
    texts = {name for name in plain if _all_text(table.column(str(name)), name in declared)}
    refuse_other_than_text(rows, [name for name in columns if name not in texts])
    return rows


def _values(path: Path, table: pa.Table, name: Column, column: str, keys: Sequence[str]) -> list[Any]:
    values = table.column(column).to_pylist()
    if not keys:
        return values
    return [value_inside(value, keys, name, f"{path}: row {row}") for row, value in enumerate(values, 1)]


def parquet_label_names(path: Path, column: str) -> tuple[str, ...] | None:
    """The names of a ClassLabel column (or list of ClassLabel), read from the file's footer alone."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from None
    return _class_names(path, schema, column) if schema.names.count(column) == 1 else None


def _damaged(path: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{path}: found a damaged file ({reason}), accepted a whole Parquet file")


def _class_names(path: Path, schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """None for a column that is no ClassLabel. Only whole numbers can be one: of other columns no metadata are read."""
    if not pa.types.is_integer(_inner(schema.field(column).type)):
        return None
    try:
        features = json.loads((schema.metadata or {}).get(_METADATA, b"{}")).get("info", {}).get("features") or {}
        return _names(features.get(column))
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        raise DataError(
            f"{path}: {column}: found broken `huggingface` metadata beside a column of numbers, accepted metadata as "
            "`datasets` writes them, or none"
        ) from None


def _inner(type_: pa.DataType) -> pa.DataType:
    nested = hasattr(type_, "value_type") and not pa.types.is_dictionary(type_) and not pa.types.is_map(type_)
    return type_.value_type if nested else type_


def _names(feature: Any) -> tuple[str, ...] | None:
    """The names of a ClassLabel, or of the list of them. Raises the errors of a feature in no form of `datasets`."""
    inner = feature[0] if isinstance(feature, list) else feature
    if inner is None:
        return None
    inner = inner.get("feature") or inner
    inner = inner[0] if isinstance(inner, list) else inner
    if inner.get("_type") != "ClassLabel":
        return None
    names = inner.get("names") or [str(number) for number in range(inner["num_classes"])]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(names)
    return tuple(names)


def _decode(values: list[Any], names: tuple[str, ...] | None) -> list[Any]:
    if names is None:
        return [as_text(value) for value in values]
    known = dict(enumerate(names))

    def name_of(label: Any) -> Any:
        return None if label is None else known.get(label, str(label))

    return [[name_of(item) for item in value] if isinstance(value, list) else name_of(value) for value in values]


def _all_text(column: pa.ChunkedArray, declared: bool) -> bool:
    """Whether the column's type leaves nothing but texts (or names of a ClassLabel), or lists of them."""
    inner = _inner(column.type)
    if column.null_count or not (declared or pa.types.is_string(inner) or pa.types.is_large_string(inner)):
        return False
    return inner == column.type or all(chunk.flatten().null_count == 0 for chunk in column.chunks)
