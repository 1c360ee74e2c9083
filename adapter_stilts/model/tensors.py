"""Weights from files: what a file holds is exactly what the built model has, and every number in it is one.

The header is compared before any weight is read; nothing but safetensors is ever opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from adapter_stilts.errors import StiltsError
from adapter_stilts.trust import TensorShape, refuse, tensor_shapes

_DTYPES = ("F32", "BF16", "F16")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises StiltsError for a damaged file and for numbers that are not finite."""
    tensor_shapes(path)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:  # RuntimeError: it has just gone
        raise StiltsError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]})") from None
    check_finite(path, tensors)
    return tensors


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise StiltsError for the first tensor with a weight that is not a finite number."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            refuse(path, f"weights in {name} that are not finite", "numbers")


def check_alike(expected: Mapping[str, Tensor], stored: Mapping[str, Any]) -> None:
    """Raise StiltsError for the first name under which `stored` has no tensor of the expected type and shape."""
    for name, tensor in expected.items():
        other = stored.get(name)
        if not isinstance(other, Tensor) or other.shape != tensor.shape or other.dtype != tensor.dtype:
            what = f"{other.dtype} of shape {tuple(other.shape)}" if isinstance(other, Tensor) else "nothing"
            raise StiltsError(f"{name}: found {what}, accepted {tensor.dtype} of shape {tuple(tensor.shape)}")


def check_shapes(path: Path, expected: Mapping[str, Tensor], stored: Mapping[str, TensorShape]) -> None:
    """Raise StiltsError where a tensor is missing, left over, of another shape, or holds no floating-point numbers."""
    if missing := sorted(expected.keys() - stored.keys()):
        raise StiltsError(f"{path}: lacks {len(missing)} tensors of its configuration, first {missing[0]}")
    if surplus := sorted(stored.keys() - expected.keys()):
        raise StiltsError(f"{path}: has {len(surplus)} tensors that have no place on this backbone, first {surplus[0]}")
    for name in sorted(expected):
        shape = tuple(expected[name].shape)
        if stored[name].shape != shape:
            raise StiltsError(f"{path}: {name} is {stored[name].shape}, accepted {shape}")
        if stored[name].dtype not in _DTYPES:
            refuse(path, f"{name} of type {stored[name].dtype}", ", ".join(_DTYPES))


@torch.no_grad()
def fill(path: Path, expected: Mapping[str, Tensor]) -> None:
    """Put the weights of a file into the model's tensors, given by the names that they have in the file.

    Raises StiltsError, before any of them has changed, where the file is not exactly theirs.
    """
    check_shapes(path, expected, tensor_shapes(path))
    for name, tensor in read_tensors(path).items():
        expected[name].copy_(tensor)
