"""Batches of a job's tasks, with the targets that their kind draws for each."""

from __future__ import annotations

import numpy as np
import torch

from adapter_stilts.engine.batches import Batch, first_position, pack
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import TrainingData, TrainingPart
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.tasks.tokenizer import Tokenizer


def make_batch(
    job: Job,
    part: TrainingPart,
    sequences: np.ndarray,
    device: torch.device,
    rng: np.random.Generator,
    development: bool = False,
) -> Batch:
    """One packed batch of a part; where its kind draws targets, they are drawn with `rng`."""
    split: EncodedSplit | None = part.development if development else part.train
    assert split is not None
    batch = pack(split, sequences, part.use, first_position(job.backbone.config), device)
    draw = part.use.kind.draw
    return batch if draw is None else draw(batch, part.prepared, job.backbone.tokenizer, rng)


def reachable_ids(job: Job, data: TrainingData) -> np.ndarray:
    """Every piece id that training or development scoring can look up."""
    ids = np.unique(np.concatenate([part.ids for part in data.parts]))
    tokenizer: Tokenizer = job.backbone.tokenizer
    drawn = any(part.use.kind.draw is not None for part in data.parts)
    return np.union1d(ids, [tokenizer.mask_token_id]) if drawn else ids


def reads_several_pieces(data: TrainingData) -> bool:
    """Whether a unit of the training data is the mean of several pieces."""
    return any(bool((part.train.ends - part.train.starts > 1).any()) for part in data.parts)
