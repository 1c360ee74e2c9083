"""Attention within the sentences of a packed row: on CUDA by kernels of its own (`attention_cuda`), elsewhere padded
within groups of near-equal length.

PyTorch's fused CPU kernel calls a matrix product for every sentence and head, which costs more than the product itself
where sentences are short. Here a group of short sentences is a few batched products, forward and backward.
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from adapter_stilts.model.layout import AttentionGroup, PackedLayout

# Pieces of a padded sentence up to which batched products are faster than the fused kernel: on two CPU cores, forward
# and backward of 22 pieces take a third of its time, of 60 as long. Longer ones would also keep too many scores.
SHORT = 64
# PyTorch's builds for CUDA bring Triton, but for those of Windows.
HAS_KERNELS = importlib.util.find_spec("triton") is not None


def packed_attention(query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout) -> Tensor:
    """Attention within the sentences of a packed row; all tensors are (T, heads, size of a head).

    On CUDA in half precision, where PyTorch brings Triton, this is one kernel; elsewhere near-equal sentences are
    padded to groups inside attention only. On a CPU half precision is computed in float32 and rounded once, since that
    kernel rounds no scores either.
    """
    if query.dtype in (torch.float16, torch.bfloat16) and query.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            return packed_attention(query.float(), key.float(), value.float(), layout).to(query.dtype)
    if query.is_cuda and query.dtype != torch.float32 and HAS_KERNELS:
        from adapter_stilts.model.attention_cuda import BlockAttention

        return BlockAttention.apply(query, key, value, *layout.spans)
    # Not slices: a slice's backward fills a whole row with zeros, and adds it to the others.
    rows = [group.stop - group.start for group in layout.groups]
    parts = zip(query.split(rows), key.split(rows), value.split(rows), layout.groups, strict=True)
    attended = [_ShortAttention.apply(*part) if part[-1].length <= SHORT else _long_attention(*part) for part in parts]
    return attended[0] if len(attended) == 1 else torch.cat(attended)


class _ShortAttention(torch.autograd.Function):
    """Attention of one group by batched products; query, key, value and the result are (rows, heads, size of a head).

    With probabilities P = softmax(Q K' / sqrt(size)) and output P V, the backward of a gradient G is dV = P' G,
    dS = softmax'(G V'), dQ = dS K / sqrt(size), dK = dS' Q / sqrt(size).
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, group: AttentionGroup) -> Tensor:
        heads, size = query.shape[1:]
        query, key, value = (_lay_out(rows, group) for rows in (query, key, value))
        scale = 1 / math.sqrt(size)
        scores = torch.baddbmm(query.new_empty(()), query, key.transpose(1, 2), beta=0, alpha=scale)
        if group.mask is not None:
            scores.view(group.count, heads, group.length, group.length).add_(group.mask)
        shares = torch.softmax(scores, -1)
        ctx.save_for_backward(query, key, value, shares)
        ctx.group, ctx.scale, ctx.heads = group, scale, heads
        return _take_back(torch.bmm(shares, value), group, heads)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, shares = ctx.saved_tensors
        group, heads = ctx.group, ctx.heads
        of_output = _lay_out(gradient, group, empty=True)
        of_shares = torch.bmm(of_output, value.transpose(1, 2))
        of_scores = torch.ops.aten._softmax_backward_data(of_shares, shares, -1, shares.dtype)
        none = of_output.new_empty(())
        of_query = torch.baddbmm(none, of_scores, key, beta=0, alpha=ctx.scale)
        of_key = torch.baddbmm(none, of_scores.transpose(1, 2), query, beta=0, alpha=ctx.scale)
        of_value = torch.bmm(shares.transpose(1, 2), of_output)
        return *(_take_back(every, group, heads) for every in (of_query, of_key, of_value)), None


def _lay_out(rows: Tensor, group: AttentionGroup, empty: bool = False) -> Tensor:
    """Rows (rows, heads, size) as (count * heads, length, size); padding repeats the group's first row, or is zero
    where it is to be `empty`, as a gradient of what nothing reads."""
    _, heads, size = rows.shape
    if group.index is not None:
        rows = rows.index_select(0, group.index)
        if empty and group.padding is not None:
            rows.index_fill_(0, group.padding, 0.0)
    return rows.view(group.count, group.length, heads, size).transpose(1, 2).reshape(-1, group.length, size)


def _take_back(states: Tensor, group: AttentionGroup, heads: int) -> Tensor:
    """(count * heads, length, size) as rows (rows, heads, size), without padding."""
    size = states.shape[-1]
    rows = states.view(group.count, heads, group.length, size).transpose(1, 2).reshape(-1, heads, size)
    return rows if group.inverse is None else rows.index_select(0, group.inverse)


def _long_attention(query: Tensor, key: Tensor, value: Tensor, group: AttentionGroup) -> Tensor:
    """The same by PyTorch's fused kernel, which keeps no probabilities."""
    heads, size = query.shape[1:]

    def padded(rows: Tensor) -> Tensor:
        if group.index is not None and group.inverse is not None:
            rows = _Pad.apply(rows, group.index, group.inverse)
        return rows.view(group.count, group.length, heads, size).transpose(1, 2)

    mask = None if group.mask is None else group.mask.to(query.dtype)
    out = scaled_dot_product_attention(padded(query), padded(key), padded(value), attn_mask=mask)
    rows = out.transpose(1, 2).reshape(group.count * group.length, heads, size)
    return rows if group.index is None else _Unpad.apply(rows, group.index, group.inverse, group.padding)


class _Pad(torch.autograd.Function):
    """Rows (rows, ...) to padded positions (count * length, ...). Padding holds copies of the first row; attention
    masks it as keys and drops it as queries, so no gradient comes back from it and the backward is a gather as well."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (inverse,) = ctx.saved_tensors
        return gradient.index_select(0, inverse), None, None


class _Unpad(torch.autograd.Function):
    """Padded positions (count * length, ...) back to rows (rows, ...); the backward puts zeros on padding."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, index: Tensor, inverse: Tensor, padding: Tensor) -> Tensor:
        ctx.save_for_backward(index, padding)
        return padded.index_select(0, inverse)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        index, padding = ctx.saved_tensors
        return gradient.index_select(0, index).index_fill_(0, padding, 0.0), None, None, None
