"""Hundreds of damaged data files: each is read as rows that make sense, or refused in one line that names the file.

What changes nothing (a byte order mark, carriage returns, blank lines at the end) must be read as if it were not there.
"""

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapter_stilts.errors import StiltsError
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.data import load_split

SEEDS = range(60)
TAGS = ("NOUN", "VERB", "ADP", "X")
CLASSES = ("good", "bad", "neither")
WORDS = ("Haus", "的", "#tag", "a", "gehört", "ไทย", "3,5", "'", "שלום", "e\u0301", "-")
NO_LABELS = ("", " ", "_", "-1", "-100", "nan", "NaN", '"NOUN"', "NOUN ", " NOUN")
BYTES = (
    b"\t",
    b"\n",
    b"\r",
    b"\x00",
    b"\xff\xfe",
    b'"',
    b"# ",
    b"_",
    b"  ",
    b"{",
    b"[[[[",
    b"\xe2\x80\xa8",
    b"9" * 5000,
)

Rows = dict[str, list[Any]]


def tagging_rows(chance: random.Random) -> Rows:
    tokens = [[chance.choice(WORDS) for _ in range(chance.randint(1, 5))] for _ in range(6)]
    return {"tokens": tokens, "labels": [[chance.choice(TAGS) for _ in sentence] for sentence in tokens]}


def classification_rows(chance: random.Random) -> Rows:
    texts = [" ".join(chance.choice(WORDS) for _ in range(chance.randint(2, 6))) for _ in range(6)]
    return {"text": texts, "label": [CLASSES[index % len(CLASSES)] for index in range(6)]}


def as_conllu(rows: Rows) -> bytes:
    blocks = []
    for tokens, labels in zip(rows["tokens"], rows["labels"], strict=True):
        lines = [
            "\t".join([str(number), token, "_", label, "_", "_", "0", "root", "_", "_"])
            for number, (token, label) in enumerate(zip(tokens, labels, strict=True), 1)
        ]
        blocks.append("# text = " + " ".join(tokens) + "\n" + "".join(f"{line}\n" for line in lines))
    return ("\n".join(blocks) + "\n").encode()


def as_conll(rows: Rows) -> bytes:
    blocks = [
        "".join(f"{token}\t{label}\n" for token, label in zip(tokens, labels, strict=True))
        for tokens, labels in zip(rows["tokens"], rows["labels"], strict=True)
    ]
    return ("\n".join(blocks) + "\n").encode()


def as_tsv(rows: Rows) -> bytes:
    lines = ["\t".join(rows), *("\t".join(row) for row in zip(*rows.values(), strict=True))]
    return "".join(f"{line}\n" for line in lines).encode()


def as_jsonl(rows: Rows) -> bytes:
    items = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items).encode()


def as_parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(rows), sink)
    return sink.getvalue()


FORMATS: dict[str, tuple[Callable[[random.Random], Rows], Callable[[Rows], bytes], str]] = {
    "conllu": (tagging_rows, as_conllu, "{tokens: form, labels: upos}"),
    "conll": (tagging_rows, as_conll, "{tokens: 0, labels: last}"),
    "tsv": (classification_rows, as_tsv, "{text: text, label: label}"),
    "jsonl": (classification_rows, as_jsonl, "{text: text, label: label}"),
    "parquet": (tagging_rows, as_parquet, "{tokens: tokens, labels: labels}"),
}
TEXT_FORMATS = [name for name in FORMATS if name != "parquet"]
YAML = """\
name: mine
version: 1
kind: {kind}
role: target
knowledge: syntactic
granularity: token
description: words
licence: none
citation: none
metrics: [accuracy]
selection_metric: accuracy
labels: open
data:
  format: {format}
  columns: {columns}
  languages:
    en: {{train: train.{format}}}
"""


pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("isolated_cache")]


def read(folder: Path, file_format: str, content: bytes) -> Rows:
    """The rows of a train file with that content."""
    make_rows, _, columns = FORMATS[file_format]
    kind = "tagging" if make_rows is tagging_rows else "classification"
    (folder / f"train.{file_format}").write_bytes(content)
    path = folder / "mine.yaml"
    path.write_text(YAML.format(kind=kind, format=file_format, columns=columns), encoding="utf-8")
    return load_split(find_task(str(path)), "en", "train", None).columns


def assert_rows_or_one_line(folder: Path, file_format: str, content: bytes) -> None:
    complaint = ""
    try:
        rows = read(folder, file_format, content)
    except StiltsError as error:
        complaint = str(error)
    if not complaint:
        assert_sensible(rows)
        return
    assert f"train.{file_format}" in complaint, complaint
    assert len(complaint.splitlines()) == 1, complaint
    assert len(complaint) < 2_000


def assert_sensible(rows: Rows) -> None:
    """Texts and labels, as many of one as of the other, and no label that stands for none."""
    texts, labels = (rows[name] for name in (("tokens", "labels") if "tokens" in rows else ("text", "label")))
    assert texts
    assert len(texts) == len(labels)
    if "tokens" in rows:
        assert [len(sentence) for sentence in texts] == [len(sentence) for sentence in labels]
        texts, labels = ([item for sentence in column for item in sentence] for column in (texts, labels))
    assert all(isinstance(text, str) for text in texts)
    for label in labels:
        assert isinstance(label, str)
        assert label == label.strip(), label
        assert label not in ("", "_", "-1", "-100")
        assert label.lower() != "nan"
        assert not (len(label) > 1 and label[0] == label[-1] == '"'), label


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_whole_file_is_read_as_it_was_written(tmp_path: Path, file_format: str) -> None:
    make_rows, write, _ = FORMATS[file_format]
    for seed in SEEDS:
        rows = make_rows(random.Random(seed))
        assert read(tmp_path, file_format, write(rows)) == rows


@pytest.mark.parametrize("file_format", TEXT_FORMATS)
def test_what_changes_nothing_changes_nothing(tmp_path: Path, file_format: str) -> None:
    make_rows, write, _ = FORMATS[file_format]
    rows = make_rows(random.Random(1))
    content = write(rows)
    variants = [b"\xef\xbb\xbf" + content, content.replace(b"\n", b"\r\n"), content + b"\n\n", content.rstrip(b"\n")]
    if make_rows is tagging_rows:
        variants += [content.replace(b"\n\n", b"\n\t\n"), content.replace(b"\n\n", b"\n\n\n"), b"\n" + content]
    for variant in variants:
        assert read(tmp_path, file_format, variant) == rows, variant[:80]


@pytest.mark.parametrize("file_format", FORMATS)
def test_damaged_bytes(tmp_path: Path, file_format: str) -> None:
    make_rows, write, _ = FORMATS[file_format]
    for seed in SEEDS:
        chance = random.Random(seed)
        content = write(make_rows(chance))
        for _ in range(chance.randint(1, 3)):
            at, length = chance.randrange(len(content)), chance.randint(0, 6)
            content = content[:at] + chance.choice((b"", *BYTES)) + content[at + length :]
        assert_rows_or_one_line(tmp_path, file_format, content)


@pytest.mark.parametrize("file_format", TEXT_FORMATS)
def test_shuffled_lines(tmp_path: Path, file_format: str) -> None:
    make_rows, write, _ = FORMATS[file_format]
    for seed in SEEDS:
        chance = random.Random(seed)
        lines = write(make_rows(chance)).split(b"\n")
        first, second = (chance.randrange(len(lines)) for _ in range(2))
        change = chance.choice(("double", "drop", "swap", "join", "cut", "blank"))
        if change == "double":
            lines.insert(second, lines[first])
        elif change == "drop":
            del lines[first]
        elif change == "swap":
            lines[first], lines[second] = lines[second], lines[first]
        elif change == "join":
            lines[first : first + 2] = [b" ".join(lines[first : first + 2])]
        elif change == "cut":
            lines[first] = lines[first][: len(lines[first]) // 2]
        else:
            lines[first] = lines[first].replace(b"\t", b" ")
        assert_rows_or_one_line(tmp_path, file_format, b"\n".join(lines))


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("no_label", NO_LABELS)
def test_a_label_that_is_none(tmp_path: Path, file_format: str, no_label: str) -> None:
    make_rows, write, _ = FORMATS[file_format]
    rows = make_rows(random.Random(3))
    key = "labels" if "labels" in rows else "label"
    if key == "labels":
        rows[key][2][0] = no_label
    else:
        rows[key][2] = no_label
    assert_rows_or_one_line(tmp_path, file_format, write(rows))


@pytest.mark.parametrize("value", [None, float("nan"), True, 7, 1.5, [], ["a", "b"], {"a": 1}, "\ud800"])
@pytest.mark.parametrize("key", ["text", "label"])
def test_json_values_of_another_type(tmp_path: Path, key: str, value: Any) -> None:
    rows = classification_rows(random.Random(5))
    rows[key][1] = value
    items = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
    content = "".join(json.dumps(item) + "\n" for item in items).encode()
    if value in (True, 7, 1.5):
        assert_rows_or_one_line(tmp_path, "jsonl", content)
    else:
        with pytest.raises(StiltsError, match=r"train\.jsonl:2: "):
            read(tmp_path, "jsonl", content)
