"""Tables of tab-separated values."""

import re
from collections.abc import Sequence
from pathlib import Path

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.readers.rows import Column, FileLines, Rows, numbered_lines, require_columns, same_width

# A field as CSV writers quote it: quotes around it, and every quote inside it doubled.
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def read_tsv(path: Path, columns: Sequence[Column]) -> Rows:
    """A header line, then one row a line; tabs separate, nothing is quoted. A blank last line is no row.

    Quotes are part of the text. A file that was plainly written with quoted fields is refused, not read with them.
    """
    lines_of_file = list(numbered_lines(path))
    while lines_of_file and not lines_of_file[-1][1].strip(" "):
        lines_of_file.pop()
    if not lines_of_file:
        raise DataError(f"{path}:1: found an empty file, accepted a header line and rows")
    first, head = lines_of_file[0]
    header = head.split("\t")
    if any(_QUOTED.fullmatch(name) for name in header):
        _refuse_quoted(path, first, next(name for name in header if _QUOTED.fullmatch(name)))
    require_columns(columns, header, f"{path}:{first}")
    indices = {name: header.index(str(name)) for name in columns}
    lines = [number for number, _ in lines_of_file[1:]]
    table = [
        same_width(text.split("\t"), len(header), path, number, " as in the header")
        for number, text in lines_of_file[1:]
    ]
    rows = Rows(FileLines(path, lines), {name: [row[index] for row in table] for name, index in indices.items()})
    for name in columns:
        _refuse_quoted_column(path, lines, rows.columns[name])
    return rows


def _refuse_quoted_column(path: Path, lines: list[int], values: list[str]) -> None:
    """Raises `DataError` where quotes inside a quoted field are doubled, or where all fields are quoted."""
    quoted = [row for row, value in enumerate(values) if value[:1] == '"' and _QUOTED.fullmatch(value)]
    certain = quoted if 1 < len(quoted) == len(values) else [row for row in quoted if '""' in values[row][1:-1]]
    if certain:
        _refuse_quoted(path, lines[certain[0]], values[certain[0]])


def _refuse_quoted(path: Path, line: int, field: str) -> None:
    shown = field if len(field) <= 60 else f"{field[:57]}..."
    raise DataError(
        f"{path}:{line}: found the quoted field {shown}, accepted fields without quotes around them "
        "(quotes are read as text; JSON lines keep tabs and quotes)"
    )
