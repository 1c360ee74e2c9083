"""Files of one word a line in columns, of which nothing says what the columns are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_stilts.errors import UsageError
from adapter_stilts.tasks.formats import Line
from adapter_stilts.tasks.readers import READERS


@dataclass(frozen=True)
class ColumnFile:
    """`tokens` of every sentence, those of the column `column`, with the `numbers` of their lines; `width`: how many
    columns there are; `blanks_separate` them, not tabs."""

    path: Path
    column: int
    width: int
    blanks_separate: bool
    tokens: list[list[str]]
    numbers: list[list[int]]

    def values(self, index: int) -> list[list[str]]:
        """Another column of the same words."""
        return READERS["conll"](self.path, [self.column, index]).columns[index]


def column_file(path: Path, lines: Sequence[Line], tokens: str | int | None = None) -> ColumnFile:
    """The file with its column of tokens: the one given, else the first, or the second where the first counts words.

    Raises DataError for lines of different widths, UsageError for a column of numbers where words belong.
    """
    rows = READERS["conll"](path, [0, "last"])
    numbers: Any = rows.lines
    if not len(rows):
        return ColumnFile(path, 0, 0, False, [], [])
    first = next(line.text for line in lines if line.number == numbers[0][0])
    tabs = "\t" in first
    width = len(first.split("\t") if tabs else re.split(" +", first.strip(" ")))
    if tokens is None:
        tokens = 1 if width > 1 and _counts_words(rows.columns[0]) else 0
    column = width - 1 if tokens == "last" else int(tokens)
    rows = READERS["conll"](path, [column, "last"])
    words, numbers = rows.columns[column], rows.lines
    if width > 1 and _counts_words(words):
        found = f"numbers of words in the column of tokens ({column})"
        raise UsageError(f"{path}: found {found}, accepted words; --columns tokens=N names another column, from 0")
    return ColumnFile(path, column, width, not tabs and width > 1, words, numbers)


def _counts_words(sentences: Sequence[Sequence[str]]) -> bool:
    return all(own == [str(number) for number in range(1, len(own) + 1)] for own in sentences)
