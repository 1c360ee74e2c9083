"""A kind of task that the package does not have, whole in this file: which word of a sentence is the longest.

Its words compete within their sentence (`together="sequence"`), as those of no kind that ships do. Everything that
users do with a task is done with it.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from support.training import ENGLISH, GERMAN, Workspace

import adapter_stilts
from adapter_stilts.analysis.compare import compare_runs
from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.bundle import load_bundle
from adapter_stilts.engine.captured import CapturedStep
from adapter_stilts.engine.drawing import make_batch
from adapter_stilts.engine.step import EagerStep
from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.evaluation.predict import predict_file
from adapter_stilts.evaluation.predictions import read_predictions
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.documents.document import Document, Reading, named_rows, read_as
from adapter_stilts.tasks.documents.rendering import render_jsonl
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.tasks.kinds import KINDS, Kind
from adapter_stilts.tasks.kinds.contract import Columns, EncodedSequence, HeadSpec, Inventory, LocationOf, Options
from adapter_stilts.tasks.metrics import Array, Metric, paired_numbers, percent_right
from adapter_stilts.tasks.tokenizing import tokenize_words

PACKAGE = Path(adapter_stilts.__file__).parent


# --- the kind -------------------------------------------------------------------------------------------------------


class LongestOptions(Options):
    first_word: int = 0


def read(
    columns: Columns, names: Mapping[str, Any], location_of: LocationOf, options: LongestOptions, _: Any = None
) -> Columns:
    made = dict(columns)
    if "longest" in columns:
        made["longest"] = [int(number) - options.first_word for number in columns["longest"]]
        for row, (number, words) in enumerate(zip(made["longest"], columns["words"], strict=True)):
            if not 0 <= number < len(words):
                raise DataError(f"{location_of(row, None)}: longest: found {number}, accepted 0 to {len(words) - 1}")
    return made


def encode(
    columns: Columns, tokenizer: Any, options: LongestOptions, inventory: Inventory | None = None
) -> Iterator[EncodedSequence]:
    sentences = [list(words) for words in columns["words"]]
    for row, (ids, word_ids) in enumerate(tokenize_words(tokenizer, sentences)):
        starts = [1 + word_ids.index(word) for word in range(len(sentences[row]))]
        ends = [1 + len(word_ids) - word_ids[::-1].index(word) for word in range(len(sentences[row]))]
        right = [] if inventory is None else [int(word == columns["longest"][row]) for word in range(len(starts))]
        targets = {} if inventory is None else {"right": right}
        yield EncodedSequence(row, [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id], starts, ends, targets)


def add_head(model: Any, name: str, spec: HeadSpec) -> None:
    model.add_tagging_head(name, num_labels=1)
    model.heads[name][0].p = spec.dropout


def loss(scores: torch.Tensor, batch: Any) -> torch.Tensor:
    from adapter_stilts.tasks.kinds.losses import segment_loss

    return segment_loss(scores.squeeze(1), batch.segment, batch.targets["right"])


def shuffle(split: EncodedSplit, seed: int) -> dict[str, np.ndarray]:
    """One word of each sentence, drawn anew."""
    rng, targets = np.random.default_rng(seed), np.zeros_like(split.targets["right"])
    for begin, end in itertools.pairwise(split.unit_offsets.tolist()):
        targets[rng.integers(begin, end)] = 1
    return {"right": targets}


def best(values: np.ndarray, split: EncodedSplit, examples: np.ndarray) -> list[int]:
    return [int(values[split.units_of(split.sequences_of(np.array([row])))].argmax()) for row in examples]


def right_words(predictions: Sequence[int], answers: Sequence[int]) -> Array:
    pairs = zip(*paired_numbers(predictions, answers), strict=True)
    return np.array([(chosen == right, 1) for chosen, right in pairs], float)


def read_document(reading: Reading, path: Path, file_format: str | None, columns: Mapping[str, str]) -> Document:
    def of_lines(path: Path, lines: Any, reading: Reading, columns: Any) -> Document:
        rows, values, _ = named_rows(path, reading, columns, "jsonl")
        numbers: Any = rows.lines
        first = cast(LongestOptions, reading.options).first_word
        return Document(
            values, lambda answers: render_jsonl(lines, numbers, "longest", [answer + first for answer in answers])
        )

    return read_as(reading, path, file_format, columns, {"jsonl": of_lines}, lambda raw: "jsonl")


TOY = Kind(
    name="longest_word",
    options=LongestOptions,
    columns={"words": "texts", "longest": "text"},
    answer_role="longest",
    text_roles=("words",),
    rows="sentence",
    formats=(),
    read=read,
    encode=encode,
    targets=("right",),
    together="sequence",
    head_type="tagging",
    add_head=add_head,
    loss=loss,
    shuffle=shuffle,
    decode=lambda scores, batch: {"score": scores.squeeze(1).float()},
    join=lambda decoded, split, examples: best(decoded["score"], split, examples),
    gold=lambda split, examples: best(split.targets["right"], split, examples),
    metrics={"accuracy": Metric("accuracy", "1", right_words, percent_right)},
    labels_of=lambda answer: (answer,),
    floor=lambda answers: [0] * len(answers),
    answer="number",
    documents=read_document,
)


# --- with it, everything --------------------------------------------------------------------------------------------


@pytest.fixture
def toy(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task of the kind, in two languages; `other.yaml` beside it is another one."""
    monkeypatch.setitem(KINDS, TOY.name, TOY)
    return write_task(workspace.folder / "toy", "toy", seed=0)


def write_task(folder: Path, name: str, seed: int) -> Task:
    folder.mkdir()
    for number, (language, words) in enumerate((("en", ENGLISH), ("de", GERMAN))):
        for offset, (split, count) in enumerate((("train", 60), ("validation", 30), ("test", 30))):
            rng = np.random.default_rng([seed, number, offset])
            rows = []
            for _ in range(count):
                drawn = [str(word) for word in rng.permutation(words)[: rng.integers(2, 6)]]
                rows.append({"words": drawn, "longest": 1 + int(np.argmax([len(word) for word in drawn]))})
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / f"{language}-{split}.jsonl").write_text(text, encoding="utf-8")
    files = ", ".join(f"{split}: LANGUAGE-{split}.jsonl" for split in ("train", "validation", "test"))
    (folder / f"{name}.yaml").write_text(
        f"""\
name: {name}
version: 1
kind: longest_word
role: both
knowledge: none
granularity: token
description: the longest word
licence: none
citation: none
metrics: [accuracy]
selection_metric: accuracy
first_word: 1
data:
  format: jsonl
  columns: {{words: words, longest: longest}}
  languages:
    en: {{{files.replace("LANGUAGE", "en")}}}
    de: {{{files.replace("LANGUAGE", "de")}}}
recipes:
  bottleneck: {{default: {{learning_rate: 1e-2, epochs: 6, batch_examples: 8, dropout: 0.0}}}}
  full: {{default: {{learning_rate: 2e-3, epochs: 6, batch_examples: 8, dropout: 0.0}}}}
""",
        encoding="utf-8",
    )
    return find_task(str(folder / f"{name}.yaml"))


@pytest.mark.slow
def test_trained_evaluated_compared_predicted_and_read_back(workspace: Workspace, toy: Task) -> None:
    other = write_task(workspace.folder / "other", "other", seed=1)
    alone, stacked = workspace.train(toy), workspace.train(toy, over=[other])
    full = workspace.train(toy, method="full", over=[workspace.train(other, method="full")])
    chance = np.mean([1 / len(row["words"]) for row in rows_of(workspace.folder / "toy" / "de-test.jsonl")])
    for run in (alone, stacked, full):
        scores = evaluate(run, toy, runs=workspace.store, device="cpu")
        assert scores.languages["en"]["accuracy"] > 100 * chance + 20, run.name
        kept = read_predictions(next((run.folder / "evaluations").iterdir()), scores, TOY.name)
        gold = [row["longest"] - 1 for row in rows_of(workspace.folder / "toy" / "de-test.jsonl")]
        assert list(kept["de"].gold) == gold
        right = np.mean(np.array(kept["de"].predicted) == np.array(gold))
        assert scores.languages["de"]["accuracy"] == pytest.approx(100 * right)
        floor = 100 * gold.count(0) / len(gold)
        assert (scores.majority["de"], scores.predicted_labels["de"]) == (
            pytest.approx(floor),
            len(set(kept["de"].predicted)),
        )
        # What predict writes into a file of one's own are the same answers.
        written = predict_file(run, workspace.folder / "toy" / "de-test.jsonl", device="cpu")
        answers = [json.loads(line)["longest"] for line in written.decode().splitlines()]
        assert [answer - 1 for answer in answers] == list(kept["de"].predicted)
    (table,) = compare_runs(workspace.store, [alone, stacked, full]).as_json()["tables"]
    assert [row["label"] for row in table["rows"]] == [
        "bottleneck none",
        "bottleneck stack over other",
        "full continue over other",
    ]
    model, manifest = load_bundle(stacked.bundle, workspace.backbone)
    assert (manifest.kind, manifest.labels, manifest.options) == ("longest_word", (), {"first_word": 1})
    assert model.heads["toy"].config["head_type"] == "tagging"


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_captured_step_takes_the_eager_ones_steps(workspace: Workspace, toy: Task) -> None:
    """As a CPU runs it: the buffers that a graph would read, with what fills them up."""
    job = workspace.job(toy)
    data = load_training_data(job)
    losses = []
    for made in (EagerStep, CapturedStep):
        model = build_model(job, data).train()
        extra = {"averaged": True, "capacities": (64, 128)} if made is CapturedStep else {}
        step = made(model, job.recipe, 5, "float32", **extra)
        rng = np.random.default_rng(0)
        for first in range(0, 40, 8):
            step([make_batch(job, data.tasks[0], np.arange(first, first + 8), step.batches_on, rng)])
        losses.append(step.losses())
        step.close()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_its_loss_is_softmax_over_the_words_of_a_sentence(workspace: Workspace, toy: Task) -> None:
    job = workspace.job(toy)
    (part,) = load_training_data(job).tasks
    batch = make_batch(job, part, np.arange(5), torch.device("cpu"), np.random.default_rng(0))
    scores = torch.randn(batch.units, 1, generator=torch.Generator().manual_seed(0))
    expected, first = 0.0, 0
    for sequence in batch.sequences:
        units = int(np.diff(part.train.unit_offsets)[sequence])
        right = part.train.targets["right"][part.train.units_of(np.array([sequence]))].argmax()
        expected -= scores[first : first + units, 0].log_softmax(0)[right].item()
        first += units
    assert (batch.terms, batch.loss(scores).item()) == (5, pytest.approx(expected))


def test_what_its_yaml_takes(workspace: Workspace, toy: Task) -> None:
    text = toy.path.read_text()
    toy.path.write_text(text.replace("first_word: 1", "frist_word: 1"))
    with pytest.raises(UsageError, match=r"toy\.yaml:12: frist_word: found an unknown key \(did you mean 'first_word'"):
        find_task(str(toy.path))
    toy.path.write_text(text.replace("first_word: 1", "first_word: one"))
    with pytest.raises(UsageError, match=r"toy\.yaml:12: first_word: found 'one', accepted a whole number"):
        find_task(str(toy.path))
    toy.path.write_text(text.replace("first_word: 1", "first_word: 0"))
    with pytest.raises(DataError, match=r"en-train\.jsonl:\d+: longest: found \d, accepted 0 to \d"):
        workspace.train(find_task(str(toy.path)))
    toy.path.write_text(text.replace("longest_word", "longest_wrod"))
    with pytest.raises(UsageError, match=r"kind: found 'longest_wrod' \(did you mean 'longest_word'\?\), accepted"):
        find_task(str(toy.path))


# --- and nothing else knows ------------------------------------------------------------------------------------------

# Files whose business is kinds, or data of which kinds are keys.
ABOUT_KINDS = ("tasks/kinds/",)


def test_no_other_module_names_a_kind_or_branches_on_one() -> None:
    """Neither as a text nor as a name, and no comparison of `.kind`; the lines that do are told."""
    names = "|".join(kind for kind in KINDS if kind != TOY.name)
    violations = []
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE).as_posix()
        if inside.startswith(ABOUT_KINDS):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None
            if isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in docstrings and isinstance(node.value, str):
                if re.fullmatch(names, node.value):
                    violations.append(f"{inside}:{node.lineno}: names {node.value!r}")
            elif isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                if any(is_task_kind(side) for side in sides):
                    violations.append(f"{inside}:{node.lineno}: compares a kind")
    assert violations == []


def is_task_kind(node: ast.expr) -> bool:
    """`task.kind`, `part.task.kind`, `kind.name`, ..., which only a branch on a kind would compare."""
    return isinstance(node, ast.Attribute) and (
        (node.attr == "kind" and "task" in ast.unparse(node.value)) or ast.unparse(node) == "kind.name"
    )
