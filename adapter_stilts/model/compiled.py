"""Compiling what lies around attention in every encoder layer, so that one compilation serves all layers.

Attention itself is a kernel of its own, which a compiler could only call; what it makes faster are the chains of
dropout, addition, layer norm and adapter behind the products. Modules carry their layer's number as an attribute;
without telling PyTorch that such a number may vary, it compiles every layer anew
(https://pytorch.org/docs/stable/torch.compiler.html, `allow_unspec_int_on_nn_module`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from adapter_stilts.model.protocols import Model
from adapter_stilts.progress import say

# Compiling takes some twenty seconds; on one H100 it then saves 0.6 microseconds a token (4,096 pieces a step of XLM-R
# Large: 198,000 tokens a second without, 226,000 with it), so it pays from so many tokens on.
PAYS_FROM_TOKENS = 30_000_000


def compile_layers(model: Model, backend: str = "inductor") -> None:
    """Compile the encoder layers of a packed model around attention, each module at its first call."""
    torch._dynamo.config.allow_unspec_int_on_nn_module = True  # type: ignore[attr-defined]
    for module in _modules(model):
        module.compile(backend=backend, dynamic=False)


def forget_compiled(model: Model, error: Exception) -> None:
    """Go on without: the layers run as they are, and the log says why."""
    for module in _modules(model):
        module._compiled_call_impl = None
    reason = " ".join(str(error).split())[:200]
    say(f"compiling failed, training goes on without it: {type(error).__name__}: {reason}")


@contextmanager
def plain_layers(model: Model) -> Iterator[None]:
    """The layers as they are for the time of the block: batches of every length would each be compiled for."""
    modules = _modules(model)
    compiled = [module._compiled_call_impl for module in modules]
    for module in modules:
        module._compiled_call_impl = None
    try:
        yield
    finally:
        for module, call in zip(modules, compiled, strict=True):
            module._compiled_call_impl = call


def is_compiled(model: Model) -> bool:
    """Whether the layers will run, or have been, compiled."""
    return any(module._compiled_call_impl is not None for module in _modules(model))


def _modules(model: Model) -> list[Any]:
    """What is compiled of each layer: everything that has no need to know where sentences begin."""
    layers = model.roberta.encoder.layer
    return [module for layer in layers for module in (layer.attention.output, layer.intermediate, layer.output)]
