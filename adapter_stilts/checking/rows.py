"""Files of other formats than CoNLL-U as what is checked: examples, and labels with their lines."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapter_stilts.checking.findings import CheckedFile, Example
from adapter_stilts.checking.labels import check_labels, check_spans, scheme_of
from adapter_stilts.checking.sources import RepositorySplit, Source
from adapter_stilts.errors import DataError
from adapter_stilts.tasks.column_files import column_file
from adapter_stilts.tasks.conllu_plus import read_conllu_plus
from adapter_stilts.tasks.data import MissingData, load_split
from adapter_stilts.tasks.formats import decode_lines, read_bytes
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.readers import READERS

SayOfUnit = Callable[[Path, int, str, str, str], None]
"""Takes the file, the line or row, the code, the message, and which of the two it counts."""
Labels = tuple[tuple[tuple[int, str], ...], ...]


def check_rows(source: Source, say: SayOfUnit) -> CheckedFile:
    """The file as its reader reads it: what stops the reader, what is empty, and the labels. Never raises DataError."""
    try:
        examples, labels, columns = _read(source)
    except DataError as error:
        line, message, unit = _located(source.path, str(error))
        say(source.path, line, "read", message, unit)
        return CheckedFile(source.path, (), (), read=f"{source.format}, not read", given_role=source.split)
    unit = "row" if source.format == "parquet" else "line"
    say_here = lambda line, code, message: say(source.path, line, code, message, unit)  # noqa: E731
    listed = ", ".join(f"{role} {name}" for role, name in columns.items())
    unchecked = () if labels else ("labels",)
    return _checked(source.path, examples, labels, say_here, f"{source.format}, {listed}", unchecked, source, unit)


def check_repository_split(split: RepositorySplit, mirror: Path | None, say: SayOfUnit) -> CheckedFile | None:
    """A split as its task reads it; None where there is no such split. Rows of a repository are counted over its files,
    those of a local file by their lines in it."""
    task, code = split.task, split.language
    kind, local = find_kind(task.kind), getattr(task.data.languages[code], split.split)
    path = Path(f"{task.name}, {code}, {split.split}") if local is None else task.file(local)
    try:
        loaded = load_split(task, code, split.split, mirror)
    except MissingData:
        return None
    except DataError as error:
        line, message, unit = (1, str(error), "row") if local is None else _located(path, str(error))
        say(path, line, "read", message, unit)
        return CheckedFile(path, (), (), read="not read", rows=kind.rows, given_role=split.split)
    values = [loaded.columns[role] for role in kind.text_roles if role in loaded.columns]
    lines: Any = None if local is None else loaded.locations.rows[0][0].lines
    numbers = [row + 1 if lines is None else lines[row] for _, row in loaded.locations.rows]
    if local is None:
        numbers = list(range(1, len(numbers) + 1))
    unit = "row" if lines is None else "line"
    examples = [
        Example(number, _words(texts)) for number, texts in zip(numbers, zip(*values, strict=True), strict=True)
    ]
    column = loaded.columns.get(kind.label_role or "", ())
    labels = tuple(
        tuple((number, label) for label in (value if isinstance(value, list) else [value]))
        for number, value in zip(numbers, column, strict=False)
    )
    say_here = lambda line, code, message: say(path, line, code, message, unit)  # noqa: E731
    source = Source(path, "", {"tokens" if kind.roles.get("tokens") else "text": ""}, split.split)
    return replace(_checked(path, examples, labels, say_here, loaded.source, (), source, unit), rows=kind.rows)


def _checked(
    path: Path,
    examples: Sequence[Example],
    labels: Labels,
    say: Callable[[int, str, str], None],
    read: str,
    unchecked: tuple[str, ...],
    source: Source,
    unit: str,
) -> CheckedFile:
    what = source.rows
    for example in examples:
        if not any(word.strip() for word in example.words):
            say(example.line, "nothing", f"found a {what} with nothing in it, accepted one with words")
    scheme = scheme_of(labels) if source.of_words else None
    check_labels(labels, say, source.labels)
    check_spans(labels, scheme, say)
    filled = tuple(example for example in examples if example.words)
    return CheckedFile(path, (), unchecked, filled, labels, scheme, read, source.rows, unit, source.split)


def labels_of_conllu(source: Source) -> Labels:
    """The labels in a task's column of CoNLL-U. Raises DataError where it cannot be read."""
    column = source.columns["labels"]
    rows = READERS["conllu"](source.path, [column])
    return _labels(rows.lines, rows.columns[column], True, source.label_until)


def complaint_of_task(source: Source, mirror: Path | None) -> tuple[int, str, str] | None:
    """What stops the task at this very file, where it is read for training or scoring: line (or row), message, unit."""
    if source.task is None or source.split is None:
        return None
    try:
        load_split(source.task, source.language, source.split, mirror)
    except DataError as error:
        return _located(source.path, str(error)) if str(error).startswith(f"{source.path}:") else None
    except MissingData:
        return None
    return None


# --- reading ------------------------------------------------------------------------------------------------------


def _read(source: Source) -> tuple[list[Example], Labels, dict[str, str | int]]:
    """Examples, labels, and the columns that were read, by role."""
    if source.complaint is not None:
        raise DataError(source.complaint)
    lines = [] if source.format == "parquet" else decode_lines(source.path, read_bytes(source.path))
    if source.format == "conllup":
        column = str(source.columns.get("tokens", "form"))
        plus = read_conllu_plus(source.path, lines, column)
        return _sentences(plus.tokens, plus.numbers), (), {"tokens": column}
    if source.format == "conll":
        columns = (source.columns.get("tokens"), source.columns.get("labels"))
        file = column_file(source.path, lines, *columns)
        labels = _labels(file.numbers, file.labels, True, source.label_until) if file.labels else ()
        index = file.label_column
        read = {"tokens": file.column, "labels": "none" if index is None else index}
        return _sentences(file.tokens, file.numbers), labels, read
    return _read_table(source)


def _read_table(source: Source) -> tuple[list[Example], Labels, dict[str, str | int]]:
    role = source.label_role
    texts = [source.columns[name] for name in ("tokens", "text", "text_pair") if name in source.columns]
    label = source.columns.get(role)
    wanted = [*texts, *([] if label is None else [label]), *source.keep, *source.drop]
    rows = READERS[source.format](source.path, list(dict.fromkeys(wanted)))
    chosen = [row for row in range(len(rows)) if _is_chosen(rows.columns, row, source)]
    numbers: Any = rows.lines or [row + 1 for row in range(len(rows))]
    for row in chosen:
        for name in texts:
            if isinstance(rows.columns[name][row], list) != source.of_words:
                given, accepted = ("a text", "a list of words") if source.of_words else ("a list", "a text")
                raise DataError(f"{rows.location(row)}: {name}: found {given}, accepted {accepted}")
        if label is not None:
            _require_labels(rows.location(row), rows.columns[texts[0]][row], rows.columns[label][row], source.of_words)
    examples = [Example(numbers[row], _words([rows.columns[name][row] for name in texts])) for row in chosen]
    if label is None:
        return examples, (), dict(source.columns)
    values = [rows.columns[label][row] for row in chosen]
    return (
        examples,
        _labels([numbers[row] for row in chosen], values, source.of_words, source.label_until),
        dict(source.columns),
    )


def _is_chosen(columns: dict[str | int, list[Any]], row: int, source: Source) -> bool:
    rules = [(name, values, True) for name, values in source.keep.items()]
    rules += [(name, values, False) for name, values in source.drop.items()]
    return all((columns[name][row] in {str(value) for value in values}) == want for name, values, want in rules)


def _require_labels(where: str, words: Any, labels: Any, of_words: bool) -> None:
    if isinstance(labels, list) != of_words:
        given, accepted = ("one label", "a list of labels") if of_words else ("a list of labels", "one label")
        raise DataError(f"{where}: found {given}, accepted {accepted}")
    if of_words and len(words) != len(labels):
        raise DataError(f"{where}: found {len(labels)} labels, accepted {len(words)} (one a token)")


def _words(texts: Sequence[Any]) -> tuple[str, ...]:
    """The words of a list, or of texts, cut at blanks."""
    return tuple(word for text in texts for word in (text if isinstance(text, list) else text.split()))


def _sentences(tokens: Sequence[Sequence[str]], numbers: Sequence[Sequence[int]]) -> list[Example]:
    return [Example(lines[0], tuple(words)) for words, lines in zip(tokens, numbers, strict=True)]


def _labels(numbers: Any, values: Sequence[Any], of_words: bool, until: str | None) -> Labels:
    def cut(label: str) -> str:
        return label if until is None else label.split(until, 1)[0]

    labels = []
    for line, value in zip(numbers, values, strict=True):
        names = value if of_words else [value]
        lines = line if isinstance(line, list) else [line] * len(names)
        labels.append(tuple((number, cut(label)) for number, label in zip(lines, names, strict=True)))
    return tuple(labels)


def _located(path: Path, message: str) -> tuple[int, str, str]:
    """Line (or row), message and unit of what a reader complained of."""
    about = message.removeprefix(str(path))
    if match := re.match(r":(\d+): (.*)", about, re.DOTALL):
        return int(match[1]), match[2], "line"
    if match := re.match(r": row (\d+): (.*)", about, re.DOTALL):
        return int(match[1]), match[2], "row"
    return 1, about.removeprefix(": "), "line"
