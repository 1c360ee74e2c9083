"""No intermediate may have trained on the target's own test sentences, whatever either is called."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from adapter_stilts.runs.store import Run
from adapter_stilts.tasks.data import MissingData
from adapter_stilts.tasks.encode import encode_split, label_inventory
from adapter_stilts.tasks.overlap import read_signatures, refuse_overlap, text_signatures
from adapter_stilts.training.data import TrainingData
from adapter_stilts.training.job import Job

# Beside a run's record: signatures of all texts that it, and what lies under it, trained on.
TRAINED_ON = "trained_on.safetensors"


def trained_on(job: Job, data: TrainingData) -> np.ndarray:
    """Signatures of the texts that the job trains on, and of those that the runs under it did."""
    tokenizer = job.backbone.tokenizer
    own = [text_signatures(part.train, part.train_examples, tokenizer) for part in data.parts]
    below = [_signatures_of(run) for run in job.intermediates]
    return np.unique(np.concatenate([*own, *below]))


def refuse_leaks(job: Job) -> None:
    """Raise UsageError where an intermediate trained on test sentences of the job's task, in any language that its
    training data were in. A language without test data here cannot be checked, nor scored."""
    for run in job.intermediates:
        signatures = _signatures_of(run)
        for task in job.tasks:
            for code in _training_languages(run):
                if code not in task.data.languages:
                    continue
                try:
                    labels = label_inventory(task, job.mirror)
                    test = encode_split(task, code, "test", job.backbone.tokenizer, labels, job.mirror)
                except MissingData:
                    continue
                refuse_overlap(run.name, signatures, task.name, test, job.backbone.tokenizer)


def _signatures_of(run: Run) -> np.ndarray:
    return read_signatures(run.folder / TRAINED_ON, run.record.trained_on)


def _training_languages(run: Run) -> Iterator[str]:
    codes = [code for data in run.record.data if data.split == "train" for code in data.language.split("+")]
    return iter(dict.fromkeys(codes))
