"""Compiling encoder layers: each layer on its own, so that one compilation serves them all.

A layer carries its number as an attribute; without telling PyTorch that such a number may vary, it compiles every layer
anew (https://pytorch.org/docs/stable/torch.compiler.html, `allow_unspec_int_on_nn_module`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from adapter_stilts.progress import say

# Compiling takes most of a minute; on one H100 it then saves about two microseconds a token (100,000 tokens a second
# without, 122,800 with it), so it pays from so many tokens on.
PAYS_FROM_TOKENS = 25_000_000


def compile_layers(model: Any, backend: str = "inductor") -> None:
    """Compile the forward of every encoder layer of a packed model, at its first call."""
    torch._dynamo.config.allow_unspec_int_on_nn_module = True  # type: ignore[attr-defined]
    for layer in model.roberta.encoder.layer:
        layer.compile(backend=backend, dynamic=False)


def forget_compiled(model: Any, error: Exception) -> None:
    """Go on without: the layers run as they are, and the log says why."""
    for layer in model.roberta.encoder.layer:
        layer._compiled_call_impl = None
    reason = " ".join(str(error).split())[:200]
    say(f"compiling failed, training goes on without it: {type(error).__name__}: {reason}")


@contextmanager
def plain_layers(model: Any) -> Iterator[None]:
    """The layers as they are for the time of the block: batches of every length would each be compiled for."""
    compiled = [layer._compiled_call_impl for layer in model.roberta.encoder.layer]
    for layer in model.roberta.encoder.layer:
        layer._compiled_call_impl = None
    try:
        yield
    finally:
        for layer, own in zip(model.roberta.encoder.layer, compiled, strict=True):
            layer._compiled_call_impl = own


def is_compiled(model: Any) -> bool:
    """Whether the layers will run, or have been, compiled."""
    return any(layer._compiled_call_impl is not None for layer in model.roberta.encoder.layer)
