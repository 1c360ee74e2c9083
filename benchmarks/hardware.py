"""How many multiplications a token needs, and how many the machine makes in plain matrix products."""

from __future__ import annotations

import statistics

import torch
from transformers import PretrainedConfig

from benchmarks.measuring import now

# Rows of the measured products: enough to fill the device.
ROWS = {"cpu": 2_048, "cuda": 16_384}
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
# Passes over the linear layers: forward; backward to the activations; to the weights besides, where they train.
PASSES = {"inference": 1, "frozen": 2, "full": 3}
_SECONDS, _ROUNDS = 0.2, 5


def multiply_adds(config: PretrainedConfig) -> int:
    """Multiply-adds a token of the backbone's linear layers: a layer has four H x H and two H x F.

    Attention's own products, adapters, heads and layer norms are left out, so that every variant counts alike.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    return config.num_hidden_layers * (4 * hidden * hidden + 2 * hidden * inner)


def operations(config: PretrainedConfig, passes: str) -> int:
    """Floating-point operations a token (a multiply-add is two) of `inference`, training with the backbone `frozen`, or
    `full` fine-tuning."""
    return 2 * multiply_adds(config) * PASSES[passes]


def product_operations(rows: int, config: PretrainedConfig) -> int:
    """Floating-point operations of the products of `matrix_rate` over so many rows."""
    hidden, inner = config.hidden_size, config.intermediate_size
    return 2 * rows * (hidden * hidden + 2 * hidden * inner)


def matrix_rate(config: PretrainedConfig, device: str, precision: str, rows: int | None = None) -> float:
    """Floating-point operations a second of `torch.matmul` on (rows, H) x (H, H), x (H, F) and back x (F, H): the
    median of several rounds, in the process's own settings (threads, TF32)."""
    rows, dtype = rows or ROWS[device], DTYPES[precision]
    hidden, inner = config.hidden_size, config.intermediate_size
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device, generator=generator).to(dtype)

    states, square, up, down = (
        random(rows, hidden),
        random(hidden, hidden),
        random(hidden, inner),
        random(inner, hidden),
    )

    def products(times: int) -> float:
        started = now(device)
        for _ in range(times):
            torch.matmul(torch.matmul(torch.matmul(states, square), up), down)
        return now(device) - started

    products(2)
    times = max(1, round(_SECONDS / products(1)))
    seconds = statistics.median(products(times) for _ in range(_ROUNDS))
    return times * product_operations(rows, config) / seconds
