"""Computing in half precision on copies of float32 weights: training in bf16, predictions in either.

Autocast keeps layer norms in float32 and casts weights again in every layer of every step. Here the whole model is bf16
for as long as it trains: frozen weights are rounded once; each trained weight has a float32 master that the optimizer
holds, and is rounded anew after each update. Afterwards every tensor is float32 again, the frozen ones bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def rounded_to(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """The model in half precision for the time of the block, to predict with; the float32 tensors stay as they are."""
    tensors = [own for own in (*model.parameters(), *model.buffers()) if own.dtype == torch.float32]
    before = [own.data for own in tensors]
    try:
        for own in tensors:
            own.data = own.data.to(dtype)
        yield
    finally:
        for own, data in zip(tensors, before, strict=True):
            own.data = data


class HalfPrecision:
    """A model in bf16, the masters of its trained parameters, and its frozen tensors as they were (on the CPU)."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.trained = [own for own in model.parameters() if own.requires_grad]
        self.masters = [torch.nn.Parameter(own.detach().clone()) for own in self.trained]
        frozen = [own for own in model.parameters() if not own.requires_grad]
        frozen += [own for own in model.buffers() if own.is_floating_point()]
        self.frozen = [(own, own.detach().to("cpu", copy=True)) for own in frozen]
        # What a recorded graph reads: kept, so that it stays where it is.
        self.rounded = [(own, own.data.to(torch.bfloat16)) for own in (*self.trained, *frozen)]
        self._round()

    def masters_of(self, parameters: Sequence[Tensor]) -> list[torch.nn.Parameter]:
        """The masters of the given trained parameters of the model."""
        places = {id(own): place for place, own in enumerate(self.trained)}
        return [self.masters[places[id(own)]] for own in parameters]

    def take_gradients(self) -> None:
        """The gradients of the bf16 weights as their masters'; None where a weight has none."""
        for master, own in zip(self.masters, self.trained, strict=True):
            if own.grad is None:
                master.grad = None
            elif master.grad is None:
                master.grad = own.grad.float()
            else:
                master.grad.copy_(own.grad)

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters into the model's weights."""
        torch._foreach_copy_(
            [rounded for _, rounded in self.rounded[: len(self.trained)]], [own.data for own in self.masters]
        )

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """The model in float32 for the time of the block, to be scored in."""
        self.restore()
        try:
            yield
        finally:
            self._round()

    def _round(self) -> None:
        for own, rounded in self.rounded:
            own.data = rounded

    def restore(self) -> None:
        """The model in float32: trained weights are the masters, frozen ones what they were."""
        for own, master in zip(self.trained, self.masters, strict=True):
            own.data = master.data
        for own, before in self.frozen:
            own.data = before.to(own.device)
