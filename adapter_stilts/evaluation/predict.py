"""Labels for a user's own file: plain text, CoNLL-U, or one text a line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.evaluation.zero_shot import load_run, require_labels
from adapter_stilts.paths import mirror_dir
from adapter_stilts.plain_text import field
from adapter_stilts.progress import Reporter, progress
from adapter_stilts.runs.bundle import Manifest
from adapter_stilts.runs.record import Record
from adapter_stilts.runs.store import Run
from adapter_stilts.schema import CONLLU_COLUMNS
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.readers import read_conllu
from adapter_stilts.training.device import default_device
from adapter_stilts.training.inference import predict_labels

# Open classes, closed classes and others of https://universaldependencies.org/u/pos/
UPOS = {"ADJ", "ADV", "INTJ", "NOUN", "PROPN", "VERB"}
UPOS |= {"ADP", "AUX", "CCONJ", "DET", "NUM", "PART", "PRON", "SCONJ", "PUNCT", "SYM", "X"}
# Examples that are encoded and predicted at a time: a large file never stands encoded in memory as a whole.
PORTION = 2_000
_MISC_KEY = "Label"


@dataclass(frozen=True)
class Document:
    """A file to label: `columns` as the kind encodes them, and `render`, which puts the labels of every example's units
    into the text that is given back."""

    columns: dict[str, list[Any]]
    render: Callable[[Sequence[Sequence[str]]], str]


def predict_file(run: Run, path: Path, *, mirror: Path | None = None, device: str | None = None) -> str:
    """The file with the run's labels, in the order of the input, whatever the length of its sentences.

    A tagging run reads CoNLL-U (a name in .conllu or .conll-u, or a first line that looks like it), which is given back
    with every line as it was but for the label of each word: in UPOS where all labels are UPOS tags, in DEPREL where
    the run was trained on that column (HEAD stays), else as `Label=...` in MISC. Anything else is plain text, one
    sentence a line, words separated by blanks (text without blanks, such as Chinese, Japanese or Thai, is to be
    segmented first); its output is `word<TAB>label` a line and a blank line between sentences. A classification run
    reads a text a line, or `text<TAB>text_pair` if it was trained on pairs; its output is `label<TAB>line`. Blank lines
    produce nothing.

    Raises UsageError where there is no such file, DataError for a malformed line (file and line) and for a file
    without a sentence, StiltsError for a run whose weights are damaged or were not kept.
    """
    require_labels(run)
    mirror = mirror_dir(mirror)
    document = read_document(run.record, path)
    count = len(next(iter(document.columns.values())))
    model, manifest, backbone = load_run(run, mirror, device or default_device())
    labels: list[list[str]] = []
    with progress(f"{run.name} {path.name}", count, "examples") as reporter:
        for first in range(0, count, PORTION):
            columns = {name: values[first : first + PORTION] for name, values in document.columns.items()}
            labels += _predict(model, manifest, encode_texts(columns, manifest, backbone.tokenizer), reporter)
    return document.render([[field(label) for label in own] for own in labels])


def _predict(model: Any, manifest: Manifest, split: EncodedSplit, reporter: Reporter) -> list[list[str]]:
    found = predict_labels(
        model, manifest.head, split, np.arange(split.examples), lambda tokens: reporter.advance(0, tokens=tokens)
    )
    reporter.advance(split.examples)
    return found.labels


def encode_texts(columns: dict[str, list[Any]], manifest: Manifest, tokenizer: Any) -> EncodedSplit:
    """Texts without gold labels, encoded in memory as the run's training data were."""
    sequences = list(find_kind(manifest.kind).encode(columns, tokenizer, manifest.word_piece))
    return EncodedSplit(
        language="",
        split="",
        sha256="",
        source="",
        revision=None,
        examples=len(next(iter(columns.values()))),
        label_names=manifest.labels,
        trained=len(manifest.labels),
        example=np.array([own.example for own in sequences]),
        ids=_flat(own.input_ids for own in sequences),
        id_offsets=_offsets(len(own.input_ids) for own in sequences),
        starts=_flat(own.starts for own in sequences),
        ends=_flat(own.ends for own in sequences),
        labels=np.empty(0, dtype=np.int64),
        unit_offsets=_offsets(len(own.starts) for own in sequences),
    )


def _flat(parts: Iterable[Sequence[int]]) -> np.ndarray:
    return np.fromiter((number for part in parts for number in part), dtype=np.int32)


def _offsets(lengths: Iterable[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(list(lengths))]).astype(np.int64)


# --- what the file holds ------------------------------------------------------------------------------------------


def read_document(record: Record, path: Path) -> Document:
    """The file as the run's kind reads it; see `predict_file` for forms and errors."""
    lines = _read_lines(path)
    if not find_kind(record.task.kind).per_word:
        document = _texts(path, lines, "text_pair" in trained_columns(record))
    elif path.suffix in (".conllu", ".conll-u") or _looks_like_conllu(lines):
        document = _conllu(path, lines, label_column(record))
    else:
        document = _plain(lines)
    if not next(iter(document.columns.values())):
        raise DataError(f"{path}: found nothing to label, accepted one or more sentences")
    return document


def label_column(record: Record) -> str:
    """The CoNLL-U column that a tagging run's labels belong to: `upos`, `deprel`, or `misc` for all others."""
    if set(record.labels) <= UPOS:
        return "upos"
    return "deprel" if trained_columns(record)["labels"] == "deprel" else "misc"


def trained_columns(record: Record) -> dict[str, str | int]:
    """Which columns of its training data the run read, by their roles."""
    reading = next(iter(record.identity["tasks"][0]["train"].values()))["reading"]
    return reading["language"].get("columns") or reading["data"]["columns"]


def _read_lines(path: Path) -> list[str]:
    """The lines without their line feed. A carriage return stays: CoNLL-U is given back as it was."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: found {(error.strerror or str(error)).lower()}, accepted a readable file") from None
    try:
        return raw.decode("utf-8").removeprefix("\ufeff").split("\n")
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{number}: found bytes that are not UTF-8 ({error.reason}), accepted UTF-8") from None


def _looks_like_conllu(lines: Sequence[str]) -> bool:
    """Whether the first line that is neither blank nor a comment has CoNLL-U's ten columns."""
    first = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    return first.count("\t") == len(CONLLU_COLUMNS) - 1


def _plain(lines: Sequence[str]) -> Document:
    sentences = [words for line in lines if (words := line.split())]

    def render(labels: Sequence[Sequence[str]]) -> str:
        blocks = (
            "".join(f"{word}\t{label}\n" for word, label in zip(words, own, strict=True))
            for words, own in zip(sentences, labels, strict=True)
        )
        return "\n".join(blocks)

    return Document({"tokens": sentences}, render)


def _texts(path: Path, lines: Sequence[str], pairs: bool) -> Document:
    kept = [(number, line.removesuffix("\r")) for number, line in enumerate(lines, 1) if line.strip()]
    accepted = ("text", "text_pair") if pairs else ("text",)
    rows = [line.split("\t") for _, line in kept]
    for (number, _), row in zip(kept, rows, strict=True):
        if len(row) != len(accepted):
            form = f"{len(accepted)} ({'<TAB>'.join(accepted)})"
            raise DataError(f"{path}:{number}: found {len(row)} columns, accepted {form}")

    def render(labels: Sequence[Sequence[str]]) -> str:
        return "".join(f"{label}\t{line}\n" for (label,), (_, line) in zip(labels, kept, strict=True))

    return Document({name: [row[place] for row in rows] for place, name in enumerate(accepted)}, render)


def _conllu(path: Path, lines: Sequence[str], column: str) -> Document:
    rows = read_conllu(path, ["form"])
    numbers = [number for sentence in rows.lines or () for number in sentence]  # type: ignore[union-attr]

    def render(labels: Sequence[Sequence[str]]) -> str:
        written = list(lines)
        flat = [label for own in labels for label in own]
        for number, label in zip(numbers, flat, strict=True):
            written[number - 1] = _with_label(lines[number - 1], column, label)
        return "\n".join(written)

    return Document({"tokens": rows.columns["form"]}, render)


def _with_label(line: str, column: str, label: str) -> str:
    body = line.removesuffix("\r")
    fields = body.split("\t")
    index = CONLLU_COLUMNS.index(column)
    fields[index] = _with_attribute(fields[index], label) if column == "misc" else label
    return "\t".join(fields) + line[len(body) :]


def _with_attribute(misc: str, label: str) -> str:
    """MISC with `Label=...` in the place of an earlier one, else at its end; `|` separates and is escaped as in UD."""
    attributes = [] if misc == "_" else misc.split("|")
    ours = f"{_MISC_KEY}={label}".replace("|", "\\p")
    place = next((place for place, own in enumerate(attributes) if own.startswith(f"{_MISC_KEY}=")), len(attributes))
    attributes[place : place + 1] = [ours]
    return "|".join(attributes)
