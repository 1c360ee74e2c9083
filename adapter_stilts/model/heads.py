"""Prediction heads on packed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from adapter_stilts.model.protocols import Model

if TYPE_CHECKING:
    from adapter_stilts.engine.batches import Batch


def unit_states(pieces: Tensor, batch: Batch) -> Tensor:
    """States (U, H) of a batch's units: the mean over the pieces that each unit reads, of their states `pieces`
    (P, H)."""
    if batch.unit_of_piece is None or batch.pieces_of_unit is None:
        return pieces
    sums = torch.zeros(len(batch.pieces_of_unit), pieces.shape[1], dtype=pieces.dtype, device=pieces.device)
    return sums.index_add(0, batch.unit_of_piece, pieces) / batch.pieces_of_unit[:, None].to(pieces.dtype)


def head_logits(model: Model, name: str, states: Tensor) -> Tensor:
    """Logits (U, labels) of the head `name` for unit states (U, H), in the form of its kind.

    `adapters` heads are `nn.Sequential`s whose own forward first looks for the states in a padded batch; here they are
    already picked, so only the layers run.
    """
    head = model.heads[name]
    return nn.Sequential.forward(head, states) if isinstance(head, nn.Sequential) else head(states)
