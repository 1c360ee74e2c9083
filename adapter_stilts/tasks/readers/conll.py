"""Files of one word a line: CoNLL-U, and columns as in the CoNLL shared tasks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.conllu import CONLLU_COLUMNS, Row, misc_key, misc_values, read_sentences
from adapter_stilts.tasks.labels import has_span_tags, is_tag
from adapter_stilts.tasks.readers.rows import Column, FileLines, Rows, numbered_lines, same_width


def read_conllu(path: Path, columns: Sequence[Column]) -> Rows:
    """CoNLL-U: syntactic words; comments, multiword ranges and empty nodes are skipped. A column is one of the ten, or
    `misc.KEY`, which every word must have."""

    def refuse(line: int, _: str, message: str) -> NoReturn:
        raise DataError(f"{path}:{line}: {message}")

    sentences = [sentence.words for sentence in read_sentences(numbered_lines(path), refuse)]
    indices = [CONLLU_COLUMNS.index(str(name) if misc_key(name) is None else "misc") for name in columns]
    rows = _token_rows(path, columns, sentences, indices)
    for name in columns:
        if key := misc_key(name):
            rows.columns[name] = _misc_column(rows, name, key)
    return rows


def read_conll(path: Path, columns: Sequence[Column]) -> Rows:
    """One token a line, columns separated by a tab or by blanks, a blank line between sentences, lines of `-DOCSTART-`
    skipped. A column is a number from 0, or `last`; the first of `columns` holds the tokens, the last one the labels.

    A line above a sentence that begins with `#` and a blank is a comment where it can be no word: it has other columns
    than the words, or no label of theirs (`#` is a token in CoNLL-2000, and `#word` always a word).
    """
    blocks = _read_blocks(path)
    rows = [row for block in blocks for row in block.words]
    if not rows:  # every line begins with `#`: words, there is nothing else
        blocks = [_Block([], [(number, _split(text)) for number, text in block.hashes]) for block in blocks]
        rows = [row for block in blocks for row in block.words]
    width = len(rows[0][1]) if rows else 0
    indices = [width - 1 if name == "last" else int(name) for name in columns]
    if width and max(indices) >= width:
        raise DataError(f"{path}:{rows[0][0]}: found {width} columns, accepted {max(indices) + 1} or more")
    for number, fields in rows:
        same_width(fields, width, path, number, " as in the lines before")
    words = _words_among(path, [line for block in blocks for line in block.hashes], rows, indices)
    sentences = [[*(words[line] for line, _ in block.hashes if line in words), *block.words] for block in blocks]
    return _token_rows(path, columns, sentences, indices)


@dataclass
class _Block:
    """The lines between two blank lines: those at its head that begin with `#` and a blank, and its words."""

    hashes: list[tuple[int, str]] = field(default_factory=list)
    words: list[Row] = field(default_factory=list)


def _read_blocks(path: Path) -> list[_Block]:
    blocks = [_Block()]
    for number, text in numbered_lines(path):
        if not text.strip():
            blocks.append(_Block())
        elif text.startswith(("# ", "#\t")) and not blocks[-1].words:
            blocks[-1].hashes.append((number, text))
        elif not text.startswith("-DOCSTART-"):
            blocks[-1].words.append((number, _split(text)))
    return blocks


def _split(text: str) -> list[str]:
    return text.split("\t") if "\t" in text else re.split(" +", text.strip(" "))


def _words_among(
    path: Path, hashes: Sequence[tuple[int, str]], rows: Sequence[Row], indices: Sequence[int]
) -> dict[int, Row]:
    """Line -> word, for those of the lines that begin with `#` and a blank which are words; the others are comments.
    `rows` are the file's certain words. Raises `DataError` for a line that may be either."""
    if not hashes:
        return {}
    tokens, labels, width = indices[0], indices[-1], len(rows[0][1])
    seen = {fields[labels].strip() for _, fields in rows}
    numbered = tokens != 0 and all(fields[0].isdecimal() for _, fields in rows)
    words: dict[int, Row] = {}
    for number, text in hashes:
        fields = _split(text)
        if numbered or len(fields) > width or (len(fields) < width and fields[-1] not in seen):
            continue
        if len(fields) < width or _may_be_either(fields[labels].strip(), seen):
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            raise DataError(
                f"{path}:{number}: found {shown!r}, a comment or a word; accepted a word with a label of the file's "
                "others, or a comment that has other columns than words have"
            )
        if fields[labels].strip() in seen or not has_span_tags(seen) or is_tag(fields[labels].strip()):
            words[number] = (number, fields)
    return words


def _may_be_either(label: str, seen: set[str]) -> bool:
    """Whether a line with this label, which no certain word of the file has, may be a comment and may be a word."""
    if label in seen or has_span_tags(seen) or not any(character.isalnum() for character in label):
        return False
    return not (label.isalpha() and label.isupper() and all(other.isupper() for other in seen))


def _misc_column(rows: Rows, name: Column, key: str) -> list[list[str]]:
    values = [[misc_values(misc).get(key) for misc in sentence] for sentence in rows.columns[name]]
    for row, sentence in enumerate(values):
        if None in sentence:
            location = rows.location(row, sentence.index(None))
            raise DataError(f"{location}: found no {key} in MISC, accepted {key}=LABEL on every word")
    return values  # type: ignore[return-value]


def _token_rows(path: Path, columns: Sequence[Column], sentences: list[list[Row]], indices: list[int]) -> Rows:
    full = [sentence for sentence in sentences if sentence]
    values: dict[Column, list[Any]] = {
        name: [[fields[index] for _, fields in sentence] for sentence in full]
        for name, index in zip(columns, indices, strict=True)
    }
    return Rows(FileLines(path, [[number for number, _ in sentence] for sentence in full]), values)
