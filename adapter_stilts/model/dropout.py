"""Dropout that does not dominate a CPU step: PyTorch draws one Bernoulli number a value there, one after another.

Here one 64-bit draw decides four values. On other devices this is `nn.Dropout`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# A probability is a count of 16-bit patterns: exact to 1/131072, and the scale follows the rounded value.
_PATTERNS = 1 << 16


class PackedDropout(nn.Dropout):
    """`nn.Dropout` whose masks on a CPU come from 16 random bits a value, with the same distribution.

    The probability is rounded to a multiple of 1/65536; kept values are scaled by the rounded one, so the mean is kept.
    """

    def forward(self, values: Tensor) -> Tensor:
        """The values (any shape) with a share `p` of them zero and the rest scaled, in training; else unchanged."""
        if not self.training or self.p == 0.0:
            return values
        if values.is_cuda:
            return super().forward(values)
        dropped = min(round(self.p * _PATTERNS), _PATTERNS - 1)
        count = values.numel()
        bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        kept = bits[:count].view(values.shape) >= dropped - _PATTERNS // 2
        return values * kept.to(values.dtype).mul_(_PATTERNS / (_PATTERNS - dropped))
