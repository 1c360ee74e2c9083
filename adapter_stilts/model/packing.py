"""Packed rows: sentences lie one after another in one row, and attention alone knows the borders.

Linear layers, layer norms and adapters see `(1, T, H)` without a padding position. `install` turns the attention
modules of a loaded `adapters` model into `PackedSelfAttention`; while a `PackedLayout` is set they attend within
sentences, without one they do what they did before, so one model serves packed and padded input alike.

Packed attention has no dropout on attention probabilities (the variable-length CUDA kernel has none; every method and
device is trained alike).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from adapters.context import ForwardContext
from adapters.models.xlm_roberta.modeling_xlm_roberta import (
    XLMRobertaSdpaSelfAttentionWithAdapters,
    XLMRobertaSelfAttentionWithAdapters,
)
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

# Sentences of one padded group differ in length by at most this factor (plus a few tokens): a wider group wastes
# multiplications on padding, a narrower one wastes kernel launches.
GROUP_RATIO = 1.3
GROUP_SLACK = 3


@dataclass(frozen=True)
class AttentionGroup:
    """Consecutive sentences of near-equal length, padded to `length` inside attention only.

    `index` (count * length,) says which row of the pack fills each padded place (padding repeats row `start`);
    `inverse` (stop - start,) says which padded place holds each row; `mask` (count, 1, 1, length) is 0 or -inf; all
    three are None where every sentence is equally long, so that a view suffices.
    """

    start: int
    stop: int
    count: int
    length: int
    index: Tensor | None = None
    inverse: Tensor | None = None
    padding: Tensor | None = None
    mask: Tensor | None = None


@dataclass(frozen=True)
class PackedLayout:
    """Borders of the sentences in a packed row.

    `lengths` in tokens; `cu_seqlens` (sentences + 1,) int32, cumulative lengths for the variable-length kernel;
    `groups` for the padded attention of devices without that kernel.
    """

    lengths: tuple[int, ...]
    cu_seqlens: Tensor
    groups: tuple[AttentionGroup, ...] = field(repr=False)

    @classmethod
    def from_lengths(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> PackedLayout:
        """Layout of sentences of the given lengths, in the order in which they lie in the row.

        Sorting a pack by length before packing gives few groups and little padding; any order is correct.
        """
        cumulative = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return cls(
            tuple(int(length) for length in lengths),
            torch.from_numpy(cumulative).to(device),
            tuple(_make_group(lengths, cumulative, first, last, device) for first, last in _cut_groups(lengths)),
        )


def _cut_groups(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Cut the sentences into runs `[first, last)` in which lengths stay within the group ratio."""
    cuts, first = [], 0
    shortest = longest = lengths[0]
    for place, length in enumerate(lengths):
        shortest, longest = min(shortest, length), max(longest, length)
        if longest > shortest * GROUP_RATIO + GROUP_SLACK:
            cuts.append((first, place))
            first, shortest, longest = place, length, length
    cuts.append((first, len(lengths)))
    return cuts


def _make_group(
    lengths: Sequence[int], cumulative: np.ndarray, first: int, last: int, device: torch.device | str
) -> AttentionGroup:
    own = np.asarray(lengths[first:last], dtype=np.int64)
    start, stop, longest = int(cumulative[first]), int(cumulative[last]), int(own.max())
    if (own == longest).all():
        return AttentionGroup(start, stop, len(own), longest)
    place = np.arange(longest)
    real = place[None, :] < own[:, None]
    index = np.where(real, (cumulative[first:last, None] - start) + place[None, :], 0).reshape(-1)
    mask = np.where(real, 0.0, -np.inf).astype(np.float32)[:, None, None, :]
    return AttentionGroup(
        start,
        stop,
        len(own),
        longest,
        torch.from_numpy(index).to(device),
        torch.from_numpy(np.flatnonzero(real.reshape(-1))).to(device),
        torch.from_numpy(np.flatnonzero(~real.reshape(-1))).to(device),
        torch.from_numpy(mask).to(device),
    )


class _Pad(torch.autograd.Function):
    """Rows (rows, ...) to padded places (count * length, ...). Padding holds copies of the first row; attention masks
    it as keys and drops it as queries, so no gradient comes back from it and the backward is a gather as well."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (inverse,) = ctx.saved_tensors
        return gradient.index_select(0, inverse), None, None


class _Unpad(torch.autograd.Function):
    """Padded places (count * length, ...) back to rows (rows, ...); the backward puts zeros on padding."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, index: Tensor, inverse: Tensor, padding: Tensor) -> Tensor:
        ctx.save_for_backward(index, padding)
        return padded.index_select(0, inverse)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        index, padding = ctx.saved_tensors
        return gradient.index_select(0, index).index_fill_(0, padding, 0.0), None, None, None


def _attend_group(query: Tensor, key: Tensor, value: Tensor, group: AttentionGroup) -> Tensor:
    """Attention of one group; query, key, value and the result are (rows, heads, size of a head)."""
    heads, size = query.shape[1:]

    def padded(rows: Tensor) -> Tensor:
        if group.index is not None and group.inverse is not None:
            rows = _Pad.apply(rows, group.index, group.inverse)
        return rows.view(group.count, group.length, heads, size).transpose(1, 2)

    mask = None if group.mask is None else group.mask.to(query.dtype)
    out = scaled_dot_product_attention(padded(query), padded(key), padded(value), attn_mask=mask)
    rows = out.transpose(1, 2).reshape(group.count * group.length, heads, size)
    return rows if group.index is None else _Unpad.apply(rows, group.index, group.inverse, group.padding)


def packed_attention(query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout) -> Tensor:
    """Attention within the sentences of a packed row; all tensors are (T, heads, size of a head).

    On CUDA in half precision this is one call of the variable-length kernel; elsewhere near-equal sentences are padded
    to groups inside attention only.
    """
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        from torch.nn.attention.varlen import varlen_attn

        longest = max(layout.lengths)
        return varlen_attn(query, key, value, layout.cu_seqlens, layout.cu_seqlens, longest, longest)  # type: ignore[return-value]
    parts = [
        _attend_group(
            query[group.start : group.stop], key[group.start : group.stop], value[group.start : group.stop], group
        )
        for group in layout.groups
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Borders:
    """Holds the layout that the attention modules of one model read; None means padded input."""

    layout: PackedLayout | None = None


class PackedSelfAttention(XLMRobertaSdpaSelfAttentionWithAdapters):
    """`adapters`' attention that stays within the sentences of a packed row while a layout is set."""

    borders: _Borders

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        layout = self.borders.layout
        if layout is None:
            return super().forward(hidden_states, *args, **kwargs)
        shape = (hidden_states.shape[1], self.num_attention_heads, self.attention_head_size)
        query = self.query(hidden_states).view(shape)
        key = self.key(hidden_states).view(shape)
        value = self.value(hidden_states).view(shape)
        attended = packed_attention(query, key, value, layout)
        return attended.reshape(1, shape[0], self.all_head_size), None


def install(model: Any) -> Any:
    """Give every attention module of a loaded `adapters` XLM-R model the packed form; returns the model.

    Weights, names of parameters and padded behaviour stay as they are.
    """
    borders = _Borders()
    for module in model.modules():
        if isinstance(module, (XLMRobertaSdpaSelfAttentionWithAdapters, XLMRobertaSelfAttentionWithAdapters)):
            module.__class__ = PackedSelfAttention
            module.borders = borders
    model.packing = borders
    return model


def encode_packed(model: Any, input_ids: Tensor, position_ids: Tensor, layout: PackedLayout) -> Tensor:
    """Hidden states (T, H) of a packed row under the model's active adapters.

    `input_ids` and `position_ids` are (T,); XLM-R counts positions from `pad_token_id + 1` in each sentence.
    """
    encoder = model.roberta
    model.packing.layout = layout
    try:
        # Adapters look up the active setup in a ForwardContext, which their own forward would have opened.
        with ForwardContext(model, input_ids=input_ids[None]):
            # The default token types come from a buffer that is 514 long: a packed row is longer.
            states = encoder.embeddings(
                input_ids=input_ids[None],
                position_ids=position_ids[None],
                token_type_ids=torch.zeros_like(input_ids)[None],
            )
            return encoder.encoder(states)[0][0]
    finally:
        model.packing.layout = None
