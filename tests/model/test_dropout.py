"""Dropout from 16 random bits a value: the same distribution as `nn.Dropout`, the same mask in the gradient."""

from pathlib import Path

import pytest
import torch
from support.tiny import tiny_backbone_folder

from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.model.dropout import PackedDropout
from adapter_stilts.model.parts import set_dropout
from adapter_stilts.model.pretrained import load_model


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_scale_and_mean(p: float) -> None:
    """Within five standard deviations of a binomial over a million values; the scale is exact."""
    torch.manual_seed(0)
    count = 1_000_003
    values = PackedDropout(p)(torch.ones(count))
    dropped = round(p * 65536) / 65536
    assert set(values.unique().tolist()) == {0.0, torch.tensor(1 / (1 - dropped)).item()}
    deviation = (dropped * (1 - dropped) / count) ** 0.5
    assert (values == 0).double().mean().item() == pytest.approx(dropped, abs=5 * deviation)
    assert values.double().mean().item() == pytest.approx(1.0, abs=5 * deviation / (1 - dropped))


@pytest.mark.parametrize("distance", [1, 2, 3, 4])
def test_neighbours_are_independent(distance: int) -> None:
    """Four values share one 64-bit draw: their masks must not be correlated."""
    torch.manual_seed(1)
    mask = (PackedDropout(0.3)(torch.ones(400_000)) == 0).double()
    pair = torch.stack([mask[:-distance], mask[distance:]])
    assert abs(torch.corrcoef(pair)[0, 1].item()) < 5 / 400_000**0.5


def test_gradient_has_the_mask_of_the_forward() -> None:
    torch.manual_seed(2)
    values = torch.rand(7, 5).add(1).requires_grad_()
    out = PackedDropout(0.4)(values)
    (gradient,) = torch.autograd.grad(out.sum(), values)
    torch.testing.assert_close(gradient, (out / values).detach(), atol=1e-6, rtol=0)
    assert 0 < int(torch.count_nonzero(gradient)) < 35


def test_nothing_is_dropped_outside_training() -> None:
    values = torch.randn(3, 5)
    assert PackedDropout(0.5).eval()(values) is values
    assert PackedDropout(0.0)(values) is values


def test_seed_decides_the_mask() -> None:
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(PackedDropout(0.5)(torch.ones(64)))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_places_of_dropout_in_the_encoder(tmp_path: Path) -> None:
    """After the embeddings, and twice a layer; attention probabilities have none."""
    model = load_model(load_backbone(str(tiny_backbone_folder(tmp_path))))
    set_dropout(model, 0.25)
    active = {
        name: module.p
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Dropout) and module.p > 0
    }
    layers = [f"roberta.encoder.layer.{layer}" for layer in range(2)]
    dropouts = [f"{layer}.{part}" for layer in layers for part in ("attention.output.dropout", "output.dropout")]
    assert active == dict.fromkeys(["roberta.embeddings.dropout", *dropouts], 0.25)
    assert [layer.attention.self.dropout_prob for layer in model.roberta.encoder.layer] == [0.0, 0.0]
