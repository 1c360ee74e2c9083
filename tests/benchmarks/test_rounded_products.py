"""bf16 products that are summed in float32 and rounded once, forward and backward."""

import torch
from torch.nn.functional import linear

from benchmarks.rounded_products import RoundedProducts


def test_a_layer_rounds_its_results_and_gradients_once() -> None:
    torch.manual_seed(0)
    states, weight, bias, gradient = (torch.randn(size).bfloat16() for size in ((7, 48), (5, 48), (5,), (7, 5)))
    leaves = [each.clone().requires_grad_() for each in (states, weight, bias)]
    with RoundedProducts():
        out = linear(*leaves)
        out.backward(gradient)
    assert torch.equal(out, linear(states.float(), weight.float(), bias.float()).bfloat16())
    assert torch.equal(leaves[0].grad, (gradient.float() @ weight.float()).bfloat16())
    assert torch.equal(leaves[1].grad, (gradient.float().T @ states.float()).bfloat16())


def test_other_precisions_are_left_alone() -> None:
    torch.manual_seed(0)
    one, other, added = torch.randn(3, 4, 5), torch.randn(3, 5, 2), torch.randn(3, 4, 2)
    with RoundedProducts():
        batched, sums = torch.bmm(one.bfloat16(), other.bfloat16()), torch.baddbmm(added, one, other)
    assert torch.equal(batched, torch.bmm(one.bfloat16().float(), other.bfloat16().float()).bfloat16())
    assert torch.equal(sums, torch.baddbmm(added, one, other))
