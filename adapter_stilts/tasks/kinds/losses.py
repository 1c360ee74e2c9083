"""The two losses, both sums without a shape that depends on data, so that a step can be captured."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from adapter_stilts.tasks.kinds.contract import IGNORED


def class_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over units: scores (U, K), targets (U,), IGNORED where there is none."""
    return cross_entropy(scores.float(), targets, ignore_index=IGNORED, reduction="sum")


def segment_loss(scores: Tensor, segment: Tensor, gold: Tensor) -> Tensor:
    """-log softmax of the gold units, in nats, summed: the units of a segment compete with each other.

    scores (U,); segment (U,) numbers from 0 to U; gold (U,): 1 for the right unit of a segment, anything else for the
    others. A segment without a right unit adds nothing.
    """
    scores = scores.float()
    # One more than there are units: what fills up a buffer is a segment of its own.
    segments = len(scores) + 1
    top = scores.new_full((segments,), -torch.inf).scatter_reduce(0, segment, scores.detach(), "amax")
    sums = scores.new_zeros(segments).index_add(0, segment, (scores - top[segment]).exp())
    log_share = scores - top[segment] - sums[segment].log()
    return -torch.where(gold == 1, log_share, 0.0).sum()
