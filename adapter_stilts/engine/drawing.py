"""Batches of a part of the training data, and which pieces they can have."""

from __future__ import annotations

import numpy as np
import torch

from adapter_stilts.engine.batches import Batch, first_position, pack
from adapter_stilts.engine.masking import mask_batch
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import TrainingData, TrainingPart


def reachable_ids(job: Job, data: TrainingData) -> np.ndarray:
    """Every piece id that training or development scoring can look up."""
    ids = np.unique(np.concatenate([part.ids for part in data.parts]))
    masked = any(part.candidates is not None for part in data.parts)
    return np.union1d(ids, [job.backbone.tokenizer.mask_token_id]) if masked else ids


def make_batch(
    job: Job,
    part: TrainingPart,
    sequences: np.ndarray,
    device: torch.device,
    rng: np.random.Generator,
    development: bool = False,
) -> Batch:
    """One packed batch of a part; of masked language modelling with its pieces hidden, drawn with `rng`."""
    split = part.development if development else part.train
    assert split is not None
    batch = pack(split, sequences, part.head, first_position(job.backbone.config), device)
    if part.candidates is None:
        return batch
    return mask_batch(batch, part.candidates, job.backbone.tokenizer.mask_token_id, rng)
