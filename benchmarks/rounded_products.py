"""Products in bf16 on a CPU that has no instructions for them, with the numbers of a GPU's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_PRODUCTS = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten.baddbmm.default,
}


class RoundedProducts(TorchDispatchMode):
    """Within the block, products of bf16 tensors are summed up in float32 and rounded once, as tensor cores do
    (https://docs.nvidia.com/deeplearning/performance/mixed-precision-training/). PyTorch's own on a CPU without such
    instructions takes many times as long. It holds for the thread that enters it, backward included."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        keywords = kwargs or {}
        if func in _PRODUCTS and args[-1].dtype == torch.bfloat16:
            floats = [each.float() if isinstance(each, Tensor) else each for each in args]
            return func(*floats, **keywords).to(torch.bfloat16)
        return func(*args, **keywords)
