"""What plain `adapters` gives on padded batches, to compare packed rows with."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from adapter_stilts.tasks.encode import EncodedSplit


def padded_logits(model: Any, split: EncodedSplit, kind: str = "tagging") -> Tensor:
    """Logits (U, labels) of a plain padded forward, one row a unit (single pieces), in the order of the split."""
    ids = [
        torch.as_tensor(ids_of_sentence)
        for ids_of_sentence in torch.from_numpy(split.ids).long().split(split.lengths.tolist())
    ]
    padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=1)
    mask = torch.nn.utils.rnn.pad_sequence(
        [torch.ones_like(ids_of_sentence) for ids_of_sentence in ids], batch_first=True
    )
    logits = model(padded, attention_mask=mask).logits
    if kind == "classification":
        return logits
    row = torch.arange(len(ids)).repeat_interleave(torch.as_tensor(split.unit_offsets).diff())
    return logits[row, torch.as_tensor(split.starts).long()]


def gradients(model: Any, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    cross_entropy(logits, labels).backward()
    return {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is not None
    }
