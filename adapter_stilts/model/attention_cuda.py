"""Attention within the sentences of a packed row on CUDA, in two Triton kernels.

Library kernels for sentences of varying length start as many blocks of 128 pieces for every sentence as the longest one
needs; sentences of 22 pieces leave most of that idle, and their backward adds to the queries' gradients atomically, in
an order that varies. Here a program takes a block of the row, wherever sentences begin and end in it, and runs over the
pieces from the beginning of its first sentence to the end of its last; the backward computes each gradient in one
program, so the same input gives the same bits. Nothing depends on values on the host, so a CUDA graph can record it.

The softmax is computed online (Milakov and Gimelshein, 2018, https://arxiv.org/abs/1805.02867), and the backward from
its stored logarithms, as in FlashAttention-2 (Dao, 2023, https://arxiv.org/abs/2307.08691).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# Rows of a program, and rows that it looks at in one go: a few sentences of 22 pieces, or a part of a long one.
BLOCK_ROWS, OTHER_ROWS = 64, 64
WARPS = 4
_LOG2_E = math.log2(math.e)


class BlockAttention(torch.autograd.Function):
    """Query, key, value and result are (T, heads, size of a head), contiguous; `starts` and `ends` (T,) are where each
    position's sentence begins and ends in the row."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        query, key, value = (tensor.contiguous() for tensor in (query, key, value))
        rows, heads, size = query.shape
        out = torch.empty_like(query)
        logs = torch.empty(heads, rows, dtype=torch.float32, device=query.device)
        constants = _constants(query)
        scale = _LOG2_E / math.sqrt(size)
        grid = (triton.cdiv(rows, BLOCK_ROWS), heads)
        _attend[grid](query, key, value, out, logs, starts, ends, scale, rows, heads, **constants)
        ctx.save_for_backward(query, key, value, out, logs, starts, ends)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, out, logs, starts, ends = ctx.saved_tensors
        rows, heads, size = query.shape
        gradients = [torch.empty_like(tensor) for tensor in (query, key, value)]
        constants = _constants(query)
        grid = (triton.cdiv(rows, BLOCK_ROWS), heads)
        tensors = (query, key, value, out, gradient.contiguous(), logs, *gradients, starts, ends)
        _attend_backward[grid](*tensors, 1 / math.sqrt(size), rows, heads, **constants)
        return *gradients, None, None


def _constants(query: Tensor) -> dict[str, Any]:
    """What the kernels are compiled for."""
    size = query.shape[-1]
    return {
        "SIZE": size,
        # Products need 16 columns at least.
        "COLUMNS": max(16, triton.next_power_of_2(size)),
        "BLOCK": BLOCK_ROWS,
        "OTHER": OTHER_ROWS,
        "PRECISION": "ieee" if query.dtype == torch.float32 else "tf32",
        "num_warps": WARPS,
    }


@triton.jit
def _block(tensor, rows, head, heads, inside, SIZE: tl.constexpr, COLUMNS: tl.constexpr):
    """Rows of one head as (rows, COLUMNS), zero outside."""
    columns = tl.arange(0, COLUMNS)
    offsets = (rows[:, None] * heads + head) * SIZE + columns[None, :]
    return tl.load(tensor + offsets, mask=inside[:, None] & (columns[None, :] < SIZE), other=0.0)


@triton.jit
def _put(tensor, values, rows, head, heads, inside, SIZE: tl.constexpr, COLUMNS: tl.constexpr):
    """Store what `_block` loads."""
    columns = tl.arange(0, COLUMNS)
    offsets = (rows[:, None] * heads + head) * SIZE + columns[None, :]
    mask = inside[:, None] & (columns[None, :] < SIZE)
    tl.store(tensor + offsets, values.to(tensor.dtype.element_ty), mask=mask)


@triton.jit
def _attend(
    query, key, value, out, logs, starts, ends, scale, total, heads,
    SIZE: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr, OTHER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One block of queries of one head; `scale` includes log2(e), since powers of two are what the device computes."""
    head = tl.program_id(1)
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < total
    start = tl.load(starts + rows, mask=inside, other=total).to(tl.int32)
    end = tl.load(ends + rows, mask=inside, other=0).to(tl.int32)
    queries = _block(query, rows, head, heads, inside, SIZE, COLUMNS)
    highest = tl.full([BLOCK], float("-inf"), tl.float32)
    sums = tl.zeros([BLOCK], tl.float32)
    mixed = tl.zeros([BLOCK, COLUMNS], tl.float32)
    begin, last = tl.min(start, axis=0), tl.max(end, axis=0)
    for first in range(begin, last, OTHER):
        others = first + tl.arange(0, OTHER)
        valid = others < last
        keys = _block(key, others, head, heads, valid, SIZE, COLUMNS)
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale
        same = (others[None, :] >= start[:, None]) & (others[None, :] < end[:, None])
        scores = tl.where(same, scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, axis=1))
        # Rows whose sentence is not among these have no highest score yet.
        known = tl.where(higher == float("-inf"), 0.0, higher)
        shrink = tl.exp2(highest - known)
        shares = tl.exp2(scores - known[:, None])
        sums = sums * shrink + tl.sum(shares, axis=1)
        values = _block(value, others, head, heads, valid, SIZE, COLUMNS)
        mixed = mixed * shrink[:, None] + tl.dot(shares.to(values.dtype), values, input_precision=PRECISION)
        highest = higher
    sums = tl.where(inside, sums, 1.0)
    _put(out, mixed / sums[:, None], rows, head, heads, inside, SIZE, COLUMNS)
    tl.store(logs + head * total + rows, highest + tl.log2(sums), mask=inside)


@triton.jit
def _attend_backward(
    query, key, value, out, gradient, logs, of_query, of_key, of_value, starts, ends, scale, total, heads,
    SIZE: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr, OTHER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of one block of one head: of its rows as queries, then as keys and values."""
    head = tl.program_id(1)
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = rows < total
    start = tl.load(starts + rows, mask=inside, other=total).to(tl.int32)
    end = tl.load(ends + rows, mask=inside, other=0).to(tl.int32)
    begin, last = tl.min(start, axis=0), tl.max(end, axis=0)
    to_log2 = scale * 1.4426950408889634  # log2(e), as a kernel sees no global that is not a constant

    queries = _block(query, rows, head, heads, inside, SIZE, COLUMNS)
    gradients = _block(gradient, rows, head, heads, inside, SIZE, COLUMNS)
    results = _block(out, rows, head, heads, inside, SIZE, COLUMNS)
    inner = tl.sum(gradients.to(tl.float32) * results.to(tl.float32), axis=1)
    log = tl.load(logs + head * total + rows, mask=inside, other=0.0)
    of_queries = tl.zeros([BLOCK, COLUMNS], tl.float32)
    for first in range(begin, last, OTHER):
        others = first + tl.arange(0, OTHER)
        valid = others < last
        keys = _block(key, others, head, heads, valid, SIZE, COLUMNS)
        values = _block(value, others, head, heads, valid, SIZE, COLUMNS)
        same = (others[None, :] >= start[:, None]) & (others[None, :] < end[:, None])
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * to_log2
        shares = tl.where(same, tl.exp2(scores - log[:, None]), 0.0)
        of_shares = tl.dot(gradients, tl.trans(values), input_precision=PRECISION)
        of_scores = shares * (of_shares - inner[:, None])
        of_queries += tl.dot(of_scores.to(keys.dtype), keys, input_precision=PRECISION)
    _put(of_query, of_queries * scale, rows, head, heads, inside, SIZE, COLUMNS)

    block_keys = _block(key, rows, head, heads, inside, SIZE, COLUMNS)
    block_values = _block(value, rows, head, heads, inside, SIZE, COLUMNS)
    of_keys = tl.zeros([BLOCK, COLUMNS], tl.float32)
    of_values = tl.zeros([BLOCK, COLUMNS], tl.float32)
    for first in range(begin, last, OTHER):
        others = first + tl.arange(0, OTHER)
        valid = others < last
        other_queries = _block(query, others, head, heads, valid, SIZE, COLUMNS)
        other_gradients = _block(gradient, others, head, heads, valid, SIZE, COLUMNS)
        other_results = _block(out, others, head, heads, valid, SIZE, COLUMNS)
        other_inner = tl.sum(other_gradients.to(tl.float32) * other_results.to(tl.float32), axis=1)
        other_log = tl.load(logs + head * total + others, mask=valid, other=0.0)
        # A key's row knows which queries look at it: those of its own sentence.
        same = (others[None, :] >= start[:, None]) & (others[None, :] < end[:, None])
        scores = tl.dot(block_keys, tl.trans(other_queries), input_precision=PRECISION) * to_log2
        shares = tl.where(same, tl.exp2(scores - other_log[None, :]), 0.0)
        of_values += tl.dot(shares.to(other_gradients.dtype), other_gradients, input_precision=PRECISION)
        of_shares = tl.dot(block_values, tl.trans(other_gradients), input_precision=PRECISION)
        of_scores = shares * (of_shares - other_inner[None, :])
        of_keys += tl.dot(of_scores.to(other_queries.dtype), other_queries, input_precision=PRECISION)
    _put(of_key, of_keys * scale, rows, head, heads, inside, SIZE, COLUMNS)
    _put(of_value, of_values, rows, head, heads, inside, SIZE, COLUMNS)
