"""Attention of packed rows against one sentence at a time, in values and gradients; what is read of the last layer."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny import tiny_backbone_folder
from support.training import random_split
from torch import Tensor

from adapter_stilts.model import attention
from adapter_stilts.model.attention import SHORT, packed_attention
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.model.layout import PackedLayout
from adapter_stilts.model.packing import encode_packed, install
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.tasks.encode import EncodedSplit

HEADS, SIZE = 2, 3
LENGTHS = {
    "one": [1],
    "equal": [5, 5, 5],
    "padded": [4, 5, 6, 7],
    "short and long": [3, 9, 10, SHORT, SHORT + 1, SHORT + 9, 2],
    "long alone": [SHORT + 30, SHORT + 20],
}


def rows(lengths: Sequence[int]) -> list[Tensor]:
    """Random query, key and value (T, heads, size), in float64."""
    generator = torch.Generator().manual_seed(len(lengths))
    shape = (sum(lengths), HEADS, SIZE)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3)]
    return [tensor.requires_grad_() for tensor in drawn]


def by_sentence(query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int]) -> Tensor:
    """softmax(Q K' / sqrt(size)) V of every sentence and head on its own."""
    parts = []
    for q, k, v in zip(*(tensor.split(list(lengths)) for tensor in (query, key, value)), strict=True):
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(SIZE)
        parts.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), v))
    return torch.cat(parts)


@pytest.mark.parametrize("case", LENGTHS)
def test_equals_every_sentence_on_its_own(case: str) -> None:
    inputs = rows(LENGTHS[case])
    wanted, packed = (
        by_sentence(*inputs, LENGTHS[case]),
        packed_attention(*inputs, PackedLayout.from_lengths(LENGTHS[case])),
    )
    torch.testing.assert_close(packed, wanted, atol=1e-12, rtol=0)
    upstream = torch.linspace(-1, 1, packed.numel(), dtype=torch.float64).view_as(packed)
    for gradient, expected in zip(
        torch.autograd.grad(packed, inputs, upstream), torch.autograd.grad(wanted, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(gradient, expected, atol=1e-12, rtol=0)


def test_short_and_long_groups_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same groups by batched products and by the fused kernel, which is what decides only the speed."""
    lengths = [6, 7, 8, 30, 31]
    inputs, layout = rows(lengths), PackedLayout.from_lengths(lengths)
    results = []
    for short in (0, SHORT):
        monkeypatch.setattr(attention, "SHORT", short)
        out = packed_attention(*inputs, layout)
        results.append([out, *torch.autograd.grad(out.square().sum(), inputs)])
    for result, other in zip(*results, strict=True):
        torch.testing.assert_close(result, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_on_a_cpu_is_rounded_once(dtype: torch.dtype) -> None:
    """Values and gradients are those of float32 over the rounded tensors, rounded."""
    lengths = LENGTHS["short and long"]
    halves = [tensor.detach().to(dtype).requires_grad_() for tensor in rows(lengths)]
    floats = [tensor.detach().float().requires_grad_() for tensor in halves]
    layout = PackedLayout.from_lengths(lengths)
    rounded, wanted = packed_attention(*halves, layout), packed_attention(*floats, layout)
    assert torch.equal(rounded, wanted.to(dtype))
    with torch.autocast("cpu", dtype):
        assert torch.equal(packed_attention(*halves, layout), rounded)
    upstream = torch.linspace(-1, 1, rounded.numel()).view_as(rounded).to(dtype)
    gradients, expected_gradients = (
        torch.autograd.grad(rounded, halves, upstream),
        torch.autograd.grad(wanted, floats, upstream.float()),
    )
    for one, other in zip(gradients, expected_gradients, strict=True):
        assert torch.equal(one, other.to(dtype))


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return install(load_model(load_backbone(str(tiny_backbone_folder(tmp_path))))).eval()


def row(split: EncodedSplit) -> tuple[Tensor, Tensor, PackedLayout]:
    positions = torch.cat([torch.arange(2, 2 + int(length)) for length in split.lengths])
    return torch.from_numpy(split.ids).long(), positions, PackedLayout.from_lengths(split.lengths.tolist())


def test_places_that_are_read_alone(model: Any) -> None:
    """Any places, in any order, some twice: as picked from all, gradients of the embeddings too."""
    inputs = row(random_split([9, 5, 20]))
    read = torch.tensor([33, 0, 7, 7, 12])
    every, some = encode_packed(model, *inputs)[read], encode_packed(model, *inputs, read=read)
    torch.testing.assert_close(some, every, atol=1e-6, rtol=0)
    weight = model.roberta.embeddings.word_embeddings.weight
    some_gradient, every_gradient = (torch.autograd.grad(states.square().sum(), weight)[0] for states in (some, every))
    torch.testing.assert_close(some_gradient, every_gradient, atol=1e-5, rtol=0)


def test_checkpointing_computes_the_same_and_keeps_less(model: Any) -> None:
    inputs = row(random_split([9, 5, 20]))
    weight = model.roberta.embeddings.word_embeddings.weight
    results = []
    for checkpointing in (False, True):
        kept: dict[int, int] = {}

        def note(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            states = encode_packed(model, *inputs, read=torch.arange(5), checkpointing=checkpointing)
        values = sum(kept.values())
        (gradient,) = torch.autograd.grad(states.square().sum(), weight)
        results.append((states, gradient, values))
    (states, gradient, values), (again, checked, fewer) = results
    torch.testing.assert_close(again, states, atol=0, rtol=0)
    torch.testing.assert_close(checked, gradient, atol=1e-6, rtol=0)
    assert fewer < values / 2
