"""JSON lines: an object a line."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.readers.rows import (
    Column,
    FileLines,
    Rows,
    as_text,
    inside,
    numbered_lines,
    refuse_other_than_text,
    require_columns,
    value_inside,
)
from adapter_stilts.trust import first_twin


class _Twice(ValueError):
    """An object with two values for one key."""


def read_jsonl(path: Path, columns: Sequence[Column]) -> Rows:
    """A JSON object a line, blank lines skipped."""
    values: dict[Column, list[Any]] = {name: [] for name in columns}
    lines: list[int] = []
    for number, text in numbered_lines(path):
        if not text.strip():
            continue
        item = _parse(text, f"{path}:{number}")
        require_columns(columns, list(item), f"{path}:{number}")
        try:
            for name in columns:
                column, keys = inside(name, item)
                values[name].append(as_text(value_inside(item[column], keys, name, f"{path}:{number}")))
        except RecursionError:
            raise DataError(f"{path}:{number}: {name}: found lists nested too deeply, accepted text") from None
        lines.append(number)
    rows = Rows(FileLines(path, lines), values)
    refuse_other_than_text(rows, columns)
    return rows


def _parse(text: str, location: str) -> dict[str, Any]:
    try:
        item = json.loads(text, object_pairs_hook=_object)
    except _Twice as error:
        raise DataError(f"{location}: found the key {error} twice, accepted once") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).split(";")[0]  # of a number over Python's limit: what to call to raise the limit
        raise DataError(f"{location}: found broken JSON ({reason}), accepted one JSON object a line") from None
    if not isinstance(item, dict):
        raise DataError(f"{location}: found a {type(item).__name__}, accepted one JSON object a line")
    if "\\u" in text and re.search("[\ud800-\udfff]", json.dumps(item, ensure_ascii=False)):
        raise DataError(f"{location}: found half of a surrogate pair, accepted whole characters")
    return item


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    item = dict(pairs)
    if len(item) < len(pairs):
        raise _Twice(repr(first_twin(pairs)[:80]))
    return item
