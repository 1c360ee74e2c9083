"""The step as a CUDA graph: recorded once for each of a few token capacities, then replayed without Python.

At a thousand tokens a step an eager loop spends its time on launching kernels. Here forward and backward are recorded
for buffers of a fixed size (`buffers`), and clipping, AdamW and the schedule once more; a step copies its batch into
the smallest buffers that hold it and replays. A batch above the largest capacity is divided.

Without CUDA the same functions run as they are, on the same buffers: that is how the logic is tested.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from adapter_stilts.engine.batches import Batch, divide, first_position
from adapter_stilts.engine.buffers import CAPACITIES, Buffers, capacity_for
from adapter_stilts.engine.step import Regularisation, Update, Updated, parameter_groups, training_logits
from adapter_stilts.errors import StiltsError
from adapter_stilts.model.half import HalfPrecision
from adapter_stilts.model.protocols import Model
from adapter_stilts.schema import Recipe

# Runs before recording, on a stream of their own, as PyTorch asks for: kernels are chosen, workspaces allocated.
WARM_UP_RUNS = 2
# Recording takes as long as some tens of steps: a capacity is recorded when it is needed for this time. Until then a
# larger one serves where there is one, so that an epoch's last batch, of any size, has no graph of its own.
RECORD_FROM = 20


class Graph:
    """A function without arguments, called as it is until it is recorded on CUDA, and replayed from then on."""

    def __init__(self, function: Callable[[], None], pool: Any | None) -> None:
        self.function, self.pool = function, pool
        self.graph: torch.cuda.CUDAGraph | None = None

    def record(self, prepare: Callable[[], None], undo: Callable[[], None]) -> None:
        """Warm up and record; `prepare` is called before each run, and `undo` takes back what the runs did."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                prepare()
                self.function()
        torch.cuda.current_stream().wait_stream(side)
        prepare()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=self.pool):
            self.function()
        undo()

    def __call__(self) -> None:
        if self.graph is not None:
            self.graph.replay()
        else:
            self.function()


class CapturedStep(Updated):
    """`Step` by replay. `averaged`: units read several pieces; `capture` False runs the same functions unrecorded.

    With `precision` "bf16" the model computes in bf16 throughout, on copies of the float32 weights that the optimizer
    holds.
    """

    def __init__(
        self,
        model: Model,
        recipe: Recipe,
        steps: int,
        precision: str,
        regularisation: Regularisation | None = None,
        averaged: bool = False,
        checkpointing: bool = False,
        capture: bool | None = None,
        capacities: Sequence[int] = CAPACITIES,
    ) -> None:
        self.model, self.regularisation, self.averaged = model, regularisation, averaged
        self.checkpointing = checkpointing
        self.device = next(model.parameters()).device
        self.capture = self.device.type == "cuda" if capture is None else capture
        self.kind = "captured" if self.capture else "unrecorded"
        self.capacities = capacities
        self.batches_on = torch.device("cpu")
        self.first = first_position(model.config)
        groups = parameter_groups(model, recipe)
        self.half = HalfPrecision(model) if precision == "bf16" else None
        if self.half is not None:
            groups = [{**group, "params": self.half.masters_of(group["params"])} for group in groups]
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.update = Update(groups, recipe, steps)
        self.total = torch.zeros((), device=self.device)
        self.pool = torch.cuda.graph_pool_handle() if self.capture else None
        self.buffers: dict[tuple[str, int], Buffers] = {}
        self.needed: Counter[tuple[str, int]] = Counter()
        self.passes: dict[tuple[str, int], Graph] = {}
        self.updates: dict[frozenset[str], Graph] = {}
        for parameter in self.trained:
            parameter.grad = torch.zeros_like(parameter)

    def __call__(self, batches: Sequence[Batch]) -> None:
        whole = sum(batch.terms for batch in batches)
        for batch in batches:
            for part in divide(batch, max(self.capacities)):
                self._backward(part, whole)
        self.update.steps_taken += 1
        self._update(frozenset(batch.head for batch in batches))()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        super().load_state(state)
        if self.half is not None:
            self.half.publish()

    def in_float32(self) -> AbstractContextManager[None]:
        return nullcontext() if self.half is None else self.half.suspended()

    def close(self) -> None:
        for parameter in self.trained:
            parameter.grad = None
        if self.half is not None:
            self.half.restore()
        self.passes.clear()
        self.updates.clear()

    def _capacity(self, batch: Batch) -> int:
        """The smallest capacity that holds the batch, or the next larger one that is there already."""
        capacity = capacity_for(batch.tokens, self.capacities)
        if capacity is None:
            example = f"an example of {batch.tokens:,} pieces, whose parts compete"
            raise StiltsError(f"{example}: a captured step holds {max(self.capacities):,}, accepted with --step eager")
        if (batch.head, capacity) not in self.buffers:
            self.needed[batch.head, capacity] += 1
            larger = [other for head, other in self.buffers if head == batch.head and other > capacity]
            if larger and self.needed[batch.head, capacity] < RECORD_FROM:
                return min(larger)
        return capacity

    def _backward(self, batch: Batch, terms: int) -> None:
        key = batch.head, self._capacity(batch)
        if key not in self.buffers:
            self.buffers[key] = Buffers(batch.use, key[1], self.averaged, self.device)
        buffers = self.buffers[key]
        filled = buffers.fill(batch, self.first, terms)
        if not self.capture:
            self._forward_backward(filled, buffers.terms)
            return
        if key not in self.passes:
            gradients = [parameter.grad.clone() for parameter in self.trained if parameter.grad is not None]
            total = self.total.clone()

            def undo() -> None:
                for parameter, gradient in zip(self.trained, gradients, strict=True):
                    if parameter.grad is not None:
                        parameter.grad.copy_(gradient)
                self.total.copy_(total)

            graph = Graph(lambda: self._forward_backward(filled, buffers.terms), self.pool)
            graph.record(lambda: None, undo)
            self.passes[key] = graph
        self.passes[key]()

    def _forward_backward(self, batch: Batch, terms: Tensor) -> None:
        loss = batch.loss(training_logits(self.model, batch, self.checkpointing)) / terms
        loss.backward()
        self.total += loss.detach()

    def _update(self, heads: frozenset[str]) -> Graph:
        """The update of what the given heads' batches reach: the other heads have no gradient and stay as they are."""
        if heads not in self.updates:
            graph = Graph(lambda: self._optimize(heads), self.pool)
            if self.capture:
                broken, step = self.update.broken.clone(), self.update.step.clone()
                history = self.update.history.clone()
                gradients = [parameter.grad.clone() for parameter in self.trained if parameter.grad is not None]
                total = self.total.clone()

                def prepare() -> None:
                    # A broken step makes the optimizer's states without changing a weight.
                    self.update.broken.fill_(1.0)

                def undo() -> None:
                    self.update.broken.copy_(broken)
                    self.update.step.copy_(step)
                    self.update.history.copy_(history)
                    for parameter, gradient in zip(self.trained, gradients, strict=True):
                        if parameter.grad is not None:
                            parameter.grad.copy_(gradient)
                    self.total.copy_(total)

                graph.record(prepare, undo)
            self.updates[heads] = graph
        return self.updates[heads]

    def _optimize(self, heads: frozenset[str]) -> None:
        if self.regularisation is not None and (penalty := self.regularisation(self.model)) is not None:
            penalty.backward()
        with _without_gradients(self.model, heads):
            if self.half is not None:
                self.half.take_gradients()
            self.update.run(self.total)
            if self.half is not None:
                self.half.publish()
        torch._foreach_zero_([parameter.grad for parameter in self.trained if parameter.grad is not None])
        self.total.zero_()


@contextmanager
def _without_gradients(model: Model, heads: frozenset[str]) -> Iterator[None]:
    """Within the block the heads that are not given have no gradient, so that the optimizer passes over them."""
    names = [name for name in model.heads if name not in heads]
    parameters = [weight for name in names for weight in model.heads[name].parameters() if weight.requires_grad]
    gradients = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
