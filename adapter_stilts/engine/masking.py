"""Masking as in BERT: which pieces of a batch are hidden, and what stands in their place.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805, section 3.1; drawn anew for each batch, as in RoBERTa.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapter_stilts.engine.batches import Batch
from adapter_stilts.tasks.encode import EncodedSplit

MASKED_SHARE = 0.15
# Of the pieces that are asked for: `<mask>`, another piece, and the rest as they are, so that the encoder cannot tell
# by `<mask>` alone which states are read.
HIDDEN_SHARE, REPLACED_SHARE = 0.8, 0.1


def candidate_ids(split: EncodedSplit, tokenizer: Any, examples: np.ndarray | None = None) -> np.ndarray:
    """Sorted ids (C,) of all pieces of the split's examples (None: all) but the tokenizer's special ones (`<unk>`
    too)."""
    ids = split.ids
    if examples is not None:
        used = np.isin(np.arange(len(split.lengths)), split.sequences_of(examples))
        ids = ids[np.repeat(used, split.lengths)]
    return np.setdiff1d(ids, tokenizer.all_special_ids).astype(np.int64)


def mask_batch(batch: Batch, candidates: np.ndarray, mask_id: int, rng: np.random.Generator) -> Batch:
    """The batch with 15% of its pieces asked for, each drawn on its own and at least one: of these 80% become `<mask>`,
    10% a random candidate, 10% stay.

    `pieces` (P,) are their positions and `labels` (P,) their places in `candidates` (sorted ids). The first and the
    last piece of a sequence, and pieces that are no candidates, are never drawn; P is 0 where there is no other. The
    same `rng` gives the same batch on every device.
    """
    ids = batch.input_ids.cpu().numpy().copy()
    may = np.isin(ids, candidates)
    ends = np.cumsum(batch.layout.lengths)
    may[ends - np.asarray(batch.layout.lengths)] = False
    may[ends - 1] = False
    positions = _draw_positions(np.flatnonzero(may), rng)
    labels = np.searchsorted(candidates, ids[positions])
    fate = rng.random(len(positions))
    others = rng.choice(candidates, len(positions))
    hidden = fate < HIDDEN_SHARE
    replaced = ~hidden & (fate < HIDDEN_SHARE + REPLACED_SHARE)
    ids[positions[hidden]] = mask_id
    ids[positions[replaced]] = others[replaced]

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(batch.input_ids.device)

    return replace(
        batch,
        input_ids=tensor(ids),
        pieces=tensor(positions),
        unit_of_piece=None,
        pieces_of_unit=None,
        labels=tensor(labels),
    )


def _draw_positions(eligible: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each with the share's probability; one of them at random where that leaves none."""
    drawn = eligible[rng.random(len(eligible)) < MASKED_SHARE]
    return drawn if len(drawn) or not len(eligible) else rng.choice(eligible, 1)
