"""What is active and what trains, for each method and composition: decided in one place, checked on the built model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from adapters import AdapterConfig
from adapters.composition import Stack

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.model.dropout import PackedDropout

Method = Literal["bottleneck", "full"]
Composition = Literal["none", "stack", "continue"]


@dataclass(frozen=True)
class Arrangement:
    """What is active and what trains.

    `adapters`: names of the active adapters in the order in which the states pass them, the trained one last; empty for
    `full`. `trained`: parts of parameter names that train; everything else is frozen. `head`: the head's name.
    """

    method: Method
    composition: Composition
    adapters: tuple[str, ...]
    trained: tuple[str, ...]
    head: str

    @property
    def setup(self) -> Stack:
        """The active setup in `adapters`' own terms; a Stack also for one adapter, so that it saves as a setup."""
        return Stack(*self.adapters)


# (method, has intermediates) -> the compositions there are, the default first.
COMPOSITIONS: dict[tuple[str, bool], tuple[Composition, ...]] = {
    ("bottleneck", False): ("none",),
    ("bottleneck", True): ("stack",),
    ("full", False): ("none",),
    ("full", True): ("continue",),
}


def choose_composition(method: str, compose: str | None, intermediates: int) -> Composition:
    """The composition for a method over so many intermediate runs; `compose` is what was asked for, None the default.

    `full` over an intermediate continues from its weights: that is sequential fine-tuning, the STILTs baseline.
    Raises UsageError where there is no such composition.
    """
    if (method, False) not in COMPOSITIONS:
        accepted = ", ".join(dict.fromkeys(name for name, _ in COMPOSITIONS))
        raise UsageError(f"--method: found {method!r}, accepted: {accepted}")
    possible = COMPOSITIONS[method, intermediates > 0]
    if method == "full" and intermediates > 1:
        raise UsageError(f"--over: found {intermediates} runs, accepted with --method full: one (it is sequential)")
    if compose is None or compose in possible:
        return possible[0]
    if method == "full" and intermediates:
        raise UsageError(f"--compose: found {compose!r}; --method full continues from --over: leave --compose out")
    under = "without --over" if intermediates == 0 else "with --over"
    raise UsageError(f"--compose: found {compose!r}, accepted with --method {method} {under}: {', '.join(possible)}")


def arrange(method: Method, composition: Composition, target: str, intermediates: Sequence[str]) -> Arrangement:
    """The arrangement for a target task over intermediate adapters (names as they are called in the model).

    Source of the order: Stack(intermediate, target) trains the target on the intermediate's output, as MAD-X stacks a
    task adapter on a language adapter (Pfeiffer et al., 2020).
    """
    if method == "full":
        return Arrangement(method, composition, (), ("roberta.embeddings.", "roberta.encoder."), target)
    return Arrangement(method, composition, (*intermediates, target), (f"adapters.{target}.",), target)


def adapter_config(name: str, reduction: float) -> AdapterConfig:
    """Configuration of a bottleneck adapter by `adapters`' own name, with its reduction factor."""
    return AdapterConfig.load(name, reduction_factor=reduction)


def activate(model: Any, arrangement: Arrangement) -> None:
    """Make the arrangement's adapters and head the active ones of a built model."""
    with quiet_adapters():
        model.set_active_adapters(arrangement.setup if arrangement.adapters else None)
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


def set_trainable(model: Any, arrangement: Arrangement) -> None:
    """Let train what the arrangement says and its head; freeze the rest; check by name that it is so.

    Raises StiltsError where an arrangement's part has no parameter in the model.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains(arrangement, name))
    for part in (*arrangement.trained, f"heads.{arrangement.head}."):
        if not any(part in name and parameter.requires_grad for name, parameter in model.named_parameters()):
            raise StiltsError(f"{arrangement.method} {arrangement.composition}: the model has no parameter {part}*")


def trains(arrangement: Arrangement, parameter: str) -> bool:
    """Whether the parameter of that name trains under the arrangement."""
    return parameter.startswith(f"heads.{arrangement.head}.") or any(part in parameter for part in arrangement.trained)


def set_dropout(model: Any, dropout: float) -> None:
    """The same dropout in the encoder for every method; attention probabilities have none (packed attention)."""
    model.roberta.embeddings.dropout = PackedDropout(dropout)
    for layer in model.roberta.encoder.layer:
        layer.attention.output.dropout = PackedDropout(dropout)
        layer.output.dropout = PackedDropout(dropout)
        layer.attention.self.dropout.p = 0.0
        layer.attention.self.dropout_prob = 0.0


def count_parameters(model: Any) -> tuple[int, int]:
    """Numbers of trainable and of all parameters; the prediction heads count."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trainable in sizes if trainable), sum(size for size, _ in sizes)
