"""What a label may be, whatever the format: refused with its place, or read as what it means."""

import json
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from support.training import Workspace, make_workspace

from adapter_stilts.errors import DataError, StiltsError, UsageError
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.data import load_split
from adapter_stilts.tasks.encode import encode_split
from adapter_stilts.tasks.inventory import label_inventory
from adapter_stilts.tasks.labels import meaning, refused_by_metrics
from adapter_stilts.tasks.metrics import compute, is_span_tag

HEAD = """\
name: mine
version: 1
kind: {kind}
role: both
knowledge: syntactic
granularity: token
description: words
licence: none
citation: none
metrics: [{metrics}]
selection_metric: {selection}
labels: {labels}
data:
  format: {format}
  columns: {columns}
  languages: {{en: {{{splits}}}}}
"""
COLUMNS = {
    "conll": "{tokens: 0, labels: last}",
    "conllu": "{tokens: form, labels: upos}",
    "tsv": "{text: text, label: label}",
    "jsonl": "{text: text, label: label}",
    "parquet": "{text: text, label: label}",
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    return make_workspace(tmp_path / "workspace", monkeypatch)


def write(path: Path, labels: list[object]) -> None:
    """A file with the words w0, w1, ... and these labels, in the format of its name."""
    words = [f"w{number}" for number in range(len(labels))]
    rows = list(zip(words, labels, strict=True))
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": words, "label": labels}), path)
        return
    text = {
        ".conll": "".join(f"{word}\t{label}\n" for word, label in rows),
        ".conllu": "".join(
            f"{number}\t{word}\t_\t{label}\t_\t_\t0\troot\t_\t_\n" for number, (word, label) in enumerate(rows, 1)
        ),
        ".tsv": "text\tlabel\n" + "".join(f"{word}\t{label}\n" for word, label in rows),
        ".jsonl": "".join(json.dumps({"text": word, "label": label}) + "\n" for word, label in rows),
    }[path.suffix]
    path.write_text(text, encoding="utf-8")


def task_of(
    folder: Path, form: str, *, labels: str = "open", metrics: str = "accuracy", **splits: list[object]
) -> Task:
    """A task whose splits hold these labels."""
    for split, split_labels in splits.items():
        write(folder / f"{split}.{form}", split_labels)
    kind = "tagging" if form.startswith("conll") else "classification"
    paths = ", ".join(f"{split}: {split}.{form}" for split in splits)
    selection = "accuracy" if "accuracy" in metrics else "f1"
    fields = {"kind": kind, "metrics": metrics, "selection": selection, "labels": labels}
    (folder / "mine.yaml").write_text(HEAD.format(**fields, format=form, columns=COLUMNS[form], splits=paths))
    return find_task(str(folder / "mine.yaml"))


def complaint(task: Task, split: str = "train") -> str:
    with pytest.raises(DataError) as error:
        load_split(task, "en", split, None)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{task.path.parent}/")


# Line of the second row: tables have a header line, Parquet counts rows.
SECOND = {"conll": ":2", "conllu": ":2", "tsv": ":3", "jsonl": ":2", "parquet": ": row 2"}


@pytest.mark.parametrize("form", COLUMNS)
@pytest.mark.parametrize("label", ["_", " ", "nan", "-1", "-100", '"X"', "'X'", "X\u200b", "X\x01"])
def test_what_is_no_label(tmp_path: Path, form: str, label: str) -> None:
    error = complaint(task_of(tmp_path, form, train=["X", label, "Y"]))
    assert error.startswith(f"train.{form}{SECOND[form]}: found the label "), error


@pytest.mark.parametrize("form", COLUMNS)
def test_a_list_in_the_yaml_says_that_they_are_labels(tmp_path: Path, form: str) -> None:
    task = task_of(tmp_path, form, labels='["_", "-1", "pos", "Pos"]', train=["_", "-1", "pos ", "Pos"])
    column = load_split(task, "en", "train", None).columns
    labels = column["labels"][0] if "labels" in column else column["label"]
    assert labels == ["_", "-1", "pos", "Pos"]


@pytest.mark.parametrize("form", COLUMNS)
def test_blanks_around_a_label_are_no_part_of_it(tmp_path: Path, form: str) -> None:
    task = task_of(tmp_path, form, train=["X", "X ", " X", "Y\u3000"])
    assert label_inventory(task, None) == ("X", "Y")


@pytest.mark.parametrize(
    ("form", "bad", "message"),
    [
        ("jsonl", None, "train.jsonl:2: label: found None, accepted text"),
        ("jsonl", float("nan"), "train.jsonl:2: label: found nan, accepted text"),
        ("jsonl", float("inf"), "train.jsonl:2: label: found inf, accepted text"),
        ("jsonl", -1, "train.jsonl:2: found the label '-1', accepted a label"),
        ("jsonl", -100.0, "train.jsonl:2: found the label '-100.0', accepted a label"),
        ("jsonl", ["X"], "train.jsonl:2: label: found a list of 1, accepted one text a row"),
        ("jsonl", {"X": 1}, "train.jsonl:2: label: found {'X': 1}, accepted text"),
        ("parquet", None, "train.parquet: row 2: label: found None, accepted text"),
    ],
)
def test_numbers_and_others(tmp_path: Path, form: str, bad: object, message: str) -> None:
    assert complaint(task_of(tmp_path, form, train=["X", bad])).startswith(message)


@pytest.mark.parametrize(
    ("form", "labels", "message"),
    [
        ("jsonl", [1, 1.0], "train.jsonl:2: found the label '1.0', accepted '1' as at {}/train.jsonl:1"),
        ("jsonl", [True, "true"], "train.jsonl:2: found the label 'true', accepted 'True' as at {}/train.jsonl:1"),
        ("tsv", ["a", "pos", "POS"], "train.tsv:4: found the label 'POS', accepted 'pos' as at {}/train.tsv:3"),
        ("conll", ["N", "V", "n"], "train.conll:3: found the label 'n', accepted 'N' as at {}/train.conll:1"),
    ],
)
def test_two_spellings_of_a_label(tmp_path: Path, form: str, labels: list[object], message: str) -> None:
    error = complaint(task_of(tmp_path, form, train=labels))
    assert error == message.format(tmp_path.resolve()) + " (or list both under `labels`)"


def test_equal_meanings() -> None:
    assert meaning("1") == meaning("1.0") == meaning("1.00")
    assert meaning("True") == meaning("true")
    assert len({meaning(label) for label in ("1", "1.5", "10", "1.10", "-1", "true", "1.")}) == 7


@pytest.mark.parametrize(
    ("train", "other", "message"),
    [
        ([1.0, 0.0], [1, 0], ":2: found the label '0', accepted '0.0' as at {}/train.jsonl:2"),
        (["pos", "neg"], ["neg", "Pos"], ":2: found the label 'Pos', accepted 'pos' as at {}/train.jsonl:1"),
        (
            ["pos", "neg"],
            [1, 0],
            ":1: found no label that training showed (0, 1), accepted one or more of neg, pos",
        ),
    ],
)
def test_development_labels_that_training_cannot_know(
    tmp_path: Path, workspace: Workspace, train: list[object], other: list[object], message: str
) -> None:
    task = task_of(tmp_path, "jsonl", train=train, validation=other)
    with pytest.raises(DataError) as error:
        load_training_data(workspace.job(task))
    assert str(error.value) == f"{tmp_path.resolve()}/validation.jsonl{message.format(tmp_path.resolve())}"
    assert not list((tmp_path / "workspace" / "cache" / "encoded").glob("*.part"))


def test_one_known_label_is_enough(tmp_path: Path, workspace: Workspace) -> None:
    task = task_of(tmp_path, "jsonl", train=["a", "b"], validation=["b", "c"])
    split = encode_split(task, "en", "validation", workspace.backbone.tokenizer, label_inventory(task, None))
    assert (split.label_names, split.targets["label"].tolist()) == (("a", "b", "c"), [1, 2])


def test_class_label_beside_numbers(tmp_path: Path, workspace: Workspace) -> None:
    task = task_of(tmp_path, "parquet", train=[0, 1], validation=[0, 1])
    features = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, -1]}, features=features).to_parquet(
        str(tmp_path / "train.parquet")
    )
    assert complaint(task) == "train.parquet: row 3: found the label '-1', accepted neg, pos"
    Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features).to_parquet(
        str(tmp_path / "train.parquet")
    )
    assert label_inventory(task, None) == ("neg", "pos")
    with pytest.raises(DataError, match=r"row 1: found no label that training showed \(0, 1\), accepted .* neg, pos"):
        load_training_data(workspace.job(task))


# --- schemes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "hint"),
    [
        ("L-PER", "; BILOU: write L-PER as I-PER"),
        ("U-PER", "; BILOU: write U-PER as B-PER"),
        ("PER-B", "; write PER-B as B-PER"),
        ("PER", ""),
        ("B-", ""),
        ("o", ""),
    ],
)
def test_tags_that_span_f1_does_not_know(tmp_path: Path, tag: str, hint: str) -> None:
    accepted = "O, and B-, I-, E- or S- with a type (IOB1, IOB2, BIOES: metric span_f1)"
    for split in ("train", "validation", "test"):
        splits: dict[str, list[object]] = {"train": ["O"], "validation": ["O"], "test": ["O"], split: ["O", tag]}
        message = complaint(task_of(tmp_path, "conll", metrics="span_f1", **splits), split)
        assert message == f"{split}.conll:2: found the tag '{tag}', accepted {accepted}{hint}"
    task = task_of(tmp_path, "conll", metrics="span_f1", labels=f"[O, {tag}]", train=["O", tag])
    with pytest.raises(UsageError) as error:
        label_inventory(task, None)
    assert str(error.value) == f"{task.path}:12: labels: found '{tag}', accepted {accepted}{hint}"


def test_tags_that_official_tag_f1_does_not_know(tmp_path: Path) -> None:
    task = task_of(tmp_path, "conll", metrics="official_tag_f1", train=["NOUN", "B-NP"])
    assert complaint(task) == "train.conll:2: found the tag 'B-NP', accepted tags without a hyphen (official_tag_f1)"


def test_a_word_glued_to_its_tag(tmp_path: Path) -> None:
    """Accuracy alone would take it; among tags of spans it is none."""
    task = task_of(tmp_path, "conll", train=["O", "B-ORG", "Doctors'I-ORG"])
    expected = "found the label 'Doctors'I-ORG' among tags of spans, accepted O, and B- or I- with a type"
    assert complaint(task) == f"train.conll:3: {expected}"
    bilou = task_of(tmp_path, "conll", train=["O", "B-ORG", "L-ORG", "U-PER"])
    assert label_inventory(bilou, None) == ("B-ORG", "L-ORG", "O", "U-PER")


@given(st.text(alphabet="OBIESLU-PX_", max_size=5))
def test_schemes_are_those_of_the_metrics(tag: str) -> None:
    for metric in ("span_f1", "official_tag_f1"):
        try:
            compute([metric], [[tag]], [[tag]])
            accepted = True
        except StiltsError:
            accepted = False
        assert (refused_by_metrics(tag, [metric]) is None) == accepted


def spans(tags: list[str], scheme: str) -> set[tuple[int, int, str]]:
    """A second implementation of what the scheme says: (first word, last word, type) of each span."""
    starts = [
        index
        for index, tag in enumerate(tags)
        if tag != "O"
        and (
            tag[0] in "BS"
            or (scheme == "IOB1" and (index == 0 or tags[index - 1] == "O" or tags[index - 1][2:] != tag[2:]))
        )
    ]
    ends = [next((later for later in range(start + 1, len(tags)) if tags[later] == "O"), len(tags)) for start in starts]
    borders = [*starts, len(tags)]
    return {
        (start, min(end, following) - 1, tags[start][2:])
        for (start, following), end in zip(pairwise(borders), ends, strict=True)
    }


def drawn_spans(draw: st.DataObject) -> list[tuple[int, str]]:
    return draw.draw(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["", "PER", "LOC"])), max_size=6))


def tags_of(blocks: list[tuple[int, str]], scheme: str) -> list[str]:
    """Blocks of (length, type) as tags; no type is O."""
    tags: list[str] = []
    for length, kind in blocks:
        if not kind:
            tags += ["O"] * length
        elif scheme == "BIOES":
            tags += [f"S-{kind}"] if length == 1 else [f"B-{kind}", *[f"I-{kind}"] * (length - 2), f"E-{kind}"]
        else:
            first = "B" if scheme == "IOB2" or (tags and tags[-1].endswith(f"-{kind}")) else "I"
            tags += [f"{first}-{kind}", *[f"I-{kind}"] * (length - 1)]
    return tags


@settings(max_examples=80, deadline=None)
@given(data=st.data(), scheme=st.sampled_from(["IOB1", "IOB2", "BIOES"]))
def test_span_f1_scores_the_schemes_that_are_read(data: st.DataObject, scheme: str) -> None:
    gold = tags_of(drawn_spans(data), scheme)
    predicted = tags_of(drawn_spans(data), scheme)[: len(gold)]
    # Whole spans alone: a span that is cut at the end is one of no scheme.
    predicted = tags_of(cut(predicted), scheme) + ["O"] * (len(gold) - len(predicted))
    if not gold:
        return
    assert all(is_span_tag(tag) for tag in gold + predicted)
    right, guessed, wanted = (
        spans(gold, scheme) & spans(predicted, scheme),
        spans(predicted, scheme),
        spans(gold, scheme),
    )
    expected = 200 * len(right) / (len(guessed) + len(wanted)) if guessed or wanted else 0.0
    assert compute(["span_f1"], [predicted], [gold])["f1"] == pytest.approx(expected)


def cut(tags: list[str]) -> list[tuple[int, str]]:
    """The tags as blocks again, each type's words of one run as one span."""
    blocks: list[tuple[int, str]] = []
    for index, tag in enumerate(tags):
        same = index and tags[index - 1] != "O" and tag[2:] == tags[index - 1][2:] and tag[0] in "IE"
        if tag != "O" and same:
            blocks[-1] = (blocks[-1][0] + 1, tag[2:])
        else:
            blocks.append((1, "" if tag == "O" else tag[2:]))
    return blocks
