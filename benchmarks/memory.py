"""Memory that a training step on XLM-R Large needs on a GPU, counted without one.

    python -m benchmarks.memory --out benchmarks/results/memory_large.json

The model is built on PyTorch's `meta` device, where tensors have shapes and no values, in the captured step's
precision: bf16 copies of all weights, float32 masters of the trained ones, their gradients in both, and AdamW's two
moments. What autograd keeps between forward and backward is counted once a storage; attention keeps what the
variable-length kernel does (query, key, value, output, and a float32 sum for each head). CUDA's context, the
allocator's slack and the kernels' workspaces come on top and are not counted: measure them with
`benchmarks.throughput` on a GPU.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from adapters import XLMRobertaAdapterModel
from torch import Tensor
from transformers import XLMRobertaConfig

from adapter_stilts.files import atomic_write_text
from adapter_stilts.model import packing
from adapter_stilts.model.arrangement import arrange
from adapter_stilts.model.bottleneck import add_bottleneck, add_fusion
from adapter_stilts.model.layout import PackedLayout
from adapter_stilts.model.packing import encode_packed, install
from adapter_stilts.model.parts import activate, quiet_adapters, set_dropout, set_trainable
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.kinds import HeadSpec, find_kind
from adapter_stilts.tasks.recipes import recipe_for
from benchmarks.random_backbone import LARGE

BF16, FLOAT32 = 2, 4
# Pieces of a sentence, special tokens included, and of them words: about the means of English EWT.
SENTENCE, WORDS = 24, 16
VARIANTS = {"none": 0, "stack": 1, "fuse": 3, "full": 0}
TOKENS = (1_024, 4_096, 16_384)


class _VariableLength(torch.autograd.Function):
    """Keeps what the variable-length kernel keeps; computes nothing."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        sums = torch.empty(query.shape[1], query.shape[0], dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        raise RuntimeError("the backward pass is counted, never run")


def build(variant: str, sizes: dict[str, Any]) -> Any:
    """The variant's model on the meta device, in bf16, with the task's own recipe."""
    task = find_task("udpos")
    method = "full" if variant == "full" else "bottleneck"
    recipe = recipe_for(task, method, "FacebookAI/xlm-roberta-large")  # type: ignore[arg-type]
    underneath = [f"intermediate{index}" for index in range(VARIANTS[variant])]
    composition: Any = variant if variant in ("stack", "fuse") else "none"
    arrangement = arrange(method, composition, "target", underneath)  # type: ignore[arg-type]
    with torch.device("meta"), quiet_adapters():
        model = XLMRobertaAdapterModel(XLMRobertaConfig(**sizes, attn_implementation="sdpa"))
        for name in arrangement.adapters:
            add_bottleneck(model, name, recipe)
        if arrangement.fused:
            add_fusion(model, underneath, recipe)
        find_kind(task.kind).add_head(model, "target", HeadSpec([str(label) for label in range(17)], recipe.dropout))
    set_dropout(model, recipe.dropout)
    activate(model, arrangement)
    set_trainable(model, arrangement)
    return install(model).to(device="meta", dtype=torch.bfloat16).train()


def count(variant: str, tokens: int, checkpointing: bool, sizes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Bytes of weights, of what training adds to them, and of what is kept for the backward pass."""
    model = build(variant, sizes or LARGE)
    weights = {parameter.untyped_storage()._cdata: parameter.numel() for parameter in model.parameters()}
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    saved: dict[int, int] = {}
    alive: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            saved[storage._cdata] = storage.nbytes()
            alive.append(tensor)  # else its place may be taken by another
        return tensor

    lengths = [SENTENCE] * (tokens // SENTENCE) + ([tokens % SENTENCE] if tokens % SENTENCE else [])
    row = torch.zeros(tokens, dtype=torch.long, device="meta")
    read = torch.zeros(tokens * WORDS // SENTENCE, dtype=torch.long, device="meta")
    attention = patch.object(
        packing, "packed_attention", lambda query, key, value, _: _VariableLength.apply(query, key, value)
    )
    with attention, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layout = PackedLayout.from_lengths(lengths, "meta")
        encode_packed(model, row, row, layout, read=read, checkpointing=checkpointing)
    # Of one layer that is computed again, the largest: its inner states, their activation and their gradients.
    transient = 4 * tokens * model.config.intermediate_size * BF16
    counted = {
        "weights_bytes": sum(weights.values()) * BF16,
        "trained_parameters": trained,
        "training_bytes": trained * (BF16 + 4 * FLOAT32),
        "kept_bytes": sum(saved.values()),
        "transient_bytes": transient,
    }
    return {**counted, "total_bytes": sum(value for name, value in counted.items() if name.endswith("_bytes"))}


def main(argv: Sequence[str] | None = None) -> None:
    """Count every variant, print the totals, and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    results = []
    for variant in VARIANTS:
        for tokens in TOKENS:
            for checkpointing in (False, True):
                counted = count(variant, tokens, checkpointing)
                setting = {"variant": variant, "tokens_a_step": tokens, "checkpointing": checkpointing}
                results.append({**setting, **counted})
                again = "checkpointing" if checkpointing else ""
                print(f"{variant:6} {tokens:6,} {again:13} {counted['total_bytes'] / 2**30:6.2f} GiB")
    content: dict[str, Any] = {
        "benchmark": "memory",
        "command": f"python -m benchmarks.memory --out {options.out}",
        "backbone": LARGE,
    }
    content |= {"notes": " ".join(__doc__.split("\n\n")[-1].split()), "torch": torch.__version__, "results": results}
    atomic_write_text(options.out, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
