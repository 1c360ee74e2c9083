"""What a job trains on: its tasks' encoded splits, and which of their examples are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from adapter_stilts.errors import UsageError
from adapter_stilts.jobs.job import MIXED_IN_HEAD, Job, adapter_name
from adapter_stilts.schema import Task
from adapter_stilts.tasks.encode import EncodedSplit, concatenate, encode_split
from adapter_stilts.tasks.inventory import label_inventory
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.kinds.contract import HeadUse

# Which development examples are scored, where a recipe asks for a part of them, is the same for every run.
DEVELOPMENT_SAMPLE_SEED = 0


@dataclass(frozen=True)
class TrainingPart:
    """One task of a job: training data under one head, and English development data (None: not scored).

    `prepared` is what the kind needs of the training data (`Kind.prepare`; None: nothing). `share` is that of the
    steps, where the task is mixed in with others (None: it is one of them).
    """

    task: Task
    head: str
    labels: tuple[str, ...]
    train: EncodedSplit
    train_examples: np.ndarray
    development: EncodedSplit | None
    development_examples: np.ndarray
    prepared: Any
    share: float | None = None

    @cached_property
    def use(self) -> HeadUse:
        """What its batches are made for."""
        return HeadUse(self.head, find_kind(self.task.kind))

    @property
    def ids(self) -> np.ndarray:
        """Every piece id that training or development scoring can look up, but for those that the kind draws."""
        return np.union1d(self.train.ids, [] if self.development is None else self.development.ids).astype(np.int64)


@dataclass(frozen=True)
class TrainingData:
    """The tasks of a job, and what is mixed in."""

    parts: tuple[TrainingPart, ...]

    @property
    def tasks(self) -> tuple[TrainingPart, ...]:
        """The job's own tasks."""
        return tuple(part for part in self.parts if part.share is None)

    @property
    def mixed_in(self) -> tuple[TrainingPart, ...]:
        """What is mixed in with them."""
        return tuple(part for part in self.parts if part.share is not None)


def load_training_data(job: Job) -> TrainingData:
    """All splits, encoded; the training examples are drawn with the run's seed."""
    parts = [_load_task(job, task) for task in job.tasks]
    return TrainingData((*parts, *([] if job.mixed_in is None else [_load_mixed_in(job)])))


def _load_task(job: Job, task: Task) -> TrainingPart:
    labels = label_inventory(task, job.mirror)
    train = _encoded(job, task, job.languages or (task.train_language,), labels)
    if job.control == "shuffled":
        train = shuffle_labels(train, task.kind, job.seed)
    examples = choose_examples(train, job.limit, job.match_tokens, job.seed)
    development = encode_split(task, task.train_language, "validation", job.backbone.tokenizer, labels, job.mirror)
    chosen = development.sample(job.recipe.development_examples, DEVELOPMENT_SAMPLE_SEED)
    prepared = _prepared(job, task, train, examples)
    return TrainingPart(task, adapter_name(task.name), labels, train, examples, development, chosen, prepared)


def _load_mixed_in(job: Job) -> TrainingPart:
    assert job.mixed_in is not None
    task, labels = job.mixed_in.task, label_inventory(job.mixed_in.task, job.mirror)
    train = _encoded(job, task, job.mixed_in.languages, labels)
    # As much text as a task has examples; a head over fewer pieces costs less.
    examples = choose_examples(train, job.limit, job.match_tokens, job.seed)
    prepared, share = _prepared(job, task, train, examples), job.recipe.mlm_share
    return TrainingPart(task, MIXED_IN_HEAD, labels, train, examples, None, np.arange(0), prepared, share)


def _encoded(job: Job, task: Task, languages: Sequence[str], labels: Sequence[str]) -> EncodedSplit:
    tokenizer = job.backbone.tokenizer
    return concatenate([encode_split(task, code, "train", tokenizer, labels, job.mirror) for code in languages])


def _prepared(job: Job, task: Task, train: EncodedSplit, examples: np.ndarray) -> Any:
    prepare = find_kind(task.kind).prepare
    return None if prepare is None else prepare(train, job.backbone.tokenizer, examples)


def shuffle_labels(split: EncodedSplit, kind: str, seed: int) -> EncodedSplit:
    """The split with targets that teach nothing of it, as the kind shuffles them."""
    shuffle = find_kind(kind).shuffle
    assert shuffle is not None  # refused before: see jobs.refusals
    return replace(split, targets=shuffle(split, seed))


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
