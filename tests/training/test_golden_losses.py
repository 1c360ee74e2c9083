"""Losses of the first ten steps of each kind on the embedded backbone, as they were when they were written down.

A change of encoding, order, packing, head, loss, optimizer or schedule shows here, whatever else stays equal.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.choices import draw_questions, write_rows

from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.drawing import make_batch
from adapter_stilts.engine.step import EagerStep
from adapter_stilts.jobs.request import Request
from adapter_stilts.jobs.resolve import resolve
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.model.backbone import Backbone, load_backbone
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.kinds import KINDS
from adapter_stilts.training.sampling import draw_epochs

STEPS = 10
SENTENCES = [
    "The river rose after three days of rain.",
    "Nobody had told the driver about the bridge.",
    "She keeps her letters in a blue box.",
    "Prices fell again, and the shops stayed empty.",
    "Two boys were playing chess under the tree.",
    "It is warm for this time of the year.",
    "The museum opens at nine on Sundays.",
    "He sold his car and bought a boat.",
]
COLUMNS = {
    "tagging": "{tokens: tokens, labels: labels}",
    "classification": "{text: text, text_pair: text_pair, label: label}",
    "multiple_choice": "{question: question, choices: choices, answer: answer}",
    "masked_lm": "{text: text}",
}
LABELS = {"tagging": "labels: [short, long]\n", "classification": "labels: [same, other]\n"}
GOLDEN: dict[str, list[float]] = {
    "classification": [0.69556, 0.49438, 0.56307, 0.38249, 0.12349, 0.37952, 0.07064, 0.05996, 0.427, 1.15839],
    "masked_lm": [4.34225, 4.34096, 4.25596, 4.17025, 3.80071, 3.58652, 3.94343, 4.52381, 3.93267, 3.94139],
    "multiple_choice": [1.23535, 1.22317, 1.26319, 1.15275, 1.2155, 1.12375, 1.27518, 1.1362, 1.12009, 1.15741],
    "tagging": [0.70725, 0.66223, 0.65037, 0.65816, 0.56208, 0.57082, 0.64459, 0.67566, 0.55844, 0.52397],
}


def rows_of(kind: str) -> list[dict]:
    words = " ".join(SENTENCES).split()
    if kind == "multiple_choice":
        return draw_questions(list(dict.fromkeys(words)), 40, seed=0)
    if kind == "classification":
        pairs = [(first, second) for first in SENTENCES for second in SENTENCES[:5]]
        return [
            {"text": first, "text_pair": second, "label": "same" if first == second else "other"}
            for first, second in pairs
        ]
    if kind == "masked_lm":
        return [{"text": f"{first} {second}"} for first in SENTENCES for second in SENTENCES[:5]]
    rows = [sentence.split() for sentence in SENTENCES] * 5
    return [{"tokens": row, "labels": ["long" if len(word) > 4 else "short" for word in row]} for row in rows]


def task_of(folder: Path, kind: str) -> Task:
    write_rows(folder / f"{kind}.jsonl", rows_of(kind))
    (folder / f"{kind}.yaml").write_text(
        f"""\
name: golden_{kind}
version: 1
kind: {kind}
role: both
knowledge: none
granularity: sentence
description: a few sentences
licence: none
citation: none
metrics: [accuracy]
selection_metric: accuracy
{LABELS.get(kind, "")}data:
  format: jsonl
  columns: {COLUMNS[kind]}
  languages:
    en: {{train: {kind}.jsonl, validation: {kind}.jsonl}}
recipes:
  bottleneck: {{default: {{learning_rate: 1e-3, epochs: 2, batch_examples: 8}}}}
""",
        encoding="utf-8",
    )
    return find_task(str(folder / f"{kind}.yaml"))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("embedded")


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_ten_steps(tmp_path: Path, backbone: Backbone, kind: str) -> None:
    job = resolve(Request((task_of(tmp_path, kind),), backbone, "float32"), None)
    data = load_training_data(job)
    planned = [planned_step for steps in draw_epochs(data, job.recipe, job.seed) for planned_step in steps]
    assert len(planned) == STEPS
    model = build_model(job, data).train()
    torch.manual_seed(job.seed)
    step = EagerStep(model, job.recipe, STEPS, "float32")
    for number, planned_step in enumerate(planned):
        rng = np.random.default_rng([job.seed, number])
        step(
            [make_batch(job, planned_step.part, sequences, step.batches_on, rng) for sequences in planned_step.batches]
        )
    losses = step.losses()
    step.close()
    assert losses == pytest.approx(GOLDEN[kind], rel=2e-4), losses
