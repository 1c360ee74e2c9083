"""Full fine-tuning with the part of the word embedding that training can reach.

XLM-R's vocabulary has 250,002 rows, most of a small model and half of a large one; English training data reach a few
thousand. A row without a gradient is not changed by AdamW (rows out of reach are not decayed either), so holding
gradients and optimizer states for the reachable rows alone gives the same weights, in a fraction of memory and time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from adapter_stilts.model.protocols import Model


class ReachableRows(nn.Module):
    """A word embedding that holds `rows` (sorted ids) of the whole `weight` (vocabulary, H); other ids are an error."""

    lookup: Tensor

    def __init__(self, weight: Tensor, rows: np.ndarray) -> None:
        super().__init__()
        lookup = torch.full((weight.shape[0],), -1, dtype=torch.long, device=weight.device)
        index = torch.from_numpy(rows.astype(np.int64)).to(weight.device)
        lookup[index] = torch.arange(len(rows), device=weight.device)
        self.register_buffer("lookup", lookup, persistent=False)
        self.weight = nn.Parameter(weight.detach()[index].clone())

    def forward(self, input_ids: Tensor) -> Tensor:
        """States (..., H) of ids (...)."""
        return embedding(self.lookup[input_ids], self.weight)


@contextmanager
def reachable_rows(model: Model, ids: np.ndarray) -> Iterator[None]:
    """Within the block the model's word embedding holds only the rows of `ids`; afterwards it is whole again, with the
    trained rows in place."""
    embeddings = model.roberta.embeddings
    whole = embeddings.word_embeddings
    rows = np.unique(ids)
    part = ReachableRows(whole.weight, rows)
    embeddings.word_embeddings = part
    # `adapters` keeps a second reference to the embedding (for prompt tuning), under which the whole of it would train.
    whole.weight.requires_grad_(False)
    try:
        yield
    finally:
        whole.weight.requires_grad_(True)
        embeddings.word_embeddings = whole
        with torch.no_grad():
            whole.weight[torch.from_numpy(rows.astype(np.int64)).to(whole.weight.device)] = part.weight
