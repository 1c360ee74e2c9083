"""What a job trains on: its tasks' encoded splits, and which of their examples are used."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from adapter_stilts.engine.masking import candidate_ids
from adapter_stilts.errors import DataError, UsageError
from adapter_stilts.jobs.job import MASKED_LM_HEAD, Job, adapter_name
from adapter_stilts.schema import Task
from adapter_stilts.tasks.encode import EncodedSplit, concatenate, encode_split
from adapter_stilts.tasks.inventory import label_inventory

# Which development examples are scored, where a recipe asks for a part of them, is the same for every run.
DEVELOPMENT_SAMPLE_SEED = 0


@dataclass(frozen=True)
class TrainingPart:
    """One task of a job: training data under one head, and English development data (None: not scored).

    `candidates` are the pieces that masked language modelling chooses among; None for other kinds.
    """

    task: Task
    head: str
    labels: tuple[str, ...]
    train: EncodedSplit
    train_examples: np.ndarray
    development: EncodedSplit | None
    development_examples: np.ndarray
    candidates: np.ndarray | None

    @property
    def ids(self) -> np.ndarray:
        """Every piece id that training or development scoring can look up, but for `<mask>`."""
        return np.union1d(self.train.ids, [] if self.development is None else self.development.ids).astype(np.int64)


@dataclass(frozen=True)
class TrainingData:
    """The tasks of a job, and masked language modelling where it is mixed in."""

    tasks: tuple[TrainingPart, ...]
    masked_lm: TrainingPart | None

    @property
    def parts(self) -> tuple[TrainingPart, ...]:
        return self.tasks if self.masked_lm is None else (*self.tasks, self.masked_lm)


def load_training_data(job: Job) -> TrainingData:
    """All splits, encoded; the training examples are drawn with the run's seed."""
    tasks = tuple(_load_task(job, task) for task in job.tasks)
    return TrainingData(tasks, None if job.masked_lm is None else _load_masked_lm(job))


def _load_task(job: Job, task: Task) -> TrainingPart:
    masked = task.kind == "masked_lm"
    labels = () if masked else label_inventory(task, job.mirror)
    tokenizer = job.backbone.tokenizer
    train = concatenate(
        [
            encode_split(task, code, "train", tokenizer, labels, job.mirror)
            for code in job.languages or (task.train_language,)
        ]
    )
    if job.control == "shuffled":
        train = shuffle_labels(train, job.seed)
    examples = choose_examples(train, job.limit, job.match_tokens, job.seed)
    development = encode_split(task, task.train_language, "validation", tokenizer, labels, job.mirror)
    return TrainingPart(
        task,
        adapter_name(task.name),
        labels,
        train,
        examples,
        development,
        development.sample(job.recipe.development_examples, DEVELOPMENT_SAMPLE_SEED),
        _candidates(train, tokenizer, examples) if masked else None,
    )


def _load_masked_lm(job: Job) -> TrainingPart:
    assert job.masked_lm is not None
    task, tokenizer = job.masked_lm.task, job.backbone.tokenizer
    text = concatenate(
        [encode_split(task, code, "train", tokenizer, (), job.mirror) for code in job.masked_lm.languages]
    )
    # As much text as a task has examples; a head over fewer pieces costs less.
    examples = choose_examples(text, job.limit, job.match_tokens, job.seed)
    candidates = _candidates(text, tokenizer, examples)
    return TrainingPart(task, MASKED_LM_HEAD, (), text, examples, None, np.arange(0), candidates)


def _candidates(text: EncodedSplit, tokenizer: Any, examples: np.ndarray) -> np.ndarray:
    candidates = candidate_ids(text, tokenizer, examples)
    if not len(candidates):
        raise DataError(f"{text.source}: found no piece that the backbone knows, accepted text to hide pieces of")
    return candidates


def shuffle_labels(split: EncodedSplit, seed: int) -> EncodedSplit:
    """The split with the labels of all its units permuted: the same labels as often, and nothing to learn of them."""
    return replace(split, labels=np.random.default_rng(seed).permutation(split.labels))


def choose_examples(split: EncodedSplit, limit: int | None, tokens: int | None, seed: int) -> np.ndarray:
    """Sorted examples drawn with the seed: `limit` of them, or as many as it takes to reach so many pieces.

    Raises UsageError where the split holds fewer pieces: sizes that are said to match must match.
    """
    if tokens is None:
        return split.sample(limit, seed)
    lengths = np.bincount(split.example, weights=split.lengths, minlength=split.examples).astype(np.int64)
    if lengths.sum() < tokens:
        raise UsageError(f"--match-tokens: found {tokens}, accepted at most {lengths.sum()} ({split.source})")
    order = np.random.default_rng(seed).permutation(split.examples)
    needed = int(np.searchsorted(np.cumsum(lengths[order]), tokens)) + 1
    return np.sort(order[:needed])
