"""Rows of one data file, format by format, each row with the place that an error about it names.

Whatever the format, a reader returns texts: a string a row (`text`, `label`) or a list of strings a row (`tokens`,
`labels`). A ClassLabel is decoded to its name; a number outside it (-1: no label) stays that number as text.
Every reader raises `DataError`, '<file>:<line>: found ..., accepted ...' ('<file>: row <n>' for Parquet, from 1).
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from datasets import ClassLabel, Features

from adapter_stilts.errors import DataError
from adapter_stilts.schema import CONLLU_COLUMNS
from adapter_stilts.tasks.conllu import Row, misc_key, misc_values, read_sentences

Column = str | int


@dataclass(frozen=True)
class Rows:
    """`columns`: the file's column -> one value a row. `lines`: for each row its line, or the line of each token."""

    path: Path
    columns: dict[Column, list[Any]]
    lines: list[int] | list[list[int]] | None = None
    label_names: dict[Column, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def place(self, row: int, token: int | None = None) -> str:
        """Where row `row` (from 0), or its token, stands in the file."""
        if self.lines is None:
            return f"{self.path}: row {row + 1}"
        line = self.lines[row]
        if isinstance(line, list):
            line = line[token or 0]
        return f"{self.path}:{line}"


def read_parquet(path: Path, columns: Sequence[Column]) -> Rows:
    """The columns of a Parquet file. Raises `DataError`: truncated or no Parquet, or a column that is not there."""
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        _require(columns, schema.names, str(path))
        features = Features.from_arrow_schema(schema)
        table = file.read(columns=[str(name) for name in columns])
        values = {name: table.column(str(name)).to_pylist() for name in columns}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: found a damaged file ({reason}), accepted a whole Parquet file") from None
    names = {name: _class_names(features[str(name)]) for name in columns}
    declared = {name: found for name, found in names.items() if found is not None}
    rows = Rows(path, {name: _decode(values[name], declared.get(name)) for name in columns}, None, declared)
    _require_texts(rows)
    return rows


def parquet_label_names(path: Path, column: str) -> tuple[str, ...] | None:
    """The names of a ClassLabel column (or list of ClassLabel), read from the file's footer alone."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: found a damaged file ({error}), accepted a whole Parquet file") from None
    features = Features.from_arrow_schema(schema)
    return _class_names(features[column]) if column in features else None


def read_jsonl(path: Path, columns: Sequence[Column]) -> Rows:
    """A JSON object a line, blank lines skipped."""
    values: dict[Column, list[Any]] = {name: [] for name in columns}
    lines: list[int] = []
    for number, text in _lines(path):
        if not text.strip():
            continue
        try:
            item = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{path}:{number}: found broken JSON ({error}), accepted one JSON object a line") from None
        if not isinstance(item, dict):
            raise DataError(f"{path}:{number}: found a {type(item).__name__}, accepted one JSON object a line")
        if "\\u" in text and re.search("[\ud800-\udfff]", json.dumps(item, ensure_ascii=False)):
            raise DataError(f"{path}:{number}: found half of a surrogate pair, accepted whole characters")
        _require(columns, list(item), f"{path}:{number}")
        for name in columns:
            values[name].append(_as_texts(item[str(name)]))
        lines.append(number)
    rows = Rows(path, values, lines)
    _require_texts(rows)
    return rows


def read_tsv(path: Path, columns: Sequence[Column]) -> Rows:
    """A header line, then one row a line; tabs separate, nothing is quoted. A blank last line is no row."""
    lines_of_file = list(_lines(path))
    while lines_of_file and not lines_of_file[-1][1]:
        lines_of_file.pop()
    if not lines_of_file:
        raise DataError(f"{path}:1: found an empty file, accepted a header line and rows")
    header = lines_of_file[0][1].split("\t")
    _require(columns, header, f"{path}:1")
    values: dict[Column, list[Any]] = {name: [] for name in columns}
    for number, text in lines_of_file[1:]:
        fields = _fields(text.split("\t"), len(header), path, number, " as in the header")
        for name in columns:
            values[name].append(fields[header.index(str(name))])
    return Rows(path, values, [number for number, _ in lines_of_file[1:]])


def read_conllu(path: Path, columns: Sequence[Column]) -> Rows:
    """CoNLL-U: syntactic words; comments, multiword ranges and empty nodes are skipped. A column is one of the ten, or
    `misc.KEY`, which every word must have."""

    def refuse(line: int, _: str, message: str) -> NoReturn:
        raise DataError(f"{path}:{line}: {message}")

    sentences = [sentence.words for sentence in read_sentences(_lines(path), refuse)]
    indices = [CONLLU_COLUMNS.index(str(name) if misc_key(name) is None else "misc") for name in columns]
    rows = _token_rows(path, columns, sentences, indices)
    for name in columns:
        if key := misc_key(name):
            rows.columns[name] = _misc_column(rows, name, key)
    return rows


def read_conll(path: Path, columns: Sequence[Column]) -> Rows:
    """One token a line, columns separated by a tab or by blanks, a blank line between sentences, lines of `-DOCSTART-`
    skipped. A column is a number from 0, or `last`. There are no comments (`#` is a token in CoNLL-2000)."""
    sentences: list[list[Row]] = [[]]
    width = 0
    for number, text in _lines(path):
        if not text.strip(" \t"):
            sentences.append([])
        elif not text.startswith("-DOCSTART-"):
            parts = text.split("\t") if "\t" in text else re.split(" +", text.strip(" "))
            width = width or len(parts)
            sentences[-1].append((number, _fields(parts, width, path, number, " as in the lines before")))
    indices = [width - 1 if name == "last" else int(name) for name in columns]
    if width and max(indices) >= width:
        raise DataError(f"{path}:1: found {width} columns, accepted {max(indices) + 1} or more")
    return _token_rows(path, columns, sentences, indices)


READERS: dict[str, Callable[[Path, Sequence[Column]], Rows]] = {
    "parquet": read_parquet,
    "jsonl": read_jsonl,
    "tsv": read_tsv,
    "conllu": read_conllu,
    "conll": read_conll,
}


def whole_sentences(rows: Rows, tokens_column: Column, labels_column: Column, chosen: list[int]) -> list[int]:
    """The chosen rows that have tokens. Raises `DataError` for a row with more or fewer labels than tokens."""
    for row in chosen:
        tokens, labels = rows.columns[tokens_column][row], rows.columns[labels_column][row]
        if not isinstance(tokens, list) or not isinstance(labels, list):
            raise DataError(f"{rows.place(row)}: found text, accepted a list of tokens and a list of labels")
        if len(tokens) != len(labels):
            raise DataError(f"{rows.place(row)}: found {len(labels)} labels, accepted {len(tokens)} (one a token)")
    return [row for row in chosen if rows.columns[tokens_column][row]]


def shorten_labels(labels: list[Any], until: str | None) -> list[Any]:
    """What stands before `until` in each label (`nsubj:pass` is `nsubj`)."""
    if until is None:
        return labels
    return [shorten_labels(item, until) if isinstance(item, list) else item.split(until, 1)[0] for item in labels]


def refuse_unknown_labels(rows: Rows, chosen: list[int], labels: list[Any], accepted: tuple[str, ...]) -> None:
    """Raises `DataError` at the first label (of a row, or of a token) that is not accepted."""
    known = set(accepted)
    for row, value in zip(chosen, labels, strict=True):
        for token, label in enumerate(value if isinstance(value, list) else [value]):
            if label not in known:
                listed = ", ".join(accepted)
                raise DataError(f"{rows.place(row, token)}: found the label '{label}', accepted {listed}")


@lru_cache(maxsize=64)
def readme_configs(path: Path, _modified: int) -> dict[str, dict[str, list[str]]]:
    """Config -> split -> patterns of files, from the metadata of a repository's README; empty where it has none."""
    metadata = re.match(r"---\s*\n(.*?)\n---", path.read_text(encoding="utf-8"), re.DOTALL)
    try:
        content = yaml.load(metadata[1], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if metadata else {}
        listed = {str(item["config_name"]): item.get("data_files", []) for item in content.get("configs", [])}
        return {config: _split_patterns(files) for config, files in listed.items()}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 2
        raise DataError(f"{path}:{line}: found broken metadata ({type(error).__name__}), accepted `configs`") from None


def _split_patterns(files: Any) -> dict[str, list[str]]:
    if not isinstance(files, list) or any(isinstance(item, str) for item in files):
        return {"train": [files] if isinstance(files, str) else list(files)}
    paths = {str(item["split"]): item["path"] for item in files}
    return {split: [path] if isinstance(path, str) else list(path) for split, path in paths.items()}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines from 1 without their end. Only a line feed ends one: U+2028 or U+0085 may be part of a token."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                yield number, text.rstrip("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: found bytes that are not UTF-8 ({error.reason}), accepted UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: found {error.strerror}, accepted a readable file") from None


def _fields(fields: list[str], accepted: int, path: Path, number: int, like: str = "") -> list[str]:
    if len(fields) != accepted:
        raise DataError(f"{path}:{number}: found {len(fields)} columns, accepted {accepted}{like}")
    return fields


def _misc_column(rows: Rows, name: Column, key: str) -> list[list[str]]:
    values = [[misc_values(misc).get(key) for misc in sentence] for sentence in rows.columns[name]]
    for row, sentence in enumerate(values):
        if None in sentence:
            place = rows.place(row, sentence.index(None))
            raise DataError(f"{place}: found no {key} in MISC, accepted {key}=LABEL on every word")
    return values  # type: ignore[return-value]


def _token_rows(path: Path, columns: Sequence[Column], sentences: list[list[Row]], indices: list[int]) -> Rows:
    full = [sentence for sentence in sentences if sentence]
    values: dict[Column, list[Any]] = {
        name: [[fields[index] for _, fields in sentence] for sentence in full]
        for name, index in zip(columns, indices, strict=True)
    }
    return Rows(path, values, [[number for number, _ in sentence] for sentence in full])


def _require(columns: Sequence[Column], present: Sequence[str], place: str) -> None:
    for name in columns:
        if name not in present:
            raise DataError(f"{place}: found no column '{name}', accepted one of {', '.join(present)}")


def _require_texts(rows: Rows) -> None:
    for name, values in rows.columns.items():
        for row, value in enumerate(values):
            items = value if isinstance(value, list) else [value]
            if any(not isinstance(item, str) for item in items):
                wrong = next(item for item in items if not isinstance(item, str))
                raise DataError(f"{rows.place(row)}: {name}: found {wrong!r}, accepted text")


def _class_names(feature: Any) -> tuple[str, ...] | None:
    inner = getattr(feature, "feature", feature)
    return tuple(inner.names) if isinstance(inner, ClassLabel) else None


def _decode(values: list[Any], names: tuple[str, ...] | None) -> list[Any]:
    if names is None:
        return [_as_texts(value) for value in values]
    known = dict(enumerate(names))

    def name_of(label: Any) -> Any:
        return None if label is None else known.get(label, str(label))

    return [[name_of(item) for item in value] if isinstance(value, list) else name_of(value) for value in values]


def _as_texts(value: Any) -> Any:
    """Numbers and truth values as text, so that a label 1 is the label '1' in every format."""
    if isinstance(value, list):
        return [_as_texts(item) for item in value]
    return str(value) if isinstance(value, int | float) else value
