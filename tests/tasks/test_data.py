"""Rows from every source: formats agree with each other, real counts, and each kind of damage named by its place."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from adapter_stilts import paths
from adapter_stilts.errors import DataError, StiltsError, UsageError
from adapter_stilts.paths import sha256_file as real_sha256
from adapter_stilts.schema import Task
from adapter_stilts.tasks import data, files
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.data import MissingData, data_identity, load_split

TOKENS = [["Al", "geht", "\u2028", "#"], ["你", "a b"]]
TAGS = [["PROPN", "VERB", "X", "X"], ["PRON", "X"]]
HEAD = """\
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
"""
CONLLU = """\
# sent_id = 1
1-2\tAlgeht\t_\t_\t_\t_\t_\t_\t_\t_
1\tAl\tal\tPROPN\t_\t_\t0\troot\t_\t_
2\tgeht\tgeht\tVERB\t_\t_\t1\tx\t_\t_
2.1\tleer\t_\tVERB\t_\t_\t_\t_\t_\t_
3\t\u2028\t_\tX\t_\t_\t1\tx\t_\t_
4\t#\t#\tX\t_\t_\t1\tx\t_\t_

1\t你\t_\tPRON\t_\t_\t0\troot\t_\t_
2\ta b\t_\tX\t_\t_\t1\tx\t_\t_
"""
CONLL = "-DOCSTART-\tO\n\n" + "\n".join(
    "".join(f"{token}\t{tag}\n" for token, tag in zip(*sentence, strict=True))
    for sentence in zip(TOKENS, TAGS, strict=True)
)
NAMES = ["PRON", "PROPN", "VERB", "X"]


pytestmark = pytest.mark.usefixtures("isolated_cache")


def task_of(folder: Path, body: str, kind: str = "tagging") -> Task:
    path = folder / "mine.yaml"
    path.write_text(HEAD.format(kind=kind) + body, encoding="utf-8")
    return find_task(str(path))


def local_task(folder: Path, file_format: str, columns: str, content: str | bytes, labels: str = "open") -> Task:
    file = folder / f"train.{file_format}"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    languages = f"  languages:\n    en: {{train: train.{file_format}}}\n"
    body = f"labels: {labels}\ndata:\n  format: {file_format}\n  columns: {columns}\n{languages}"
    return task_of(folder, body, "tagging" if "tokens" in columns else "classification")


def write_parquet(path: Path, tokens: list[list[str]], tags: list[list[str]], names: list[str] = NAMES) -> None:
    features = Features({"words": List(Value("string")), "tags": List(ClassLabel(names=names))})
    ids = [[names.index(tag) for tag in row] for row in tags]
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict({"words": tokens, "tags": ids}, features=features).to_parquet(str(path))


def parquet_bytes(folder: Path, columns: dict[str, Any]) -> bytes:
    pq.write_table(pa.table(columns), folder / "x.parquet")
    return (folder / "x.parquet").read_bytes()


# --- formats ------------------------------------------------------------------------------------------------------


def test_formats_agree(tmp_path: Path) -> None:
    jsonl = "".join(json.dumps({"words": w, "tags": t}) + "\n\n" for w, t in zip(TOKENS, TAGS, strict=True))
    write_parquet(tmp_path / "x.parquet", [*TOKENS, []], [*TAGS, []])
    read = {
        "conllu": local_task(tmp_path, "conllu", "{tokens: form, labels: upos}", CONLLU),
        "conll": local_task(tmp_path, "conll", "{tokens: 0, labels: last}", CONLL.replace("\n", "\r\n")),
        "jsonl": local_task(tmp_path, "jsonl", "{tokens: words, labels: tags}", "\ufeff" + jsonl),
        "parquet": local_task(
            tmp_path, "parquet", "{tokens: words, labels: tags}", (tmp_path / "x.parquet").read_bytes()
        ),
    }
    for file_format, task in read.items():
        assert load_split(task, "en", "train", None).columns == {"tokens": TOKENS, "labels": TAGS}, file_format
    assert load_split(read["parquet"], "en", "train", None).label_names == tuple(NAMES)
    assert load_split(read["conllu"], "en", "train", None).label_names is None


def test_blanks_separate_columns_where_there_is_no_tab(tmp_path: Path) -> None:
    task = local_task(tmp_path, "conll", "{tokens: 0, labels: last}", "the DT  B-NP\ndog NN I-NP\n\n# # O\n")
    columns = {"tokens": [["the", "dog"], ["#"]], "labels": [["B-NP", "I-NP"], ["O"]]}
    assert load_split(task, "en", "train", None).columns == columns


def test_classification_formats_agree(tmp_path: Path) -> None:
    rows = [("a \u0085b", "c", "1"), ('"q"', "", "0")]
    columns = "{text: a, text_pair: b, label: y}"
    tsv = "a\tb\ty\n" + "".join("\t".join(row) + "\n" for row in rows)
    jsonl = "".join(json.dumps({"y": int(y), "a": a, "b": b}) + "\n" for a, b, y in rows)
    table = parquet_bytes(tmp_path, {"a": [r[0] for r in rows], "b": [r[1] for r in rows], "y": [1, 0]})
    expected = {"text": ["a \u0085b", '"q"'], "text_pair": ["c", ""], "label": ["1", "0"]}
    for file_format, content in (("tsv", tsv), ("jsonl", jsonl), ("parquet", table)):
        task = local_task(tmp_path, file_format, columns, content)
        assert load_split(task, "en", "train", None).columns == expected, file_format


def test_filter_and_exclude_take_rows_by_value(tmp_path: Path) -> None:
    tsv = "a\tb\ty\n1\tx\tp\n2\tx\tq\n3\tz\tp\n4\tx\t-1\n"
    task = local_task(
        tmp_path, "tsv", "{text: a, label: y}\n  filter: {b: [x]}\n  exclude: {y: [-1]}", tsv, labels="[p, q]"
    )
    assert load_split(task, "en", "train", None).columns == {"text": ["1", "2"], "label": ["p", "q"]}


# --- damage -------------------------------------------------------------------------------------------------------

TAGGING = "{tokens: t, labels: y}"


@pytest.mark.parametrize(
    ("file_format", "columns", "content", "message"),
    [
        ("conllu", "{tokens: form, labels: upos}", "# x\n1\ta\n", ":2: found 2 columns, accepted 10"),
        (
            "conllu",
            "{tokens: form, labels: upos}",
            CONLLU.replace("4\t#", "5\t#"),
            ":7: found the word number '5', accepted 4,",
        ),
        (
            "conllu",
            "{tokens: form, labels: upos}",
            CONLLU.replace("\n\n", "\n"),
            ":8: found the word number '1', accepted 5,",
        ),
        (
            "conllu",
            "{tokens: form, labels: upos}",
            b"1\t\xff\n",
            ":1: found bytes that are not UTF-8 (invalid start byte)",
        ),
        (
            "conllu",
            "{tokens: form, labels: upos}",
            CONLLU.replace("PRON", "NOUN"),
            ":9: found the label 'NOUN', accepted PRON,",
        ),
        (
            "conllu",
            "{tokens: form, labels: upos}",
            CONLLU.replace("VERB\t_\t_\t1", "V\t_\t_\t1"),
            ":4: found the label 'V'",
        ),
        ("conll", "{tokens: 0, labels: 1}", "a X\nb\n", ":2: found 1 columns, accepted 2 as in the lines before"),
        ("conll", "{tokens: 0, labels: 2}", "a X\nb X\n", ":1: found 2 columns, accepted 3 or more"),
        ("tsv", "{text: a, label: y}", "a\ty\n1\tX\n2\n", ":3: found 1 columns, accepted 2 as in the header"),
        ("tsv", "{text: a, label: y}", "a\tz\n1\tX\n", ":1: found no column 'y', accepted one of a, z"),
        ("tsv", "{text: a, label: y}", "a\ty\n1\tX\n2\tx\n", ":3: found the label 'x', accepted PRON, PROPN, VERB, X"),
        ("tsv", "{text: a, label: y}", "", ":1: found an empty file, accepted a header line and rows"),
        ("jsonl", TAGGING, '{"t": ["a"], "y": ["X"]}\n{"t": \n', ":2: found broken JSON (Expecting value"),
        ("jsonl", TAGGING, "[1]\n", ":1: found a list, accepted one JSON object a line"),
        ("jsonl", TAGGING, '\n{"t": ["a"]}\n', ":2: found no column 'y', accepted one of t"),
        ("jsonl", TAGGING, '{"t": ["a", "b"], "y": ["X"]}\n', ":1: found 1 labels, accepted 2 (one a token)"),
        ("jsonl", TAGGING, '{"t": ["a", null], "y": ["X", "X"]}\n', ":1: t: found None, accepted text"),
        ("jsonl", TAGGING, '{"t": "a", "y": "X"}\n', ":1: found text, accepted a list of tokens and a list of labels"),
        ("jsonl", TAGGING, '{"t": ["\\ud800"], "y": ["X"]}\n', ":1: found half of a surrogate pair"),
    ],
)
def test_malformed_text(tmp_path: Path, file_format: str, columns: str, content: str | bytes, message: str) -> None:
    task = local_task(tmp_path, file_format, columns, content, labels=f"[{', '.join(NAMES)}]")
    with pytest.raises(DataError) as error:
        load_split(task, "en", "train", None)
    path = tmp_path.resolve() / f"train.{file_format}"
    assert str(error.value).removeprefix(str(path))[: len(message)] == message
    assert "\n" not in str(error.value)


def test_malformed_parquet(tmp_path: Path) -> None:
    def complaint(content: bytes, labels: str = "[X]") -> str:
        with pytest.raises(DataError) as error:
            load_split(local_task(tmp_path, "parquet", TAGGING, content, labels), "en", "train", None)
        assert "\n" not in str(error.value)
        return str(error.value).removeprefix(str(tmp_path.resolve() / "train.parquet"))

    whole = parquet_bytes(tmp_path, {"t": [["a"], ["b", "c"]], "y": [["X"], ["X", "Y"]]})
    assert complaint(whole[:-20]).startswith(": found a damaged file (")
    assert complaint(b"").startswith(": found a damaged file (")
    assert complaint(whole) == ": row 2: found the label 'Y', accepted X"
    assert complaint(whole, "null").startswith(": y: found no ClassLabel, accepted one, or `labels` in ")
    shorter = parquet_bytes(tmp_path, {"t": [["a"], ["b", "c"]], "y": [["X"], ["X"]]})
    assert complaint(shorter) == ": row 2: found 1 labels, accepted 2 (one a token)"
    assert complaint(parquet_bytes(tmp_path, {"t": [["a"]]})) == ": found no column 'y', accepted one of t"
    nothing = pa.array([[None]], pa.list_(pa.string()))
    assert complaint(parquet_bytes(tmp_path, {"t": [["a"]], "y": nothing})).startswith(
        ": row 1: y: found None, accepted text"
    )


CONLLU_COLUMNS = "{tokens: form, labels: upos}"
BLANK = (
    CONLLU.replace("\tAl\t", "\t_\t")
    .replace("\tgeht\tg", "\t_\tg")
    .replace("3\t\u2028", "3\t_")
    .replace("4\t#", "4\t_")
)


@pytest.mark.parametrize(
    ("file_format", "columns", "content", "message"),
    [
        ("conll", "{tokens: 0, labels: 1}", "\n\n", ": found no rows, accepted one or more"),
        ("tsv", "{text: a, label: y}", "a\ty\n", ": found no rows, accepted one or more"),
        ("jsonl", "{text: a, label: y}", "\n", ": found no rows, accepted one or more"),
        (
            "tsv",
            "{text: a, label: y}\n  filter: {b: [x, 1]}\n  exclude: {y: [q]}",
            "a\tb\ty\n1\tz\tp\n2\tx\tq\n",
            ": found no rows that filter: {b: [x, 1]} and exclude: {y: [q]} leaves, accepted one or more",
        ),
        (
            "jsonl",
            "{text: a, label: y}\n  filter: {b: [x]}",
            '{"a": "", "y": "p", "b": ["x"]}',
            ":1: b: found a list of 1",
        ),
        ("tsv", "{text: a, label: y}", "a\ty\n \tp\n\tq\n", ":2: found nothing but blank texts, accepted texts"),
        ("conllu", CONLLU_COLUMNS, BLANK, ":3: found '_' for every word, accepted the words of the text"),
        ("conll", "{tokens: 0, labels: 1}", "_ X\n\n_ X\n", ":1: found '_' for every word, accepted the words"),
    ],
)
def test_nothing_to_read(tmp_path: Path, file_format: str, columns: str, content: str, message: str) -> None:
    task = local_task(tmp_path, file_format, columns, content)
    with pytest.raises(DataError) as error:
        load_split(task, "en", "train", None)
    assert str(error.value).removeprefix(str(tmp_path.resolve() / f"train.{file_format}"))[: len(message)] == message


def test_an_underscore_may_be_a_word(tmp_path: Path) -> None:
    task = local_task(tmp_path, "conll", "{tokens: 0, labels: 1}", "a X\n_ Y\n\n_ X\n\n_ X\n_ X\n")
    assert load_split(task, "en", "train", None).columns["tokens"] == [["a", "_"], ["_"], ["_", "_"]]


def test_a_share_that_leaves_nothing(tmp_path: Path) -> None:
    options = "open\ndevelopment_share: 0.5"
    task = local_task(tmp_path, "tsv", "{text: a, label: y}", "a\ty\n1\tp\n", labels=options)
    with pytest.raises(DataError, match=r"^train.tsv: found 1 rows, accepted enough for a development_share of 0.5$"):
        load_split(task, "en", "train", None)


def test_rows_know_their_places(tmp_path: Path) -> None:
    path = tmp_path.resolve() / "train.conllu"
    locations = load_split(local_task(tmp_path, "conllu", CONLLU_COLUMNS, CONLLU), "en", "train", None).locations
    assert [locations.of(0), locations.of(0, 3), locations.of(1, 1)] == [f"{path}:3", f"{path}:7", f"{path}:10"]
    tsv = "a\tb\ty\n" + "".join(f"{number}\tx\tp\n" for number in range(40))
    shared = local_task(tmp_path, "tsv", "{text: a, label: y}", tsv, labels="open\ndevelopment_share: 0.1")
    development = load_split(shared, "en", "validation", None)
    lines = [development.locations.of(row) for row in range(4)]
    assert lines == [f"{tmp_path.resolve()}/train.tsv:{int(text) + 2}" for text in development.columns["text"]]


# --- repositories -------------------------------------------------------------------------------------------------

README = """\
---
configs:
- config_name: one
  data_files:
  - {split: train, path: "one/train-*"}
  - {split: test, path: ["one/test-*"]}
- config_name: other
  data_files:
  - {split: train, path: "other/train-*"}
---
# text
"""
REPOSITORY = """\
{labels}data:
  dataset: some/thing
  columns: {{tokens: words, labels: tags}}
  languages:
    en: one
    de: {{config: other, splits: {{test: train}}}}
    fr: absent
    es: {{dataset: another/thing, config: c}}
"""


def repository(mirror: Path, labels: str = "labels: open\n") -> Task:
    folder = mirror / "some" / "thing"
    write_parquet(folder / "one" / "train-00000-of-00002.parquet", TOKENS[:1], TAGS[:1])
    write_parquet(folder / "one" / "train-00001-of-00002.parquet", TOKENS[1:], TAGS[1:])
    write_parquet(folder / "one" / "test-00000-of-00001.parquet", TOKENS[1:], TAGS[1:])
    write_parquet(folder / "other" / "train-00000-of-00001.parquet", TOKENS[:1], TAGS[:1])
    (folder / "README.md").write_text(README)
    write_parquet(mirror / "another" / "thing" / "c" / "test" / "0000.parquet", TOKENS[:1], TAGS[:1])
    return task_of(mirror, REPOSITORY.format(labels=labels))


def test_repository_configs_splits_and_overrides(tmp_path: Path) -> None:
    task = repository(tmp_path)
    train = load_split(task, "en", "train", tmp_path)
    assert train.columns == {"tokens": TOKENS, "labels": TAGS}
    assert train.files == ("one/train-00000-of-00002.parquet", "one/train-00001-of-00002.parquet")
    assert (train.source, train.revision) == ("some/thing one train", None)
    assert load_split(task, "de", "test", tmp_path).columns["tokens"] == TOKENS[:1]
    without_readme = load_split(task, "es", "test", tmp_path)
    assert (without_readme.columns["tokens"], without_readme.files) == (TOKENS[:1], ("c/test/0000.parquet",))


def test_missing_data_says_what_was_looked_for(tmp_path: Path) -> None:
    task, folder = repository(tmp_path), tmp_path / "some" / "thing"
    for language, split, message in (
        ("en", "validation", f"mine: en: found no split 'validation' of config 'one' in {folder} (it has train, test)"),
        ("de", "train", f"mine: de: found no train split in {task.path}"),
        ("fr", "test", f"mine: fr: found no config 'absent' in {folder} (it has one, other)"),
        ("es", "train", "mine: es: found no file c/train-*.parquet or c/train/*.parquet in "),
    ):
        with pytest.raises(MissingData) as error:
            load_split(task, language, split, tmp_path)
        assert str(error.value)[: len(message)] == message
    with pytest.raises(UsageError, match=r"^mine: found no language 'xx' in .*mine\.yaml, accepted en, de, fr, es$"):
        load_split(task, "xx", "test", tmp_path)


def test_class_label_names_must_agree_where_the_yaml_lists_none(tmp_path: Path) -> None:
    task = repository(tmp_path, labels="")
    assert load_split(task, "en", "test", tmp_path).label_names == tuple(NAMES)
    test = tmp_path / "some" / "thing" / "one" / "test-00000-of-00001.parquet"
    write_parquet(test, TOKENS[1:], TAGS[1:], NAMES[::-1])
    with pytest.raises(DataError) as error:
        load_split(task, "en", "test", tmp_path)
    expected = "found the label names X, VERB, PROPN, PRON, accepted those of train: PRON, PROPN, VERB, X"
    assert str(error.value) == f"{test}: {expected}"


def test_broken_readme_names_its_line(tmp_path: Path) -> None:
    task = repository(tmp_path)
    readme = tmp_path / "some" / "thing" / "README.md"
    readme.write_text("---\nconfigs:\n- {config_name: [\n---\n")
    with pytest.raises(DataError, match=r"README\.md:\d: found broken metadata \(ParserError\), accepted `configs`$"):
        load_split(task, "en", "train", tmp_path)


@pytest.mark.parametrize("pattern", ["../../secret/*", "/../../secret/*", "", "a**b"])
def test_patterns_stay_in_the_repository(tmp_path: Path, pattern: str) -> None:
    task = repository(tmp_path)
    readme = tmp_path / "some" / "thing" / "README.md"
    readme.write_text(README.replace("one/train-*", pattern))
    (tmp_path / "secret").mkdir()
    shutil.copy(tmp_path / "some" / "thing" / "one" / "test-00000-of-00001.parquet", tmp_path / "secret" / "x.parquet")
    with pytest.raises(StiltsError) as error:
        load_split(task, "en", "train", tmp_path)
    assert str(error.value).startswith(f"{readme}: found the pattern '{pattern.lstrip('/')}' (")


def test_a_config_may_be_called_no(tmp_path: Path) -> None:
    task = repository(tmp_path)
    readme = tmp_path / "some" / "thing" / "README.md"
    readme.write_text(README.replace("config_name: one", "config_name: no"))
    body = task.path.read_text().replace("en: one", "en: {config: no}")
    task.path.write_text(body)
    assert load_split(find_task(str(task.path)), "en", "train", tmp_path).columns["tokens"] == TOKENS


def test_the_hub_is_read_like_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "snapshots" / "0123abcd"
    shutil.copytree(repository(tmp_path).path.parent / "some" / "thing", snapshot)
    asked: list[tuple[Any, ...]] = []

    def fake(dataset: str, repo_type: str, revision: str | None, allow_patterns: list[str], max_workers: int) -> str:
        asked.append((dataset, repo_type, revision, *allow_patterns))
        return str(snapshot)

    monkeypatch.setattr(files, "snapshot_download", fake)
    files._snapshot.cache_clear()
    task = repository(tmp_path)
    from_hub, mirrored = load_split(task, "en", "train", None), load_split(task, "en", "train", tmp_path)
    assert asked == [("some/thing", "dataset", None, "README.md"), ("some/thing", "dataset", None, "one/train-*")]
    assert (from_hub.columns, from_hub.sha256, from_hub.files) == (mirrored.columns, mirrored.sha256, mirrored.files)
    assert (from_hub.revision, from_hub.source) == ("0123abcd", "some/thing@0123abcd one train")
    (snapshot / "one" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"^mine: en: found no file one/test-\* in "):
        load_split(task, "en", "test", None)


def test_neither_mirror_nor_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> str:
        raise ConnectionError("no route\nto host")

    task = repository(tmp_path)
    monkeypatch.setattr(files, "snapshot_download", offline)
    files._snapshot.cache_clear()
    with pytest.raises(DataError) as error:
        load_split(task, "en", "test", tmp_path / "empty")
    assert str(error.value) == (
        f"some/thing: found no folder {tmp_path}/empty/some/thing, and the Hub gave ConnectionError (no route); "
        "accepted --hub-mirror DIR with DIR/some/thing, or the Hub's some/thing at revision main"
    )
    with pytest.raises(
        UsageError, match=r"^offline/pmb-4\.0\.0: found no mirror folder, accepted .* it is not on the Hub$"
    ):
        load_split(find_task("pmb_ccg"), "en", "test", None)


# --- identity and the development share ---------------------------------------------------------------------------


def test_identity_follows_the_bytes_and_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    monkeypatch.setattr(paths, "_SETTLED_NANOSECONDS", -1)  # remember at once
    monkeypatch.setattr(paths, "sha256_file", lambda path: hashed.append(path) or real_sha256(path))
    task = local_task(tmp_path, "conllu", "{tokens: form, labels: upos}", CONLLU)
    file = tmp_path / "train.conllu"
    first = data_identity(task, "en", "train", None)
    assert load_split(task, "en", "train", None).sha256 == first
    assert len(hashed) == 1
    expected = hashlib.sha256(b"null" + hashlib.sha256(CONLLU.encode()).digest()).hexdigest()
    assert first == expected
    file.write_text(CONLLU.replace("geht", "fiel"), encoding="utf-8")  # as many bytes
    os.utime(file, ns=(10**18, 10**18))
    assert data_identity(task, "en", "train", None) != first
    file.write_text(CONLLU, encoding="utf-8")
    assert data_identity(task, "en", "train", None) == first
    assert len(hashed) == 3


# sorted(numpy.random.default_rng(1).permutation(40)[:4])
DEVELOPMENT_OF_40 = ["9", "17", "23", "28"]


def test_development_share_is_a_fixed_part_of_train(tmp_path: Path) -> None:
    tsv = "a\ty\n" + "".join(f"{number}\tp\n" for number in range(40))
    whole = local_task(tmp_path, "tsv", "{text: a, label: y}", tsv)
    everything = load_split(whole, "en", "train", None)
    shared = local_task(tmp_path, "tsv", "{text: a, label: y}", tsv, labels="open\ndevelopment_share: 0.1")
    train, development = (load_split(shared, "en", split, None) for split in ("train", "validation"))
    assert development.columns["text"] == DEVELOPMENT_OF_40
    assert train.columns["text"] == [text for text in everything.columns["text"] if text not in DEVELOPMENT_OF_40]
    assert development.source == "train.tsv (the development share: 4 of 40 rows, share 0.1, seed 1)"
    assert len({everything.sha256, train.sha256, development.sha256}) == 3
    with pytest.raises(MissingData, match="found no path for the test split"):
        load_split(shared, "en", "test", None)


# --- real data ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "language", "rows"),
    [
        ("udpos", "en", (12544, 2001, 1000)),
        ("udpos", "de", (None, 500, 977)),
        ("udpos", "th", (None, 362, 363)),
        ("udpos", "lt", (None, 500, 684)),
        ("udpos", "wo", (None, None, None)),
        ("wikiann", "en", (20000, 2000, 2000)),
        ("wikiann", "th", (None, None, None)),
        ("ud_deprel", "en", (9520, 1575, 1000)),
        ("chunking", "en", (8042, 894, 2012)),
        ("pmb_ccg", "en", (7745, 1174, 1053)),
        ("pmb_semtag", "en", (7745, 1174, 1053)),
        ("snli_devtest", "en", (18166, 1500, None)),
        ("xnli", "sw", (900, 300, 1290)),
        ("mlm_text", "te", (826, 44, None)),  # 5% of 870, rounded, are the development share
    ],
)
def test_rows_of_the_mirror(hub_mirror: Path, name: str, language: str, rows: tuple[int | None, ...]) -> None:
    task = find_task(name)
    counts: list[int | None] = []
    for split in data.SPLITS:
        try:
            counts.append(len(next(iter(load_split(task, language, split, hub_mirror).columns.values()))))
        except MissingData:
            counts.append(None)
    assert tuple(counts) == rows


def test_labels_of_the_mirror(hub_mirror: Path) -> None:
    english = load_split(find_task("udpos"), "en", "train", hub_mirror)
    assert english.columns["tokens"][0][:3] == ["Al", "-", "Zaman"]
    assert english.columns["labels"][0][:3] == ["PROPN", "PUNCT", "PROPN"]
    for name in ("udpos", "wikiann", "chunking", "snli_devtest", "xnli"):
        task = find_task(name)
        assert load_split(task, "en", "train", hub_mirror).label_names == task.labels
    relations = load_split(find_task("ud_deprel"), "en", "train", hub_mirror).columns["labels"]
    seen = {label for sentence in relations for label in sentence}
    assert seen == set(find_task("ud_deprel").labels or ()) - {"clf"}  # English has no classifiers
    categories = {
        split: {c for row in load_split(find_task("pmb_ccg"), "en", split, hub_mirror).columns["labels"] for c in row}
        for split in data.SPLITS
    }
    unseen = [len(categories[split] - categories["train"]) for split in ("validation", "test")]
    assert unseen == [11, 8]  # counted once with pyarrow alone


def test_mirror_has_36_udpos_and_46_wikiann_languages_beside_english(hub_mirror: Path) -> None:
    for name, missing in (("udpos", ["wo"]), ("wikiann", ["th"])):
        task, absent = find_task(name), []
        for language in task.data.languages:
            try:
                data_identity(task, language, "test", hub_mirror)
            except MissingData:
                absent.append(language)
        assert absent == missing
