"""Files of one word a line in columns, of which nothing, or not all, says what the columns are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_stilts.errors import UsageError
from adapter_stilts.tasks.formats import Line, is_span_tag
from adapter_stilts.tasks.readers import READERS

_NO_WORDS = ("# ", "#\t", "-DOCSTART-")


@dataclass(frozen=True)
class ColumnFile:
    """`tokens` of every sentence, those of the column `column`, with the `numbers` of their lines.

    `width`: how many columns there are; `blanks_separate` them, not tabs. `label_column` is the one given or the likely
    one, None where there is no other than that of tokens; `labels` are its values.
    """

    column: int
    width: int
    blanks_separate: bool
    tokens: list[list[str]]
    numbers: list[list[int]]
    label_column: int | None
    labels: list[list[str]]


def column_file(
    path: Path, lines: Sequence[Line], tokens: str | int | None = None, labels: str | int | None = None
) -> ColumnFile:
    """The file with its columns of tokens and labels. Where none is given, or the file does not have it, tokens are the
    first, or the second where the first counts words; labels the last that holds tags of spans alone, else the last.

    Raises DataError for lines of different widths, UsageError for a column of numbers where words belong.
    """
    blocks = _blocks(lines)
    width = len(blocks[0][0]) if blocks else 1
    counted = width > 1 and _counts_words([[row[0] for row in block] for block in blocks])
    column = int(counted) if tokens is None else _index(tokens, width)
    chosen = None if labels is None else _index(labels, width)
    if chosen is None or chosen == column or chosen >= width:
        chosen = _likely_labels(blocks, column, width)
    rows = READERS["conll"](path, [column, column if chosen is None else chosen])
    words, numbers = rows.columns[column], rows.lines
    if width > 1 and words and _counts_words(words):
        problem = f"numbers of words in the column of tokens ({column})"
        raise UsageError(f"{path}: found {problem}, accepted words; --columns tokens=N names another column, from 0")
    line_numbers: Any = numbers
    texts = {line.number: line.text for line in lines}
    blanks = width > 1 and any("\t" not in texts[sentence[0]] for sentence in line_numbers)
    values = [] if chosen is None else rows.columns[chosen]
    return ColumnFile(column, width, blanks, words, line_numbers, chosen, values)


def _blocks(lines: Sequence[Line]) -> list[list[list[str]]]:
    """The columns of the words between two blank lines; of lines that begin with `#` where there are no others."""
    for skipped in (_NO_WORDS, ("-DOCSTART-",)):
        blocks: list[list[list[str]]] = [[]]
        for line in lines:
            if line.blank:
                blocks.append([])
            elif not line.text.startswith(skipped):
                blocks[-1].append(line.text.split("\t") if "\t" in line.text else re.split(" +", line.text.strip(" ")))
        if any(blocks):
            break
    return [block for block in blocks if block]


def _index(column: str | int, width: int) -> int:
    return width - 1 if column == "last" else int(column)


def _likely_labels(blocks: Sequence[Sequence[Sequence[str]]], column: int, width: int) -> int | None:
    others = [index for index in range(width - 1, -1, -1) if index != column]
    rows = [row for block in blocks for row in block if len(row) == width]
    tags = (index for index in others if all(is_span_tag(row[index].strip()) for row in rows))
    return next(tags, others[0] if others else None)


def _counts_words(sentences: Sequence[Sequence[str]]) -> bool:
    return all(words == [str(number) for number in range(1, len(words) + 1)] for words in map(list, sentences))
