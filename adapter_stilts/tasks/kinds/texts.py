"""What kinds share whose rows are texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.kinds.contract import Columns, LocationOf


def take(columns: Columns, names: Mapping[str, Any], location_of: LocationOf) -> list[int]:
    """Every row. Raises DataError, with file and row, for one with a list where one text belongs."""
    for role, values in columns.items():
        for row, value in enumerate(values):
            if isinstance(value, list):
                refused = f"a list of {len(value)}"
                raise DataError(f"{location_of(row, None)}: {names[role]}: found {refused}, accepted one text a row")
    return list(range(len(columns["text"])))


def check(columns: Columns, location_of: LocationOf) -> None:
    """Raise DataError where every text is blank."""
    if not any(text.strip() for text in columns["text"]):
        raise DataError(f"{location_of(0, None)}: found nothing but blank texts, accepted texts")
