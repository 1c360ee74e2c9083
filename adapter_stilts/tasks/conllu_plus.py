"""CoNLL-U Plus (https://universaldependencies.org/ext-format.html): the columns that its first line names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.conllu import CONLLU_COLUMNS, read_sentences
from adapter_stilts.tasks.formats import GLOBAL_COLUMNS, Line


@dataclass(frozen=True)
class PlusFile:
    """`header`: the names of the columns, as they stand in the first line; `tokens` of every sentence, and `numbers`,
    their lines."""

    header: tuple[str, ...]
    tokens: list[list[str]]
    numbers: list[list[int]]


def read_conllu_plus(path: Path, lines: Sequence[Line], column: str) -> PlusFile:
    """The words of the file, read as CoNLL-U's once every row has ten columns.

    Raises DataError, with file and line: no `# global.columns`, another number of columns, no such column, or word
    numbers out of order (where there is a column ID).
    """
    header = _header(path, lines)
    names = [name.lower() for name in header]
    if column not in names:
        raise DataError(f"{path}:1: found no column {column.upper()}, accepted one of {', '.join(header)}")
    values: dict[int, str] = {}
    mapped: list[tuple[int, str]] = []
    number = 0
    for line in lines:
        if line.blank or line.text.startswith("#"):
            mapped.append((line.number, line.text.strip()))
            number = 0
            continue
        fields = line.text.split("\t")
        if len(fields) != len(header):
            raise DataError(f"{path}:{line.number}: found {len(fields)} columns, accepted {len(header)} as in line 1")
        number += 1
        row = dict(zip(names, fields, strict=True))
        row.setdefault("id", str(number))
        values[line.number] = row[column]
        mapped.append((line.number, "\t".join(row.get(name, "_") for name in CONLLU_COLUMNS)))

    def refuse(number: int, _: str, message: str) -> NoReturn:
        raise DataError(f"{path}:{number}: {message}")

    words = [[number for number, _ in sentence.words] for sentence in read_sentences(mapped, refuse)]
    numbers = [sentence for sentence in words if sentence]
    tokens = [[values[number] for number in sentence] for sentence in numbers]
    return PlusFile(header, tokens, numbers)


def _header(path: Path, lines: Sequence[Line]) -> tuple[str, ...]:
    named = [line for line in lines if line.text.startswith(GLOBAL_COLUMNS)]
    if not named or named[0].number != 1:
        problem = "'# global.columns' below other lines" if named else "no '# global.columns = ...'"
        line = named[0].number if named else 1
        raise DataError(f"{path}:{line}: found {problem}, accepted it in the first line")
    header = tuple(named[0].text[len(GLOBAL_COLUMNS) :].split())
    for other in named[1:]:
        if tuple(other.text[len(GLOBAL_COLUMNS) :].split()) != header:
            raise DataError(f"{path}:{other.number}: found other columns than in line 1, accepted the same")
    if len({name.lower() for name in header}) < len(header):
        raise DataError(f"{path}:1: found a column twice in {' '.join(header)}, accepted each once")
    return header
