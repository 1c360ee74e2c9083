"""Computing in half precision on copies of float32 weights: training in bf16, predictions in either.

Autocast keeps layer norms in float32 and casts weights again in every layer of every step. Here the whole model is bf16
for as long as it trains: frozen weights are rounded once; each trained weight has a float32 master that the optimizer
holds, and is rounded anew after each update. Afterwards every tensor is float32 again, the frozen ones bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from adapter_stilts.model.protocols import Model


@contextmanager
def rounded_to(model: Model, dtype: torch.dtype) -> Iterator[None]:
    """The model in half precision for the time of the block, to predict with; the float32 tensors stay as they are."""
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.dtype == torch.float32]
    before = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.to(dtype)
        yield
    finally:
        for tensor, data in zip(tensors, before, strict=True):
            tensor.data = data


class HalfPrecision:
    """A model in bf16, the masters of its trained parameters, and its frozen tensors as they were (on the CPU)."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.masters = [torch.nn.Parameter(parameter.detach().clone()) for parameter in self.trained]
        frozen: list[Tensor] = [parameter for parameter in model.parameters() if not parameter.requires_grad]
        frozen += [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.frozen = [(tensor, tensor.detach().to("cpu", copy=True)) for tensor in frozen]
        # What a recorded graph reads: kept, so that it stays where it is.
        self.rounded = [(tensor, tensor.data.to(torch.bfloat16)) for tensor in (*self.trained, *frozen)]
        self._round()

    def masters_of(self, parameters: Sequence[Tensor]) -> list[torch.nn.Parameter]:
        """The masters of the given trained parameters of the model."""
        indices = {id(parameter): index for index, parameter in enumerate(self.trained)}
        return [self.masters[indices[id(parameter)]] for parameter in parameters]

    def take_gradients(self) -> None:
        """The gradients of the bf16 weights as their masters'; None where a weight has none."""
        for master, parameter in zip(self.masters, self.trained, strict=True):
            if parameter.grad is None:
                master.grad = None
            elif master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad.copy_(parameter.grad)

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters into the model's weights."""
        torch._foreach_copy_(
            [rounded for _, rounded in self.rounded[: len(self.trained)]], [master.data for master in self.masters]
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
        for tensor, rounded in self.rounded:
            tensor.data = rounded

    def restore(self) -> None:
        """The model in float32: trained weights are the masters, frozen ones what they were."""
        for parameter, master in zip(self.trained, self.masters, strict=True):
            parameter.data = master.data
        for tensor, before in self.frozen:
            tensor.data = before.to(tensor.device)
