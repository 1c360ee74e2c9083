"""Packed rows: sentences lie one after another in one row, and attention alone knows the borders.

Linear layers, layer norms and adapters see `(1, T, H)` without a padding position. `install` turns the attention
modules of a loaded `adapters` model into `PackedSelfAttention`; while a `PackedLayout` is set they attend within
sentences, without one they do what they did before, so one model serves packed and padded input alike.

Packed attention has no dropout on attention probabilities (the CUDA kernels have none; every method and
device is trained alike).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from adapters.context import ForwardContext
from adapters.models.xlm_roberta.modeling_xlm_roberta import (
    XLMRobertaSdpaSelfAttentionWithAdapters,
    XLMRobertaSelfAttentionWithAdapters,
)
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from adapter_stilts.model.attention import packed_attention
from adapter_stilts.model.dropout import draws_from, repeatable
from adapter_stilts.model.layout import PackedLayout
from adapter_stilts.model.protocols import Model


class Borders(threading.local):
    """Holds the layout that the attention modules of one model read, each thread its own; None means padded input."""

    layout: PackedLayout | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Borders:
        """A copied model has borders of its own; what a thread knows cannot be copied."""
        return Borders()

    @contextmanager
    def within(self, layout: PackedLayout) -> Iterator[None]:
        """Packed input of that layout for the time of the block."""
        before, self.layout = self.layout, layout
        try:
            yield
        finally:
            self.layout = before


class PackedSelfAttention(XLMRobertaSdpaSelfAttentionWithAdapters):
    """`adapters`' attention that stays within the sentences of a packed row while a layout is set."""

    borders: Borders

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


def install(model: Model) -> Model:
    """Give every attention module of a loaded `adapters` XLM-R model the packed form; returns the model.

    Weights, names of parameters and padded behaviour stay as they are.
    """
    borders = Borders()
    for module in model.modules():
        if isinstance(module, (XLMRobertaSdpaSelfAttentionWithAdapters, XLMRobertaSelfAttentionWithAdapters)):
            module.__class__ = PackedSelfAttention
            module.borders = borders
    model.packing = borders
    return model


def encode_packed(
    model: Model,
    input_ids: Tensor,
    position_ids: Tensor,
    layout: PackedLayout,
    read: Tensor | None = None,
    checkpointing: bool = False,
) -> Tensor:
    """Hidden states (T, H) of a packed row under the model's active adapters; with `read` (R,), those of these
    positions alone, (R, H).

    `input_ids` and `position_ids` are (T,); XLM-R counts positions from `pad_token_id + 1` in each sentence. Behind the
    last layer's attention only the positions that are read are computed. With `checkpointing` the backward pass
    computes each layer again instead of keeping what is inside (Chen et al., 2016, https://arxiv.org/abs/1604.06174).
    """
    encoder = model.roberta

    def inside(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
        # Adapters look up the active setup in a ForwardContext, which their own forward would have opened.
        with model.packing.within(layout), ForwardContext(model, input_ids=input_ids[None]):
            return function(*arguments)

    def layer_output(layer: Any, states: Tensor, read: Tensor | None) -> Tensor:
        # The attention mask has a place of its own: `adapters` looks for it there.
        return layer(states, None)[0] if read is None else _read_positions(layer, states, read)

    # The default token types come from a buffer that is 514 long: a packed row is longer.
    types = torch.zeros_like(input_ids)[None]
    row = {"input_ids": input_ids[None], "position_ids": position_ids[None], "token_type_ids": types}
    states = inside(lambda: encoder.embeddings(**row))
    *layers, last = encoder.encoder.layer
    for layer in (*layers, last):
        arguments = (layer_output, layer, states, read if layer is last else None)
        if checkpointing and torch.is_grad_enabled():
            states = checkpoint(_drawing_the_same(inside), *arguments, use_reentrant=False)
        else:
            states = inside(*arguments)
    return states[0]


def _drawing_the_same(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function, whose dropout draws the same at its second call as at its first, which draws on as usual."""
    again: list[torch.Generator | None] = []

    def call(*arguments: Any) -> Tensor:
        if again:
            with draws_from(again[0]):
                return function(*arguments)
        again.append(repeatable())
        return function(*arguments)

    return call


def _read_positions(layer: Any, states: Tensor, read: Tensor) -> Tensor:
    """The layer's output (1, R, H) at the positions `read` of states (1, T, H): attention needs them all, and after it
    every position is on its own."""
    attended, residual = (tensor.index_select(1, read) for tensor in (layer.attention.self(states)[0], states))
    attended = layer.attention.output(attended, residual)
    return layer.output(layer.intermediate(attended), attended)
