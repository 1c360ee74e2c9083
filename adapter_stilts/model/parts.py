"""The parts of a built model: which tensors are theirs, which of them train, and which are active.

A model is a set of parts: the backbone, adapters, a fusion, heads. Every parameter belongs to exactly one of them by
its name, so what an arrangement says can be compared with what a built model is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from adapters.composition import Fuse, Stack

from adapter_stilts.errors import FailedTraining, StiltsError
from adapter_stilts.model.arrangement import BACKBONE, Arrangement
from adapter_stilts.model.composition import PEFT_METHODS
from adapter_stilts.model.peft_adapters import activate_peft
from adapter_stilts.model.protocols import Model

_PART_NAMES = (
    (re.compile(r"^heads\.([^.]+)\."), "head {}"),
    (re.compile(r"\.adapter_fusion_layer\.([^.]+)\."), "fusion {}"),
    (re.compile(r"\.adapters\.([^.]+)\."), "adapter {}"),
    (re.compile(r"\.shared_parameters\.([^.]+)\."), "adapter {}"),
    (re.compile(r"\.(?:lora_A|lora_B|lora_magnitude_vector|ia3_l)\.([^.]+)(?:\.|$)"), "adapter {}"),
)


@dataclass(frozen=True)
class Part:
    """One part of a built model: whether it trains, and how large it is."""

    name: str
    trains: bool
    tensors: int
    parameters: int


def part_of(parameter: str) -> str:
    """The part that the parameter of that name belongs to."""
    for pattern, name in _PART_NAMES:
        if match := pattern.search(parameter):
            return name.format(match[1])
    return BACKBONE


def parts_of(model: Model) -> list[Part]:
    """The parts of a built model, in the order in which its parameters come; a part with a frozen tensor is frozen."""
    tensors: dict[str, list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        tensors.setdefault(part_of(name), []).append(parameter)
    return [
        Part(name, all(tensor.requires_grad for tensor in parts), len(parts), sum(tensor.numel() for tensor in parts))
        for name, parts in tensors.items()
    ]


def set_trainable(model: Model, arrangement: Arrangement) -> None:
    """Let train what the arrangement says, freeze the rest, and check that the model is what the arrangement says.

    Raises StiltsError for a part that the model lacks, or that it has and the arrangement does not (an intermediate's
    head, say).
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(part_of(name) in arrangement.trained)
    present = {part.name for part in parts_of(model)}
    for what, names in (("lacks", arrangement.parts - present), ("has besides", present - arrangement.parts)):
        if names:
            raise StiltsError(
                f"{arrangement.method} {arrangement.composition}: the model {what} {', '.join(sorted(names))}"
            )


_BITS = {4: torch.int32, 2: torch.int16}


class FrozenWeights:
    """Remembers a checksum of every frozen tensor, so that training can prove that it changed none of them."""

    def __init__(self, model: Model) -> None:
        self.sums = self._sums(model)

    def check(self, model: Model) -> None:
        """Raise FailedTraining for the first frozen tensor that has changed."""
        for name, total in self._sums(model).items():
            if self.sums.get(name) != total:
                raise FailedTraining(f"{name}: is frozen and has changed in training")

    @staticmethod
    @torch.no_grad()
    def _sums(model: Model) -> dict[str, int]:
        """A sum of each tensor's bits, which no change of a single value leaves as it was."""
        return {
            name: int(parameter.detach().view(_BITS[parameter.element_size()]).sum(dtype=torch.int64))
            for name, parameter in model.named_parameters()
            if not parameter.requires_grad
        }


def adapter_setup(arrangement: Arrangement) -> Stack:
    """What is active in `adapters`' own terms; a Stack also for one adapter, so that it saves as a setup."""
    names, fused = arrangement.adapters, arrangement.fused
    return Stack(Fuse(*names[:fused]), *names[fused:]) if fused else Stack(*names)


def activate(model: Model, arrangement: Arrangement) -> None:
    """Make the arrangement's adapters and head the active ones of a built model."""
    if arrangement.method in PEFT_METHODS:
        activate_peft(model, arrangement.adapters)
    else:
        with quiet_adapters():
            model.set_active_adapters(adapter_setup(arrangement) if arrangement.adapters else None)
    if arrangement.head in model.config.prediction_heads:
        model.active_head = arrangement.head


@contextmanager
def quiet_adapters() -> Iterator[None]:
    """Keep back `adapters`' warnings about states between two calls (no adapter active yet, a head read twice)."""
    log = logging.getLogger("adapters")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def set_dropout(model: Model, dropout: float) -> None:
    """The same dropout in the encoder for every method; attention probabilities have none (packed attention)."""
    model.roberta.embeddings.dropout.p = dropout
    for layer in model.roberta.encoder.layer:
        layer.attention.output.dropout.p = layer.output.dropout.p = dropout
        layer.attention.self.dropout.p = 0.0
        layer.attention.self.dropout_prob = 0.0


def count_parameters(model: Model) -> tuple[int, int]:
    """Numbers of trainable and of all parameters; the prediction heads count."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trainable in sizes if trainable), sum(size for size, _ in sizes)
