"""Dropout that does not dominate a CPU step: PyTorch draws one Bernoulli number a value there, one after another.

Here one 64-bit draw decides four values. On other devices this is `nn.Dropout`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# A probability is a count of 16-bit patterns: exact to 1/131072, and the scale follows the rounded value.
_PATTERNS = 1 << 16


class _Draws(threading.local):
    """The generator of the thread's draws on a CPU; None is PyTorch's own, which all threads share."""

    generator: torch.Generator | None = None


_draws = _Draws()


@contextmanager
def draws_from(generator: torch.Generator | None) -> Iterator[None]:
    """Dropout in this thread draws from the given generator for the time of the block."""
    before, _draws.generator = _draws.generator, generator
    try:
        yield
    finally:
        _draws.generator = before


def repeatable() -> torch.Generator | None:
    """A copy of the thread's generator as it is now, to draw the same once more; None where it draws from PyTorch's
    own."""
    return None if _draws.generator is None else _draws.generator.clone_state()


class PackedDropout(nn.Dropout):
    """`nn.Dropout` whose masks on a CPU come from 16 random bits a value, with the same distribution.

    The probability is rounded to a multiple of 1/65536; kept values are scaled by the rounded one, so the mean is kept.
    """

    def forward(self, values: Tensor) -> Tensor:
        """The values (any shape) with a share `p` of them zero and the rest scaled, in training; else unchanged."""
        if not self.training or self.p == 0.0:
            return values
        if values.device.type != "cpu":
            return super().forward(values)
        dropped = min(round(self.p * _PATTERNS), _PATTERNS - 1)
        count = values.numel()
        draws = torch.empty((count + 3) // 4, dtype=torch.int64)
        bits = draws.random_(-(2**63), None, generator=_draws.generator).view(torch.int16)
        mask = bits[:count].view(values.shape) >= dropped - _PATTERNS // 2
        return values * mask.to(values.dtype).mul_(_PATTERNS / (_PATTERNS - dropped))


def pack_dropout(model: nn.Module) -> None:
    """Every dropout of the model of this kind, with its own probability."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, PackedDropout(child.p))
