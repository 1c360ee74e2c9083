"""Which format a data file has: from its name, else from what its lines look like, else nobody knows and it is said so.

Words and labels look like text. A file that may be either is refused with the option that decides: labels read as
words give predictions that look right and are not.
"""

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, get_args

from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.tasks.conllu import CONLLU_COLUMNS, misc_key

FileFormat = Literal["conllu", "conllup", "conll", "tsv", "jsonl", "parquet", "text"]
FORMATS: tuple[str, ...] = get_args(FileFormat)
WORD_FORMATS = ("conllu", "conllup", "conll", "jsonl", "parquet", "text")
TEXT_FORMATS = ("tsv", "jsonl", "parquet", "text")
ROW_FORMATS = ("tsv", "jsonl", "parquet")
GLOBAL_COLUMNS = "# global.columns ="
# https://universaldependencies.org/u/pos/
UPOS_TAGS = (
    "ADJ",
    "ADP",
    "ADV",
    "AUX",
    "CCONJ",
    "DET",
    "INTJ",
    "NOUN",
    "NUM",
    "PART",
    "PRON",
    "PROPN",
    "PUNCT",
    "SCONJ",
    "SYM",
    "VERB",
    "X",
)

_SUFFIXES = {
    ".conllu": "conllu",
    ".conll-u": "conllu",
    ".conllup": "conllup",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_UNREADABLE = {
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive or an office document",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"%PDF": "a PDF document",
}
_IDENTIFIER = re.compile(r"0\.1|1|1-[0-9]+")
_SPAN_TAG = re.compile(r"O|[BIESLUM]-.*[^\W\d_].*")
_NAME = re.compile(r"[^\W\d]\w*")
# What stands in a column of labels that has none yet; no sentence ends with it.
_PLACEHOLDERS = ("_", "-")
# So many lines of one width are no chance; fewer are, in a small file of one's own.
_ALIKE = 8


@dataclass(frozen=True)
class Line:
    """One line: its number, from 1, its text, and what ended it."""

    number: int
    text: str
    end: str

    @property
    def blank(self) -> bool:
        return not self.text.strip()


def is_parquet(path: Path) -> bool:
    """Whether a file is there that begins as Parquet does."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False


def read_bytes(path: Path) -> bytes:
    """The file's content. Raises UsageError for what is no readable file, DataError for what is no text or Parquet."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: found {(error.strerror or str(error)).lower()}, accepted a readable file") from None
    for start, what in _UNREADABLE.items():
        if raw.startswith(start):
            raise DataError(f"{path}:1: found {what}, accepted text in UTF-8, or Parquet")
    return raw


def decode_lines(path: Path, raw: bytes) -> list[Line]:
    """The lines of a UTF-8 text, without a byte order mark. A line feed ends one, with or without a carriage return
    before it; in a file without any line feed a carriage return does. Raises DataError for other bytes."""
    end = b"\n" if b"\n" in raw else b"\r"
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        number = raw.count(end, 0, error.start) + 1
        raise DataError(f"{path}:{number}: found bytes that are not UTF-8 ({error.reason}), accepted UTF-8") from None
    parts = text.split(end.decode())
    lines = []
    for number, part in enumerate(parts, 1):
        body = part.removesuffix("\r")
        ended = part[len(body) :] + (end.decode() if number < len(parts) else "")
        if body or ended:
            lines.append(Line(number, body, ended))
    return lines


def format_of_words(path: Path, raw: bytes, labels: Collection[str] = ()) -> str:
    """The format of a file of words. `labels`: what a last column may hold, beside tags of spans and of UPOS.

    Raises UsageError, with the option that decides, where the file may be of one format or another.
    """
    return _format_of(path, raw, WORD_FORMATS, "labels of words", lambda lines: _words_format(path, raw, lines, labels))


def format_of_texts(path: Path, raw: bytes, texts: Collection[str] = ()) -> str:
    """The format of a file of texts. `texts`: names of text columns in a header. Raises as `format_of_words` does."""
    return _format_of(path, raw, TEXT_FORMATS, "labels of texts", lambda lines: _texts_format(path, lines, texts))


def format_of_rows(path: Path, raw: bytes) -> str:
    """The format of a file of rows with several named columns. Raises UsageError for plain text."""

    def of_lines(lines: Sequence[Line]) -> str:
        return "tsv" if lines and "\t" in lines[0].text else "text"

    return _format_of(path, raw, ROW_FORMATS, "rows of named columns", of_lines)


def _format_of(
    path: Path, raw: bytes, accepted: Sequence[str], purpose: str, of_lines: Callable[[Sequence[Line]], str]
) -> str:
    if raw.startswith(b"PAR1"):
        return "parquet"
    if path.suffix.lower() == ".csv":
        or_text = ", or --format text" if "text" in accepted else ""
        raise UsageError(f"{path}: found a .csv file, accepted tabs between columns (.tsv){or_text}")
    file_format = _named_format(path, raw)
    lines = [line for line in decode_lines(path, raw) if not line.blank] if file_format is None else []
    file_format = file_format or _structured(path, lines) or of_lines(lines)
    if file_format not in accepted:
        raise UsageError(
            f"{path}: found {_DESCRIBED.get(file_format, file_format)}, accepted {', '.join(accepted)} for {purpose} "
            "(--format, where this is one of them)"
        )
    return file_format


def _named_format(path: Path, raw: bytes) -> str | None:
    """What the name says; a CoNLL-U file whose first line names its columns is CoNLL-U Plus."""
    named = _SUFFIXES.get(path.suffix.lower())
    return "conllup" if named == "conllu" and raw.startswith(GLOBAL_COLUMNS.encode()) else named


def table_format_of(path: Path, raw: bytes, names: Collection[str]) -> str:
    """The format of annotated data, words or texts: all but `text`. `names`: what columns are called in a header.

    Raises UsageError where the lines are of no such format, or may be of several.
    """
    if raw.startswith(b"PAR1"):
        return "parquet"
    if (named := _named_format(path, raw)) is not None:
        return named
    lines = [line for line in decode_lines(path, raw) if not line.blank]
    file_format = _structured(path, lines)
    if file_format is None and lines and len(header := lines[0].text.split("\t")) > 1 and set(header) & set(names):
        file_format = "tsv"
    file_format = file_format or _words_format(path, raw, lines, ())
    if file_format == "text":
        accepted = ", ".join(FORMATS[:-1])
        raise UsageError(f"{path}: found plain text, or a format that is not known, accepted with --format: {accepted}")
    return file_format


_DESCRIBED = {"conllu": "CoNLL-U", "conllup": "CoNLL-U Plus", "conll": "columns of words and labels"}


def _structured(path: Path, lines: Sequence[Line]) -> str | None:
    """CoNLL-U, CoNLL-U Plus or JSON lines, which look like nothing else."""
    if not lines:
        return None
    first = lines[0].text
    if first.startswith(GLOBAL_COLUMNS):
        return "conllup"
    if first.lstrip().startswith("{") and _is_json(first, dict):
        return "jsonl"
    if first.lstrip().startswith(("[", "{")) and _is_json("\n".join(line.text for line in lines), (dict, list)):
        raise UsageError(f"{path}: found one JSON value, accepted JSON lines: an object a line")
    row = next((line.text.split("\t") for line in lines if not line.text.startswith("#")), [])
    return "conllu" if len(row) == len(CONLLU_COLUMNS) and _IDENTIFIER.fullmatch(row[0]) else None


def _is_json(text: str, types: type | tuple[type, ...]) -> bool:
    try:
        return isinstance(json.loads(text), types)
    except (ValueError, RecursionError):
        return False


# --- words or text? -----------------------------------------------------------------------------------------------


def _words_format(path: Path, raw: bytes, lines: Sequence[Line], labels: Collection[str]) -> str:
    """Column data (`conll`) or a sentence a line (`text`)."""
    texts = [line.text for line in lines if not line.text.startswith(("#", "-DOCSTART-"))]
    rows = [text.split("\t") if "\t" in text else text.split() for text in texts]
    if not rows:
        return "text"
    widths = {len(row) for row in rows}
    tabs = sum("\t" in text for text in texts)
    tags = {*UPOS_TAGS, *_PLACEHOLDERS} | {label for label in labels if any(character.isalpha() for character in label)}
    tagged = sum(len(row) > 1 and (row[-1] in tags or is_span_tag(row[-1])) for row in rows)
    if 2 * tagged >= len(rows):
        return "conll"
    if 2 * tabs >= len(rows):
        if len(widths) == 1 and not _hold_texts(rows):
            return "conll"
        _refuse(path, "tabs in lines that are not columns of words and labels", "text (a sentence a line)")
    if widths == {1} and len(rows) > 1:
        one = "conll (words below one another, a blank line between sentences) or text (each line a sentence)"
        _refuse(
            path, "lines of one word each", f"{one}; text without blanks between its words is to be segmented first"
        )
    if len(widths) == 1 and tabs == 0 and _like_columns(raw, rows):
        width = widths.pop()
        _refuse(path, f"lines of {width} words each", "conll (columns of words and labels) or text (a sentence a line)")
    return "text"


def is_span_tag(label: str) -> bool:
    """O, or a tag of IOB, BIOES, BILOU or BMES."""
    return _SPAN_TAG.fullmatch(label) is not None


def _hold_texts(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a column holds texts of several words in most rows: no column of words or labels does."""
    return any(2 * sum(" " in row[index].strip() for row in rows) > len(rows) for index in range(len(rows[0])))


def _like_columns(raw: bytes, rows: Sequence[Sequence[str]]) -> bool:
    """Whether rows of one width may well be columns: blank lines between groups of rows, or many rows, or a last column
    that repeats itself."""
    last = [row[-1] for row in rows if any(character.isalnum() for character in row[-1])]
    if 2 * len(last) < len(rows):  # sentences end with a full stop, columns of labels do not
        return False
    groups = re.split(rb"\r?\n[ \t]*\r?\n", raw.strip())
    grouped = len(groups) > 1 and any(b"\n" in group for group in groups)
    return grouped or len(rows) >= _ALIKE or (len(rows) >= _ALIKE // 2 and 2 * len(set(last)) <= len(rows))


# --- texts --------------------------------------------------------------------------------------------------------


def _texts_format(path: Path, lines: Sequence[Line], texts: Collection[str]) -> str:
    """With a header line (`tsv`), or a text a line (`text`)."""
    if not lines:
        return "text"
    header = lines[0].text.split("\t")
    if texts and set(texts) <= set(header):
        return "tsv"
    others = [line.text.split("\t") for line in lines[1:]]
    alike = [row for row in others if len(row) == len(header)]
    names = all(_NAME.fullmatch(name) for name in header) and len(set(header)) == len(header)
    if len(header) > 1 and names and alike and _hold_texts(alike):
        columns = ",".join(f"{role}={name}" for role, name in zip(("text", "text_pair"), header, strict=False))
        _refuse(
            path,
            f"a first line that looks like a header ({', '.join(header)})",
            f"tsv with the names of its columns (such as --columns {columns}) or text (it is a text too)",
        )
    return "text"


def checked_column(role: str, name: str, file_format: str) -> str | int:
    """A column as it was typed after --columns. Raises UsageError where files of that format have no such columns."""
    if file_format == "conll":
        if name.isdecimal() or name == "last":
            return int(name) if name.isdecimal() else name
        raise UsageError(f"--columns {role}: found {name!r}, accepted the number of a column, from 0, or last")
    if file_format == "conllu" and name not in CONLLU_COLUMNS and misc_key(name) is None:
        raise UsageError(f"--columns {role}: found {name!r}, accepted {', '.join(CONLLU_COLUMNS)} or misc.KEY")
    return name


def _refuse(path: Path, problem: str, accepted: str) -> NoReturn:
    raise UsageError(f"{path}: found {problem}, accepted with --format {accepted}")
