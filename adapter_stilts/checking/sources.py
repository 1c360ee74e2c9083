"""What is to be checked: files as they were named, or all files of a task as its YAML reads them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.schema import LanguageSource, Task
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.formats import FORMATS, checked_column, decode_lines, read_bytes, table_format_of
from adapter_stilts.tasks.kinds import find_kind

SPLITS = ("train", "validation", "test")
Columns = Mapping[str, str | int]
# Names that columns have in most data sets, by role, the likelier ones first.
_USUAL = {
    "tokens": ("tokens", "words", "form"),
    "labels": ("labels", "tags", "ner_tags", "pos_tags", "upos", "label"),
    "text": ("text", "sentence", "sentence1", "premise"),
    "text_pair": ("text_pair", "sentence2", "hypothesis"),
    "label": ("label", "labels", "gold_label"),
}


@dataclass(frozen=True)
class Source:
    """A file, its format, and its columns by role (empty where nothing says them); for a file of a task the task, its
    language and split, what labels are cut off at, its closed list of labels, if any, and which rows are the task's;
    `complaint`: why it cannot be read.
    """

    path: Path
    format: str
    columns: Columns
    split: str | None = None
    label_until: str | None = None
    labels: tuple[str, ...] | None = None
    keep: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    drop: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    task: Task | None = None
    language: str = ""
    complaint: str | None = None

    @property
    def group(self) -> str:
        """Files of one task are compared with each other, and so are those of none."""
        return str(self.task.path) if self.task is not None else ""

    @property
    def of_words(self) -> bool:
        """Whether a row is a list of words, each with its label; else it is a text, or two, with one."""
        return "text" not in self.columns

    @property
    def rows(self) -> str:
        """What a row is called."""
        return "sentence" if self.of_words else "text"

    @property
    def label_role(self) -> str:
        """The role of the column that holds labels."""
        return "labels" if self.of_words else "label"


@dataclass(frozen=True)
class RepositorySplit:
    """A split of a task whose data are a dataset repository's."""

    task: Task
    language: str
    split: str


def sources_of(
    paths: Sequence[Path], file_format: str | None, columns: Mapping[str, str]
) -> Iterator[Source | RepositorySplit]:
    """Everything that the paths name, each once. Raises UsageError for a path without files, a file of no known format,
    and whatever is wrong in a YAML."""
    if file_format is not None and file_format not in FORMATS[:-1]:
        raise UsageError(f"--format: found {file_format!r}, accepted {', '.join(FORMATS[:-1])}")
    for path in dict.fromkeys(_files(paths)):
        if path.suffix in (".yaml", ".yml"):
            if file_format is not None or columns:
                raise UsageError(
                    f"{path}: found --format or --columns with a task's YAML, which says both, accepted files"
                )
            yield from _of_task(find_task(str(path)))
        else:
            try:
                yield _of_file(path, file_format, columns)
            except DataError as error:
                yield Source(path, file_format or "of no known format", {}, complaint=str(error))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        inside = sorted(path.rglob("*.conllu")) if path.is_dir() else [path]
        if not inside:
            raise UsageError(f"{path}: found no .conllu file in the folder, accepted one or more")
        if not path.exists():
            raise UsageError(
                f"{path}: found no such file, accepted data files, a task's YAML, and folders of CoNLL-U files"
            )
        yield from inside


def _of_task(task: Task) -> Iterator[Source | RepositorySplit]:
    for code, source in task.data.languages.items():
        file_format = source.format or task.data.format
        for split in SPLITS:
            if file_format is None or not _USUAL.keys() >= find_kind(task.kind).columns.keys():
                yield RepositorySplit(task, code, split)
            elif (name := getattr(source, split)) is not None:
                yield _local(task, code, source, task.file(name), file_format, split)


def _local(task: Task, code: str, source: LanguageSource, path: Path, file_format: str, split: str) -> Source:
    columns = source.columns or task.data.columns
    return Source(
        path,
        file_format,
        {role: name for role, name in columns.items() if not isinstance(name, tuple)},
        split,
        task.label_until,
        task.labels if isinstance(task.labels, tuple) else None,
        task.data.filter if source.filter is None else source.filter,
        task.data.exclude if source.exclude is None else source.exclude,
        task,
        code,
    )


# --- a file of which nothing is said ------------------------------------------------------------------------------


def _of_file(path: Path, file_format: str | None, typed: Mapping[str, str]) -> Source:
    roles = tuple(_USUAL)
    for role in typed:
        if role not in roles:
            raise UsageError(f"--columns {role}: found an unknown role, accepted {', '.join(roles)}")
    raw = read_bytes(path)
    chosen = file_format or table_format_of(path, raw, {name for candidates in _USUAL.values() for name in candidates})
    if chosen in ("conllu", "conllup", "conll"):
        return Source(path, chosen, {role: checked_column(role, name, chosen) for role, name in typed.items()})
    names = _column_names(path, raw, chosen)
    usual = {role: next((name for name in candidates if name in names), None) for role, candidates in _USUAL.items()}
    words = "tokens" in typed or ("text" not in typed and usual["tokens"] is not None and chosen != "tsv")
    wanted = ("tokens", "labels") if words else ("text", "text_pair", "label")
    columns = {role: typed.get(role, usual[role]) for role in wanted}
    if columns[wanted[0]] is None:
        hint = "--columns tokens=NAME,labels=NAME or --columns text=NAME,label=NAME"
        raise UsageError(f"{path}: found the columns {', '.join(names) or '(none)'}, accepted with {hint}")
    return Source(path, chosen, {role: name for role, name in columns.items() if name is not None})


def _column_names(path: Path, raw: bytes, file_format: str) -> list[str]:
    """Names of the columns of a table: those of the header, the schema, or the first object. What is damaged has none;
    the reader says so."""
    if file_format == "parquet":
        try:
            return list(pq.read_schema(path).names)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path}: found a damaged file ({str(error).splitlines()[0]}), accepted Parquet") from None
    first = next((line.text for line in decode_lines(path, raw) if not line.blank), "")
    if file_format == "tsv":
        return first.split("\t")
    try:
        item = json.loads(first)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:1: found broken JSON ({error}), accepted one JSON object a line") from None
    return list(item) if isinstance(item, dict) else []
