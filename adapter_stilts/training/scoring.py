"""The development scores of a model in training."""

from __future__ import annotations

from typing import Any

import numpy as np

from adapter_stilts.engine.batches import inference_batches
from adapter_stilts.engine.drawing import make_batch
from adapter_stilts.engine.predicting import INFERENCE_TOKENS, predict_labels, predicting
from adapter_stilts.engine.step import batch_logits
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import TrainingData, TrainingPart
from adapter_stilts.tasks.scoring import score

# Which pieces are hidden in development scoring: always the same.
_DEVELOPMENT_MASKING = 3


def development_scores(job: Job, model: Any, data: TrainingData) -> tuple[dict[str, float], int | None]:
    """Scores in percent on the development examples, and the number of distinct labels predicted (None: masked language
    modelling); of several tasks the scores of each by `task.metric`, the mean of what each is selected by, and the
    smallest number."""
    both = {part.task.name: _part_scores(job, model, part) for part in data.tasks}
    scores = {name: own for name, (own, _) in both.items()}
    labels = min((number for _, number in both.values() if number is not None), default=None)
    if len(scores) == 1:
        return scores[job.task.name], labels
    selected = [scores[part.task.name][part.task.selection_metric] for part in data.tasks]
    every = {f"{task}.{metric}": value for task, own in scores.items() for metric, value in own.items()}
    return {**every, job.task.selection_metric: float(np.mean(selected))}, labels


def _part_scores(job: Job, model: Any, part: TrainingPart) -> tuple[dict[str, float], int | None]:
    examples = part.development_examples
    if part.candidates is not None:
        return {"accuracy": masked_accuracy(job, model, part)}, None
    assert part.development is not None
    found = predict_labels(model, part.head, part.development, examples)
    scores = score(part.task.kind, part.task.metrics, found.labels, part.development.gold(examples))
    return scores, len({label for labels in found.labels for label in labels})


def masked_accuracy(job: Job, model: Any, part: TrainingPart) -> float:
    """Share in percent of the hidden pieces of the development text that the head guesses; always the same pieces."""
    assert part.development is not None
    device = next(model.parameters()).device
    rng = np.random.default_rng(_DEVELOPMENT_MASKING)
    right = asked = 0
    sequences = part.development.sequences_of(part.development_examples)
    with predicting(model):
        for own in inference_batches(part.development, sequences, INFERENCE_TOKENS[device.type]):
            batch = make_batch(job, part, own, device, rng, development=True)
            right += int((batch_logits(model, batch).argmax(dim=1) == batch.labels).sum())
            asked += len(batch.labels)
    return 100.0 * right / max(asked, 1)
