"""What a reader returns, and what all readers share."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapter_stilts.errors import DataError

Column = str | int


@dataclass(frozen=True)
class FileLines:
    """`lines`: for each row of a file its line, or the line of each token; None where rows are counted (Parquet)."""

    path: Path
    lines: list[int] | list[list[int]] | None = None

    def location(self, row: int, token: int | None = None) -> str:
        """Where row `row` (from 0), or its token, stands in the file."""
        if self.lines is None:
            return f"{self.path}: row {row + 1}"
        line = self.lines[row]
        if isinstance(line, list):
            line = line[token or 0]
        return f"{self.path}:{line}"


@dataclass(frozen=True)
class Rows:
    """`columns`: the file's column -> one value a row. `label_names`: those of its ClassLabel columns."""

    file: FileLines
    columns: dict[Column, list[Any]]
    label_names: dict[Column, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    @property
    def path(self) -> Path:
        return self.file.path

    @property
    def lines(self) -> list[int] | list[list[int]] | None:
        return self.file.lines

    def location(self, row: int, token: int | None = None) -> str:
        """Where row `row` (from 0), or its token, stands in the file."""
        return self.file.location(row, token)

    def require_texts(self, column: Column, chosen: Iterable[int]) -> None:
        """Raises `DataError` for a chosen row with a list where one text belongs."""
        values = self.columns[column]
        for row in chosen:
            if isinstance(values[row], list):
                value = f"a list of {len(values[row])}"
                raise DataError(f"{self.location(row)}: {column}: found {value}, accepted one text a row")


@dataclass(frozen=True)
class RowLocations:
    """Where each row of a split stands: its file, and its row there."""

    rows: tuple[tuple[FileLines, int], ...] = ()

    def of(self, row: int, token: int | None = None) -> str:
        """The file and line of row `row` (from 0) of the split, or of its token."""
        file, number = self.rows[row]
        return file.location(number, token)


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines from 1 without their end. A line feed ends one, or a carriage return in a file without line feeds;
    U+2028 or U+0085 may be part of a token."""
    number = 1
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(_raw_lines(file), 1):
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                yield number, text.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: found bytes that are not UTF-8 ({error.reason}), accepted UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: found {error.strerror}, accepted a readable file") from None


def _raw_lines(file: Iterable[bytes]) -> Iterator[bytes]:
    lines = iter(file)
    first = next(lines, b"")
    if b"\r" in first and not first.endswith(b"\n"):
        yield from first.removesuffix(b"\r").split(b"\r")
    elif first:
        yield first
        yield from lines


# Columns that a complaint lists.
_MOST_NAMED = 50


def require_columns(columns: Sequence[Column], present: Sequence[str], location: str) -> None:
    """Raises `DataError` where a wanted column is absent, or stands there twice."""
    for wanted in columns:
        column, keys = inside(wanted, present)
        name = column if keys else wanted  # a column's number stays one
        if name not in present:
            more = f" and {len(present) - _MOST_NAMED} more" if len(present) > _MOST_NAMED else ""
            listed = ", ".join(column[:60] for column in present[:_MOST_NAMED])
            raise DataError(f"{location}: found no column '{name}', accepted one of {listed}{more}")
        if present.count(str(name)) > 1:
            raise DataError(f"{location}: found the column '{name}' twice, accepted each wanted column once")


def inside(name: Column, present: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """The column that holds what `name` names, and the keys within its values: `choices.text` is the key `text` of
    `choices`, where there is no column of the whole name."""
    text = str(name)
    column, *keys = text.split(".")
    return (text, ()) if text in present or column not in present else (column, tuple(keys))


def value_inside(value: Any, keys: Sequence[str], name: Column, location: str) -> Any:
    """The value under the keys, of a list that of each element. Raises `DataError` where a key is not there."""
    if not keys:
        return value
    if isinstance(value, list):
        return [value_inside(element, keys, name, location) for element in value]
    if not isinstance(value, dict) or keys[0] not in value:
        has = ", ".join(map(str, value)) if isinstance(value, dict) else _shown(value)
        raise DataError(f"{location}: {name}: found {has}, accepted an object with the key {keys[0]!r}")
    return value_inside(value[keys[0]], keys[1:], name, location)


def same_width(fields: list[str], accepted: int, path: Path, number: int, like: str) -> list[str]:
    """The fields, where there are as many as accepted. Raises `DataError` else."""
    if len(fields) != accepted:
        raise DataError(f"{path}:{number}: found {len(fields)} columns, accepted {accepted}{like}")
    return fields


def as_text(value: Any) -> Any:
    """Numbers and truth values as text, so that a label 1 is the label '1' in every format. What is no number (NaN) or
    no end (infinity) is no text either."""
    if isinstance(value, list):
        return [as_text(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return value
    return str(value) if isinstance(value, int | float) else value


def refuse_other_than_text(rows: Rows, columns: Iterable[Column]) -> None:
    """Raises `DataError` for the first value of these columns that is neither text nor a list of texts."""
    for name in columns:
        for row, value in enumerate(rows.columns[name]):
            items = value if isinstance(value, list) else [value]
            for item in items:
                if not isinstance(item, str):
                    raise DataError(f"{rows.location(row)}: {name}: found {_shown(item)}, accepted text")


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
