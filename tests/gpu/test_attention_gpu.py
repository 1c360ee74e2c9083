"""The attention kernels against PyTorch's own attention, sentence by sentence. Without CUDA they run in Triton's
interpreter, where Triton is installed and TRITON_INTERPRET=1 is set."""

import os

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from adapter_stilts.model.layout import PackedLayout

pytest.importorskip("triton", reason="needs Triton, which PyTorch's builds for CUDA bring")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1", reason="needs CUDA, or TRITON_INTERPRET=1"
    ),
]
LENGTHS = {
    "short": [3, 3, 4, 5, 7, 9, 9, 12, 20, 21, 22, 30],
    "one block": [64],
    "across blocks": [60, 10, 130, 3, 200, 1, 65],
    "one piece": [1],
}


def expected(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    parts = zip(*(tensor.split(lengths) for tensor in (query, key, value)), strict=True)
    done = [
        scaled_dot_product_attention(*(tensor.transpose(0, 1) for tensor in part)).transpose(0, 1) for part in parts
    ]
    return torch.cat(done)


@pytest.mark.parametrize("size", [8, 32, 64])
@pytest.mark.parametrize("case", LENGTHS)
def test_equals_attention_of_each_sentence(case: str, size: int) -> None:
    """Values and gradients: in half precision as near to float32 as PyTorch's own attention, within a half. Float32 is
    compared in the interpreter: compiled, its products are unrolled, which takes a minute a kernel."""
    from adapter_stilts.model.attention_cuda import BlockAttention

    lengths = LENGTHS[case]
    generator = torch.Generator().manual_seed(0)
    shape = (sum(lengths), 2, size)
    drawn = [torch.randn(shape, generator=generator).to(DEVICE) for _ in range(4)]
    spans = PackedLayout.from_lengths(lengths, DEVICE).spans

    def run(function: str, dtype: torch.dtype) -> list[torch.Tensor]:
        *inputs, gradient = (tensor.detach().clone().to(dtype) for tensor in drawn)
        inputs = [tensor.requires_grad_() for tensor in inputs]
        out = BlockAttention.apply(*inputs, *spans) if function == "ours" else expected(*inputs, lengths)
        out.backward(gradient)
        return [tensor.float() for tensor in (out.detach(), *(each.grad for each in inputs)) if tensor is not None]

    wanted = run("PyTorch's", torch.float32)
    if DEVICE == "cpu":
        for result, other in zip(run("ours", torch.float32), wanted, strict=True):
            torch.testing.assert_close(result, other, atol=1e-5, rtol=1e-4)
    # The interpreter computes with NumPy, which has no bf16.
    precisions = {torch.float16: 3e-3} if DEVICE == "cpu" else {torch.float16: 3e-3, torch.bfloat16: 2e-2}
    for dtype, slack in precisions.items():
        for result, other, half in zip(run("ours", dtype), wanted, run("PyTorch's", dtype), strict=True):
            assert (result - other).abs().max() < 1.5 * (half - other).abs().max() + slack


def test_the_same_bits_twice() -> None:
    from adapter_stilts.model.attention_cuda import BlockAttention

    lengths = LENGTHS["across blocks"]
    dtype = torch.bfloat16 if DEVICE == "cuda" else torch.float32
    drawn = [torch.randn(sum(lengths), 4, 32, device=DEVICE, dtype=dtype) for _ in range(4)]
    spans = PackedLayout.from_lengths(lengths, DEVICE).spans
    outcomes = []
    for _ in range(2):
        inputs = [tensor.clone().requires_grad_() for tensor in drawn[:3]]
        out = BlockAttention.apply(*inputs, *spans)
        out.backward(drawn[3])
        outcomes.append([out, *(tensor.grad for tensor in inputs)])
    for one, other in zip(*outcomes, strict=True):
        assert torch.equal(one, other)
