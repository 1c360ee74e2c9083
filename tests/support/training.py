"""A workspace for tests that train: a folder, a tiny backbone, and small local tasks whose labels can be learnt."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from torch import Tensor

from adapter_stilts.engine.step import EagerStep
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.request import Request
from adapter_stilts.jobs.resolve import resolve
from adapter_stilts.model.backbone import Backbone, load_backbone
from adapter_stilts.runs.store import Run, RunStore
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.kinds.contract import EncodedSequence, HeadSpec, HeadUse
from adapter_stilts.training.api import execute, train
from support.tiny import tiny_backbone_folder

Sentence = Sequence[tuple[str, str]]

ENGLISH = ["the", "of", "and", "to", "is", "dog", "cats", "run", "house", "seven", "!", "unbelievable"]
GERMAN = ["der", "und", "ist", "Hund", "Häuser", "sieben", "!", "übel"]
CHINESE = ["你好", "世界", "我", "在", "大", "。", "日本", "国"]
LABELS = ("A", "B", "C")
HEAD = """\
name: {name}
version: {version}
kind: {kind}
role: both
knowledge: syntactic
granularity: token
description: words of a tiny vocabulary
licence: none
citation: none
metrics: {metrics}
selection_metric: accuracy
labels: {labels}
word_piece: {word_piece}
recipes:
  bottleneck: {{default: {bottleneck}}}
  full: {{default: {full}}}
"""
# A task of masked language modelling, but for its data.
TEXT_HEAD = """\
name: text
version: 1
kind: masked_lm
role: intermediate
knowledge: none
granularity: token
description: texts
licence: none
citation: none
metrics: [accuracy]
selection_metric: accuracy
"""
TEXT_TASK = f"""\
{TEXT_HEAD}data:
  format: tsv
  columns: {{text: words}}
  languages:
    en: {{train: train.tsv}}
"""
# The same file for training and development.
TEXT_IN_ONE_FILE = f"""\
{TEXT_HEAD}data: {{format: tsv, columns: {{text: words}}, languages: {{en: {{train: text.tsv, validation: text.tsv}}}}}}
"""
BOTTLENECK = "{learning_rate: 1e-2, epochs: 2, batch_examples: 8}"
# Settings of a run that is over soon.
FAST = {"learning_rate": "1e-2", "epochs": "1", "batch_examples": "8"}
FULL = "{learning_rate: 1e-3, epochs: 2, batch_examples: 8}"


@dataclass(frozen=True)
class Workspace:
    """A folder with a tiny backbone and an empty run store; nothing outside it is read or written."""

    folder: Path
    backbone: Backbone
    store: RunStore

    def train(self, task: Task | str, **options: Any) -> Run:
        """A finished run on the CPU."""
        return train(task, backbone=self.backbone, runs=self.store, device="cpu", **options)

    def request(self, tasks: Task | Sequence[Task], over: Sequence[Run | Request] = (), **changes: Any) -> Request:
        """The request for tasks on the workspace's backbone; `changes` are its other fields."""
        tasks = (tasks,) if isinstance(tasks, Task) else tuple(tasks)
        return Request(tasks=tasks, over=tuple(over), **({"backbone": self.backbone, "precision": "float32"} | changes))

    def job(self, tasks: Task | Sequence[Task], over: Sequence[Run | Request] = (), **changes: Any) -> Job:
        """The run before it runs."""
        return resolve(self.request(tasks, over, **changes), None)

    def execute(self, job: Job) -> Run:
        """The job's finished run, trained anew."""
        return execute(job, self.store, "cpu")


def make_workspace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace in `folder`; cache, mirror and run store of the environment are put out of reach."""
    monkeypatch.setenv("ADAPTER_STILTS_CACHE", str(folder / "cache"))
    for variable in ("ADAPTER_STILTS_HUB_MIRROR", "ADAPTER_STILTS_RUNS"):
        monkeypatch.delenv(variable, raising=False)
    backbone = load_backbone(str(tiny_backbone_folder(folder / "tiny")))
    return Workspace(folder, backbone, RunStore(folder / "runs"))


def use_of(head: str, kind: str = "tagging") -> HeadUse:
    """Batches for that head, of a task of that kind."""
    return HeadUse(head, find_kind(kind))


def text_task(folder: Path, text: str = TEXT_TASK) -> Path:
    """The YAML file of a task of masked language modelling, beside two lines of text."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.tsv").write_text("words\nthe of\n你好 and\n", encoding="utf-8")
    (folder / "text.yaml").write_text(text, encoding="utf-8")
    return folder / "text.yaml"


def add_head(model: Any, name: str, labels: Sequence[str] = LABELS, kind: str = "tagging") -> None:
    """A head of that kind on a model, without dropout."""
    find_kind(kind).add_head(model, name, HeadSpec(labels, 0.0))


def gold_of(split: EncodedSplit, examples: Sequence[int] | np.ndarray, kind: str = "tagging") -> list[Any]:
    """The gold answers of these examples, as a task of that kind keeps them."""
    gold = find_kind(kind).gold
    assert gold is not None
    return gold(split, np.asarray(examples))


def weights_of(run: Run) -> dict[str, Tensor]:
    """Every tensor of a run's bundle, by folder and name."""
    files = sorted(run.bundle.rglob("*.safetensors"))
    assert files
    return {f"{path.parent.name}/{name}": tensor for path in files for name, tensor in load_file(path).items()}


class Cut(BaseException):
    """Stands for the end of a process: nothing that handles errors handles it."""


def cut_after(steps: int, kind: Any = EagerStep) -> pytest.MonkeyPatch:
    """Until undone, the process ends when so many steps have been taken and the next one is asked for."""
    steps_taken = [0]
    call = kind.__call__

    def counted(self: Any, batches: Sequence[Any]) -> None:
        if steps_taken[0] == steps:
            raise Cut
        steps_taken[0] += 1
        call(self, batches)

    context = pytest.MonkeyPatch()
    context.setattr(kind, "__call__", counted)
    return context


def label_of(word: str, shift: int = 0) -> str:
    """A label that depends on the word alone, another one for each `shift`."""
    return LABELS[(len(word) + shift) % len(LABELS)]


def draw_sentences(
    words: Sequence[str], count: int, seed: int, longest: int = 9, shift: int = 0
) -> list[list[tuple[str, str]]]:
    """`count` sentences of 1 to `longest` words, each with its label."""
    rng = np.random.default_rng(seed)
    drawn = [[str(word) for word in rng.choice(words, rng.integers(1, longest + 1))] for _ in range(count)]
    return [[(word, label_of(word, shift)) for word in sentence] for sentence in drawn]


def write_conllu(path: Path, sentences: Sequence[Sentence]) -> None:
    """CoNLL-U with words and universal tags alone."""
    blocks = (
        "".join(f"{number}\t{word}\t_\t{tag}\t_\t_\t_\t_\t_\t_\n" for number, (word, tag) in enumerate(sentence, 1))
        for sentence in sentences
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(blocks) + "\n", encoding="utf-8")


def write_task(
    folder: Path,
    name: str = "tags",
    *,
    labels: str = "[A, B, C]",
    word_piece: str = "first_content",
    version: int = 1,
    metrics: str = "[accuracy]",
    bottleneck: str = BOTTLENECK,
    full: str = FULL,
    languages: str = "{en: {train: en-train.conllu, validation: en-dev.conllu, test: en-test.conllu}}",
) -> Task:
    """A tagging task over CoNLL-U files in `folder`."""
    fields = {"name": name, "version": version, "labels": labels, "word_piece": word_piece, "metrics": metrics}
    head = HEAD.format(kind="tagging", bottleneck=bottleneck, full=full, **fields)
    data = f"data:\n  format: conllu\n  columns: {{tokens: form, labels: upos}}\n  languages: {languages}\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(head + data, encoding="utf-8")
    return find_task(str(path))


def english_task(folder: Path, name: str = "tags", *, shift: int = 0, examples: int = 24, **options: Any) -> Task:
    """A task of English alone: its data drawn anew for each `shift`, which also decides what the labels mean."""
    for split, count, seed in (("train", examples, 1), ("dev", 10, 2), ("test", 10, 3)):
        write_conllu(folder / f"en-{split}.conllu", draw_sentences(ENGLISH, count, 10 * shift + seed, shift=shift))
    return write_task(folder, name, **options)


@cache
def task_of(workspace: Workspace, name: str) -> Task:
    """The task `t`, `a` or `b` of a workspace, English alone; its labels mean something else in each."""
    return english_task(workspace.folder / name, name, shift="tab".index(name))


def pairs_task(folder: Path, name: str = "pairs") -> Task:
    """A classification task of text pairs: do they share their first word?"""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count, seed in (("train", 16, 1), ("dev", 8, 2)):
        drawn = draw_sentences(ENGLISH, 2 * count, seed, longest=4)
        texts = [" ".join(word for word, _ in sentence) for sentence in drawn]
        rows = [
            f"{one}\t{other}\t{'same' if one.split()[0] == other.split()[0] else 'different'}"
            for one, other in zip(texts[::2], texts[1::2], strict=True)
        ]
        (folder / f"{split}.tsv").write_text("one\tother\tlabel\n" + "\n".join(rows) + "\n", encoding="utf-8")
    fields = {"version": 1, "labels": "[same, different]", "word_piece": "first_content", "metrics": "[accuracy]"}
    head = HEAD.format(name=name, kind="classification", bottleneck=BOTTLENECK, full=FULL, **fields)
    data = (
        "data:\n  format: tsv\n  columns: {text: one, text_pair: other, label: label}\n"
        "  languages: {en: {train: train.tsv, validation: dev.tsv}}\n"
    )
    (folder / f"{name}.yaml").write_text(head + data, encoding="utf-8")
    return find_task(str(folder / f"{name}.yaml"))


def encoded_split(sequences: Sequence[EncodedSequence], labels: Sequence[Sequence[int]]) -> EncodedSplit:
    """Sequences made by hand as a split; `labels` are the label ids of each sequence's spans."""

    def flat(lists: Sequence[Sequence[int]]) -> np.ndarray:
        return np.array([item for items in lists for item in items], dtype=np.int32)

    def offsets(lists: Sequence[Sequence[int]]) -> np.ndarray:
        return np.cumsum([0, *map(len, lists)]).astype(np.int64)

    ids = [sequence.input_ids for sequence in sequences]
    return EncodedSplit(
        language="en",
        split="train",
        sha256="",
        source="by hand",
        revision=None,
        examples=max(sequence.example for sequence in sequences) + 1,
        label_names=LABELS,
        trained=len(LABELS),
        example=np.array([sequence.example for sequence in sequences]),
        ids=flat(ids),
        id_offsets=offsets(ids),
        starts=flat([sequence.starts for sequence in sequences]),
        ends=flat([sequence.ends for sequence in sequences]),
        targets={"label": flat(labels)},
        unit_offsets=offsets([sequence.starts for sequence in sequences]),
    )


def random_split(lengths: Sequence[int], seed: int = 0, width: int = 1, step: int = 2) -> EncodedSplit:
    """Random pieces, one example a length (<s> and </s> included); every `step` pieces a span of up to `width`."""
    rng = np.random.default_rng(seed)
    sequences, labels = [], []
    for example, length in enumerate(lengths):
        starts = list(range(1, length - 1, step))
        ends = [min(start + width, length - 1) for start in starts]
        ids = [0, *(int(id_) for id_ in rng.integers(4, 400, length - 2)), 2]
        sequences.append(EncodedSequence(example, ids, starts, ends))
        labels.append([int(label) for label in rng.integers(0, len(LABELS), len(starts))])
    return encoded_split(sequences, labels)
