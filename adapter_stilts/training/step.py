"""One optimizer step over packed batches: forward, backward, clipping, AdamW, schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from adapter_stilts.errors import StiltsError
from adapter_stilts.model.arrangement import part_of
from adapter_stilts.model.heads import head_logits, unit_states
from adapter_stilts.model.packing import encode_packed
from adapter_stilts.schema import Recipe
from adapter_stilts.training.batches import Batch


def batch_logits(model: Any, batch: Batch) -> Tensor:
    """Logits (U, labels) of a batch's units under the model's active adapters and the batch's head."""
    states = encode_packed(model, batch.input_ids, batch.position_ids, batch.layout)
    return head_logits(model, batch.head, unit_states(states, batch))


def learning_rate_share(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step (counted from 0): linear warm-up over the first `warmup` share of the
    steps, then linear decay, so that the step after the last would have none."""
    rising = math.ceil(steps * warmup)
    if step < rising:
        return (step + 1) / rising
    return (steps - step) / (steps - rising)


class EagerStep:
    """The step as PyTorch runs it, operation by operation.

    The loss is the mean cross-entropy over all units of the step's batches, however the step is divided into batches:
    accumulation changes memory, not the gradient; `regularisation` (a function of the model, or None) is added to it.
    `precision` "bf16" computes under autocast; trained weights and optimizer stay float32.
    """

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        steps: int,
        precision: str,
        regularisation: Callable[[Any], Tensor | None] | None = None,
    ) -> None:
        self.model, self.recipe, self.steps, self.precision = model, recipe, steps, precision
        self.regularisation = regularisation
        self.done = 0
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = parameter_groups(model, recipe)
        self.peak_rates = [group["lr"] for group in groups]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, eps=1e-8, fused=True)

    def __call__(self, batches: Sequence[Batch]) -> float:
        """Train on the batches of one step; returns the mean loss of its units, in nats.

        Raises StiltsError, before any weight changes, where the loss or the gradient is not finite.
        """
        units = sum(len(batch.labels) for batch in batches)
        total = torch.zeros((), device=batches[0].input_ids.device)
        self.optimizer.zero_grad(set_to_none=True)
        if self.regularisation is not None and (penalty := self.regularisation(self.model)) is not None:
            penalty.backward()
        for batch in batches:
            with torch.autocast(batch.input_ids.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                logits = batch_logits(self.model, batch)
            loss = cross_entropy(logits.float(), batch.labels, reduction="sum") / units
            loss.backward()
            total += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip, foreach=True)
        loss_value, norm_value = total.item(), norm.item()
        if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
            raise NotFinite(self.done + 1, loss_value, norm_value)
        share = learning_rate_share(self.done, self.steps, self.recipe.warmup)
        for group, peak in zip(self.optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak * share
        self.optimizer.step()
        self.done += 1
        return loss_value


def parameter_groups(model: Any, recipe: Recipe) -> list[dict[str, Any]]:
    """AdamW's groups of the trainable parameters: fusion has a learning rate of its own; biases and layer norms are not
    decayed, as in BERT's recipe."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            fusion = part_of(name).startswith("fusion ")
            rate = (recipe.fusion_learning_rate if fusion else None) or recipe.learning_rate
            decay = recipe.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": own, "lr": rate, "weight_decay": decay} for (rate, decay), own in groups.items()]


class NotFinite(StiltsError):
    """A loss or gradient that is not finite."""

    def __init__(self, step: int, loss: float, norm: float) -> None:
        super().__init__(f"step {step}: found loss {loss} and gradient norm {norm}, both must be finite")
