"""The sentences that all contenders of a comparison see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import TrainingData
from adapter_stilts.tasks.data import MissingData
from adapter_stilts.tasks.encode import EncodedSplit, concatenate, encode_split
from benchmarks.measuring import Sample
from benchmarks.peers import peer_rows

SEED = 0


def shuffled_examples(split: EncodedSplit) -> np.ndarray:
    """Examples of one window in random order: one of several is several sentences to a peer."""
    whole = np.flatnonzero(np.bincount(split.example, minlength=split.examples) == 1)
    return np.random.default_rng(SEED).permutation(whole)


def draw_examples(split: EncodedSplit, sentences_a_step: int, steps: int) -> np.ndarray:
    """The first `sentences_a_step * steps` of them. Raises UsageError where there are not enough."""
    examples = shuffled_examples(split)
    if len(examples) < sentences_a_step * steps:
        most = len(examples) // sentences_a_step
        raise UsageError(f"--steps: found {steps}, accepted: at most {most} ({len(examples)} sentences of one window)")
    return examples[: sentences_a_step * steps]


def make_sample(data: TrainingData, examples: np.ndarray) -> Sample:
    """The sample of these examples, which the peers' rows keep in order; they label the pieces that our units read. Of
    an example of several windows each is a row."""
    (part,) = data.tasks
    split = part.train
    order = np.argsort(split.example, kind="stable")
    firsts, ends = (np.searchsorted(split.example, examples, side=side, sorter=order) for side in ("left", "right"))
    sequences = np.concatenate([order[first:end] for first, end in zip(firsts, ends, strict=True)])
    by_length = sequences[np.argsort(split.lengths[sequences], kind="stable")]
    chosen = TrainingData((replace(part, train_examples=examples),))
    lengths = tuple(int(length) for length in split.lengths[by_length])
    return Sample(chosen, peer_rows(split, sequences), peer_rows(split, by_length), lengths)


def language_sample(job: Job, data: TrainingData, limit: int | None) -> tuple[Sample, list[str]]:
    """Test sentences of all the task's languages that are present, as one stream, and which languages those are; at
    most `limit` sentences of each. Raises StiltsError where there is no language."""
    (part,) = data.tasks
    splits, codes = [], []
    for code in job.task.data.languages:
        try:
            splits.append(encode_split(job.task, code, "test", job.backbone.tokenizer, part.labels, job.mirror))
        except MissingData:
            continue
        codes.append(code)
    if not splits:
        raise StiltsError(f"{job.task.name}: found no test data in any language, accepted with --hub-mirror DIR")
    firsts = np.cumsum([0, *(split.examples for split in splits[:-1])])
    examples = [first + split.sample(limit, SEED) for first, split in zip(firsts, splits, strict=True)]
    whole = TrainingData((replace(part, train=concatenate(splits)),))
    return make_sample(whole, np.concatenate(examples)), codes
