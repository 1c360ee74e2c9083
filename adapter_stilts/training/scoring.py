"""English development scores of a job's model."""

from __future__ import annotations

import numpy as np

from adapter_stilts.engine.batches import inference_batches
from adapter_stilts.engine.drawing import make_batch
from adapter_stilts.engine.predicting import INFERENCE_TOKENS, predict_answers, predicting
from adapter_stilts.engine.step import batch_logits
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import TrainingData, TrainingPart
from adapter_stilts.model.protocols import Model
from adapter_stilts.tasks.scoring import distinct_labels, score

# Which targets are drawn in development scoring, where a kind draws them: always the same.
_DEVELOPMENT_DRAWING = 3


def development_scores(job: Job, model: Model, data: TrainingData) -> tuple[dict[str, float], int | None]:
    """Scores in percent on the development examples, and the number of distinct labels predicted (None: of a kind
    without labels); of several tasks the scores of each by `task.metric`, the mean of what each is selected by, and the
    smallest number."""
    both = {part.task.name: _part_scores(job, model, part) for part in data.tasks}
    scores = {name: task_scores for name, (task_scores, _) in both.items()}
    labels = min((number for _, number in both.values() if number is not None), default=None)
    if len(scores) == 1:
        return scores[job.task.name], labels
    selected = [scores[part.task.name][part.task.selection_metric] for part in data.tasks]
    every = {f"{task}.{metric}": value for task, task_scores in scores.items() for metric, value in task_scores.items()}
    return {**every, job.task.selection_metric: float(np.mean(selected))}, labels


def _part_scores(job: Job, model: Model, part: TrainingPart) -> tuple[dict[str, float], int | None]:
    kind, metrics = part.task.kind, part.task.metrics
    if part.use.kind.draw is not None:
        return score(kind, metrics, *_drawn_answers(job, model, part)), None
    assert part.development is not None
    assert part.use.kind.gold is not None
    examples = part.development_examples
    answers = predict_answers(model, part.use, part.development, examples).answers
    gold = part.use.kind.gold(part.development, examples)
    return score(kind, metrics, answers, gold), distinct_labels(kind, answers)


def _drawn_answers(job: Job, model: Model, part: TrainingPart) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Decoded labels and drawn targets of each batch of the development data; always the same ones."""
    assert part.development is not None
    device = next(model.parameters()).device
    rng = np.random.default_rng(_DEVELOPMENT_DRAWING)
    sequences = part.development.sequences_of(part.development_examples)
    answers, targets = [], []
    with predicting(model):
        for chosen in inference_batches(part.development, sequences, part.use.kind, INFERENCE_TOKENS[device.type]):
            batch = make_batch(job, part, chosen, device, rng, development=True)
            (target,) = part.use.kind.targets
            answers.append(part.use.kind.decode(batch_logits(model, batch), batch)[target].cpu().numpy())
            targets.append(batch.targets[target].cpu().numpy())
    return answers, targets
