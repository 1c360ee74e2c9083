"""One optimizer step over packed batches: forward, backward, clipping, AdamW, schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from adapter_stilts.engine.batches import Batch, divide_evenly
from adapter_stilts.engine.streams import Streams, parts_of_batch
from adapter_stilts.errors import StiltsError
from adapter_stilts.model.compiled import forget_compiled, is_compiled
from adapter_stilts.model.dropout import draws_from
from adapter_stilts.model.heads import head_logits, unit_states
from adapter_stilts.model.packing import encode_packed
from adapter_stilts.model.parts import part_of
from adapter_stilts.model.protocols import Model
from adapter_stilts.model.tensors import check_alike
from adapter_stilts.runs.record import Executed, StepKind
from adapter_stilts.schema import Recipe

Regularisation = Callable[[Model], Tensor | None]
_ADAMW_STATE = ("step", "exp_avg", "exp_avg_sq")
# What AdamW counts the steps of a parameter with.
_NO_STEP = torch.zeros(())


def batch_logits(model: Model, batch: Batch, checkpointing: bool = False) -> Tensor:
    """Logits (U, labels) of a batch's units under the model's active adapters and the batch's head."""
    row = batch.input_ids, batch.position_ids, batch.layout
    pieces = encode_packed(model, *row, read=batch.pieces, checkpointing=checkpointing)
    return head_logits(model, batch.head, unit_states(pieces, batch))


def training_logits(model: Model, batch: Batch, checkpointing: bool = False) -> Tensor:
    """`batch_logits`; where compiled layers fail, which is noticed at their first call, the model goes on without."""
    try:
        return batch_logits(model, batch, checkpointing)
    except Exception as error:  # a compiler's errors have no common class
        if not is_compiled(model):
            raise
        forget_compiled(model, error)
        return batch_logits(model, batch, checkpointing)


def learning_rate_share(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step (counted from 0): linear warm-up over the first `warmup` share of the
    steps, then linear decay, so that the step after the last would have none."""
    rising = math.ceil(steps * warmup)
    if step < rising:
        return (step + 1) / rising
    return (steps - step) / (steps - rising)


class Step(Protocol):
    """One optimizer step over packed batches, and the losses of the steps that were taken.

    The loss is that of the batches' kind, the mean over all units (or what they compete within: `Batch.terms`) of the
    step's batches, however the step is divided into batches:
    accumulation changes memory, not the gradient; `regularisation` (a function of the model, or None) is added to it.
    A loss or gradient that is not finite changes no weight, in that step or in any after it; `losses` tells of it.
    `batches_on` is the device on which it wants its batches.
    """

    batches_on: torch.device

    def __call__(self, batches: Sequence[Batch]) -> None:
        """Take one step."""

    def losses(self) -> list[float]:
        """Mean losses, in nats, of the steps since the last call, which waits for the device.

        Raises NotFinite for the first one whose loss or gradient is not finite.
        """

    def weights(self) -> list[torch.nn.Parameter]:
        """The trained weights in float32, which the optimizer holds."""

    def state(self) -> dict[str, Tensor]:
        """Everything that decides the steps to come, by name: weights, optimizer, position in the schedule, losses so
        far. The next step changes these very tensors: write them down before it."""

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Raise StiltsError, and change nothing, for the state of another model."""

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where the step was that gave this state. Raises as `check_state` does."""

    def executed(self) -> Executed:
        """How the steps have been computed, for the run's record."""

    def in_float32(self) -> AbstractContextManager[None]:
        """The model computes in float32 for the time of the block, with the weights of now."""

    def close(self) -> None:
        """Leave the trained weights in the model, and the frozen ones as they were."""


class Updated:
    """What a step tells of its update, and of itself."""

    update: Update
    model: Model
    checkpointing: bool
    kind: StepKind

    def losses(self) -> list[float]:
        return self.update.losses()

    def weights(self) -> list[torch.nn.Parameter]:
        return self.update.parameters

    def state(self) -> dict[str, Tensor]:
        return self.update.state()

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        self.update.check_state(state)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.update.load_state(state)

    def executed(self) -> Executed:
        # Asked at the end: compiling may have failed at the first call.
        return Executed(step=self.kind, compiled=is_compiled(self.model), checkpointing=self.checkpointing)


class EagerStep(Updated):
    """The step as PyTorch runs it, operation by operation; `precision` "bf16" computes under autocast. On a CPU the
    parts of a batch are computed side by side (`Streams`)."""

    kind = "eager"

    def __init__(
        self,
        model: Model,
        recipe: Recipe,
        steps: int,
        precision: str,
        regularisation: Regularisation | None = None,
        checkpointing: bool = False,
    ) -> None:
        self.model, self.precision, self.regularisation = model, precision, regularisation
        self.checkpointing = checkpointing
        self.update = Update(parameter_groups(model, recipe), recipe, steps)
        self.device = self.batches_on = next(model.parameters()).device
        self.total = torch.zeros((), device=self.device)
        self.streams = Streams(self.device)

    def __call__(self, batches: Sequence[Batch]) -> None:
        terms = sum(batch.terms for batch in batches)
        self.total.zero_()
        self.update.optimizer.zero_grad(set_to_none=True)
        parts = [part for batch in batches for part in self._parts(batch)]
        # Drawn here, whatever threads there are: one source for each part.
        seeds = torch.randint(2**62, (len(parts),)).tolist() if self.device.type == "cpu" else [None] * len(parts)
        work = zip(parts, seeds, [terms] * len(parts), strict=True)
        # In the order of the parts, so that sums do not depend on which was ready first.
        for loss, gradients in self.streams.map(lambda arguments: self._forward_backward(*arguments), work):
            self.total += loss
            add_gradients(self.update.parameters, gradients)
        if self.regularisation is not None and (penalty := self.regularisation(self.model)) is not None:
            penalty.backward()
        self.update(self.total)

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        """What is computed side by side: on a CPU, unless the layers are compiled, which threads cannot share."""
        single = self.device.type != "cpu" or is_compiled(self.model)
        return divide_evenly(batch, 1 if single else parts_of_batch(batch.tokens))

    def _forward_backward(self, batch: Batch, seed: int | None, terms: int) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """A part's share of the loss, and its gradients of the trained weights; dropout draws from the seed."""
        drawn = None if seed is None else torch.Generator().manual_seed(seed)
        with draws_from(drawn):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                logits = training_logits(self.model, batch, self.checkpointing)
            loss = batch.loss(logits) / terms
            return loss.detach(), torch.autograd.grad(loss, self.update.parameters, allow_unused=True)

    def in_float32(self) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        self.streams.close()


def add_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Add to what the parameters have, in new tensors: autograd may give one tensor to two parameters, and clipping
    works in place."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad + gradient


class Update:
    """Clipping, AdamW and the schedule on the gradients that a backward pass left, without a value on the host: it can
    be captured. Step counts, losses and whether one was not finite stay on the device until they are asked for."""

    def __init__(self, groups: Sequence[dict[str, Any]], recipe: Recipe, steps: int) -> None:
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        device = self.parameters[0].device
        self.clip = recipe.clip
        # The schedule as a tensor: the step's position in it is on the device too.
        shares = [learning_rate_share(step, steps, recipe.warmup) for step in range(steps)]
        self.shares = torch.tensor([*shares, 0.0], device=device)
        self.peaks = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = torch.tensor(0.0, device=device)
        self.optimizer = torch.optim.AdamW(groups, eps=1e-8, fused=True, capturable=device.type == "cuda")
        # PyTorch's own way to have a fused optimizer skip a step (it is how loss scaling does).
        self.broken = torch.zeros((), device=device)
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        self.optimizer.found_inf = self.broken  # type: ignore[attr-defined]
        self.step = torch.zeros((), dtype=torch.long, device=device)
        self.history = torch.zeros(steps + 1, 2, device=device)
        # Steps whose losses have been asked for, and all of them.
        self.steps_reported = self.steps_taken = 0

    def __call__(self, loss: Tensor) -> None:
        """Take the step on the parameters' gradients; what has none stays as it is. `loss` () is the step's."""
        self.steps_taken += 1
        self.run(loss)

    def run(self, loss: Tensor) -> None:
        """What happens on the device."""
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip, foreach=True)
        self.broken.copy_(torch.maximum(self.broken, (~(loss + norm).isfinite()).float()))
        self.history.index_copy_(0, self.step[None], torch.stack([loss, norm])[None])
        share = self.shares.index_select(0, self.step[None]).squeeze(0)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"].copy_(share * peak)
        self.optimizer.step()
        self.step += 1

    def losses(self) -> list[float]:
        """As `Step.losses`."""
        rows = self.history[self.steps_reported : self.steps_taken].tolist()
        for step, (loss, norm) in enumerate(rows, self.steps_reported):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise NotFinite(step, loss, norm)
        self.steps_reported = self.steps_taken
        return [loss for loss, _ in rows]

    def state(self) -> dict[str, Tensor]:
        """As `Step.state`; the number of steps taken is that of the losses."""
        state = {"history": self.history[: self.steps_taken], "broken": self.broken}
        for index, parameter in enumerate(self.parameters):
            state[f"weight.{index}"] = parameter.detach()
            adamw_state = self.optimizer.state.get(parameter, {})
            state |= {f"{key}.{index}": value for key, value in adamw_state.items()}
        return state

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """As `Step.load_state`; losses up to then count as told."""
        self.check_state(state)
        for index, parameter in enumerate(self.parameters):
            parameter.copy_(state[f"weight.{index}"])
            # Copies: fused AdamW changes them in place. What had no gradient yet has no state.
            if f"step.{index}" in state:
                self.optimizer.state[parameter] = {
                    key: state[f"{key}.{index}"].to(parameter.device, copy=True) for key in _ADAMW_STATE
                }
        self.steps_taken = self.steps_reported = len(state["history"])
        self.history[: self.steps_taken] = state["history"].to(self.history.device)
        self.step.fill_(self.steps_taken)
        self.broken.copy_(state["broken"])

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """As `Step.check_state`."""
        accepted = {"history": self.history[: len(state.get("history", ()))], "broken": self.broken}
        for index, parameter in enumerate(self.parameters):
            accepted[f"weight.{index}"] = parameter
            if any(f"{key}.{index}" in state for key in _ADAMW_STATE):
                accepted |= {f"step.{index}": _NO_STEP, f"exp_avg.{index}": parameter, f"exp_avg_sq.{index}": parameter}
        check_alike(accepted, state)
        if len(state["history"]) >= len(self.history):
            raise StiltsError(f"history: found {len(state['history'])} steps, accepted up to {len(self.history) - 1}")


def parameter_groups(model: Model, recipe: Recipe) -> list[dict[str, Any]]:
    """AdamW's groups of the trainable parameters: fusion has a learning rate of its own; biases and layer norms are not
    decayed, as in BERT's recipe."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            fusion = part_of(name).startswith("fusion ")
            rate = (recipe.fusion_learning_rate if fusion else None) or recipe.learning_rate
            decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]


class NotFinite(StiltsError):
    """A loss or gradient that is not finite, in the step of that number, counted from 0."""

    def __init__(self, step: int, loss: float, norm: float) -> None:
        self.step = step
        super().__init__(f"step {step + 1}: found loss {loss} and gradient norm {norm}, both must be finite")
