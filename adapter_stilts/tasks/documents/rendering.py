"""Labels put into the text that they were predicted for: everything else stays as it was."""

import io
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.plain_text import json_text, printable
from adapter_stilts.tasks.conllu import CONLLU_COLUMNS, misc_key
from adapter_stilts.tasks.formats import GLOBAL_COLUMNS, Line

Labels = Sequence[Sequence[str]]
"""The labels of every example's units, in order."""

# Where a word's label goes in CoNLL-U that has no column for it: the attribute of MISC, the column of CoNLL-U Plus.
MISC_COLUMN = "misc.Label"
PLUS_COLUMN = "STILTS:LABEL"
_BLANK = re.compile(r"\s")


def refuse_breaking_labels(path: Path, labels: Sequence[str], blanks_separate: bool) -> None:
    """Raise DataError for a label that would break lines of columns or move a cursor: one with a tab, a line feed or
    another control character, an empty one, and, where `blanks_separate` columns, one with a blank."""
    for label in labels:
        if not label or printable(label) != label or (blanks_separate and _BLANK.search(label)):
            accepted = "a file of JSON lines or Parquet, which can hold it"
            raise DataError(
                f"{path}: found the run's label {label!r}, which would break its columns, accepted {accepted}"
            )


def _written(lines: Sequence[Line], replaced: Mapping[int, str]) -> bytes:
    """The lines, those in `replaced` (line number -> text) with another text."""
    return "".join(replaced.get(line.number, line.text) + line.end for line in lines).encode()


def _by_line(numbers: Sequence[Sequence[int]], labels: Labels) -> dict[int, str]:
    return {
        number: label
        for words, names in zip(numbers, labels, strict=True)
        for number, label in zip(words, names, strict=True)
    }


# --- a sentence or a text a line ----------------------------------------------------------------------------------


def render_words(sentences: Sequence[Sequence[str]], labels: Labels) -> bytes:
    """`word<TAB>label` a line, a blank line between sentences."""
    blocks = (
        "".join(f"{word}\t{label}\n" for word, label in zip(words, names, strict=True))
        for words, names in zip(sentences, labels, strict=True)
    )
    return "\n".join(blocks).encode()


def render_texts(lines: Sequence[Line], labels: Labels) -> bytes:
    """`label<TAB>line`."""
    return "".join(f"{label}\t{line.text}\n" for (label,), line in zip(labels, lines, strict=True)).encode()


# --- CoNLL-U ------------------------------------------------------------------------------------------------------


def render_conllu(lines: Sequence[Line], numbers: Sequence[Sequence[int]], column: str, labels: Labels) -> bytes:
    """Each word's label in `column`: one of CoNLL-U's ten, or `misc.KEY`."""
    texts = {line.number: line.text for line in lines}
    label_of = _by_line(numbers, labels)
    replaced = {n: _with_label(texts[n], CONLLU_COLUMNS, column, label) for n, label in label_of.items()}
    return _written(lines, replaced)


def render_conllu_plus(
    lines: Sequence[Line], numbers: Sequence[Sequence[int]], header: Sequence[str], column: str, labels: Labels
) -> bytes:
    """Each word's label in `column` where the file has it, else in STILTS:LABEL, there or added."""
    names = [name.lower() for name in header]
    target = "misc" if misc_key(column) else column
    label_of = _by_line(numbers, labels)
    if target in names:
        replaced = {n: _with_label(text, names, column, label_of[n]) for n, text in _texts(lines) if n in label_of}
        return _written(lines, replaced)
    if PLUS_COLUMN.lower() in names:
        plus = PLUS_COLUMN.lower()
        replaced = {n: _with_label(text, names, plus, label_of[n]) for n, text in _texts(lines) if n in label_of}
        return _written(lines, replaced)
    words = [(n, text) for n, text in _texts(lines) if text.strip() and not text.startswith("#")]
    added = {n: f"{text}\t{label_of.get(n, '_')}" for n, text in words}
    heads = {n: f"{text.rstrip()} {PLUS_COLUMN}" for n, text in _texts(lines) if text.startswith(GLOBAL_COLUMNS)}
    return _written(lines, added | heads)


def _texts(lines: Sequence[Line]) -> list[tuple[int, str]]:
    return [(line.number, line.text) for line in lines]


def _with_label(text: str, names: Sequence[str], column: str, label: str) -> str:
    fields = text.split("\t")
    key = misc_key(column)
    index = names.index("misc" if key else column)
    fields[index] = label if key is None else _with_attribute(fields[index], key, label)
    return "\t".join(fields)


def _with_attribute(misc: str, key: str, label: str) -> str:
    """MISC with `KEY=...` in the place of an earlier one, else at its end; `|` separates and is escaped as in UD."""
    attributes = [] if misc == "_" else misc.split("|")
    labelled = f"{key}={label}".replace("|", "\\p")
    earlier = (index for index, attribute in enumerate(attributes) if attribute.startswith(f"{key}="))
    index = next(earlier, len(attributes))
    attributes[index : index + 1] = [labelled]
    return "|".join(attributes)


# --- columns ------------------------------------------------------------------------------------------------------


def render_columns(lines: Sequence[Line], numbers: Sequence[Sequence[int]], index: int | None, labels: Labels) -> bytes:
    """Each word's label in the column of that index, else (None) as one more column; separators stay as they are."""
    label_of = _by_line(numbers, labels)
    texts = {line.number: line.text for line in lines}
    return _written(lines, {number: _with_column(texts[number], index, label_of[number]) for number in label_of})


def _with_column(text: str, index: int | None, label: str) -> str:
    tabs = "\t" in text
    if index is None:
        blanks = not tabs and " " in text.strip(" ")
        return f"{text.rstrip(' ')} {label}" if blanks else f"{text}\t{label}"
    fields = list(re.finditer("[^\t]*" if tabs else "[^ ]+", text))
    fields = [field for field in fields if not tabs or field.start() == 0 or text[field.start() - 1] == "\t"]
    return text[: fields[index].start()] + label + text[fields[index].end() :]


# --- rows with names ----------------------------------------------------------------------------------------------


def render_tsv(lines: Sequence[Line], numbers: Sequence[int], column: str, labels: Sequence[str]) -> bytes:
    """Each row's label in the column that the header names so, else as one more column."""
    header = lines[0].text.split("\t")
    label_of = dict(zip(numbers, labels, strict=True))
    replaced: dict[int, str] = {}
    if column not in header:
        replaced[lines[0].number] = f"{lines[0].text}\t{column}"
    for line in lines[1:]:
        if line.number not in label_of:
            continue
        fields = line.text.split("\t")
        index = header.index(column) if column in header else len(fields)
        fields[index : index + 1] = [label_of[line.number]]
        replaced[line.number] = "\t".join(fields)
    return _written(lines, replaced)


def render_jsonl(lines: Sequence[Line], numbers: Sequence[int], key: str, values: Sequence[Any]) -> bytes:
    """Each object with its label, or its words' labels, under the key."""
    texts = {line.number: line.text for line in lines}
    for number in numbers[:1]:
        _refuse_inner(key, json.loads(texts[number]))
    replaced = {
        number: json_text(json.dumps({**json.loads(texts[number]), key: value}, ensure_ascii=False))
        for number, value in zip(numbers, values, strict=True)
    }
    return _written(lines, replaced)


def _refuse_inner(column: str, columns: Collection[str]) -> None:
    """Raise UsageError for a column within another: beside it, the answers that it holds would go on."""
    outer = column.partition(".")[0]
    if column not in columns and outer != column and outer in columns:
        found = f"{column!r}, which is inside {outer!r}"
        raise UsageError(f"--columns: found {found}, accepted a column of its own for the answers, as in answer=NAME")


def render_parquet(path: Path, column: str, values: Sequence[Any], type_: pa.DataType) -> bytes:
    """The file with the answers, of that type, in the column, new or in the place of one of that name."""
    table = pq.read_table(path)
    _refuse_inner(column, table.column_names)
    array = pa.array(values, type_)
    if column in table.column_names:
        table = table.set_column(table.column_names.index(column), column, array)
    else:
        table = table.append_column(column, array)
    # What `datasets` wrote of the columns' types (names of a ClassLabel) would no longer be true.
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"huggingface"}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata or None), sink)
    return sink.getvalue()
