"""The masked LM head against transformers' own, on the same checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny import edit_weights, tiny_backbone_folder
from torch import Tensor
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

from adapter_stilts.errors import DataError
from adapter_stilts.model.backbone import has_masked_lm_head, load_backbone
from adapter_stilts.model.masked_lm_head import MaskedLMHead, pretrained_head
from adapter_stilts.model.pretrained import load_model

CANDIDATES = np.array([4, 17, 18, 250, 498])
IDS = torch.tensor([[0, 10, 499, 30, 499, 2]])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint as transformers saves it, whose head is nothing that a default could be taken for."""
    folder = tiny_backbone_folder(tmp_path / "mlm")
    config = XLMRobertaConfig.from_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = XLMRobertaForMaskedLM(config)
        for weight in model.lm_head.parameters():
            if weight is not model.lm_head.decoder.weight:
                torch.nn.init.normal_(weight)
    model.save_pretrained(folder)
    return folder


def assert_equal_logits(folder: Path, reference: XLMRobertaForMaskedLM) -> None:
    backbone = load_backbone(str(folder))
    model = load_model(backbone)
    head = MaskedLMHead.build(model, CANDIDATES, pretrained_head(backbone))
    with torch.no_grad():
        states = model.roberta(IDS).last_hidden_state[0]
        expected = reference.eval()(IDS).logits[0][:, CANDIDATES]
        torch.testing.assert_close(head(states), expected, atol=1e-5, rtol=0)


def test_logits_equal_those_of_transformers(checkpoint: Path) -> None:
    assert_equal_logits(checkpoint, XLMRobertaForMaskedLM.from_pretrained(checkpoint))


def test_sharded_checkpoint(checkpoint: Path) -> None:
    reference = XLMRobertaForMaskedLM.from_pretrained(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    reference.save_pretrained(checkpoint, max_shard_size="60KB")
    index = json.loads((checkpoint / "model.safetensors.index.json").read_text())
    assert len({file for name, file in index["weight_map"].items()}) > 1
    assert_equal_logits(checkpoint, reference)


def test_bias_under_the_decoders_name(checkpoint: Path) -> None:
    reference = XLMRobertaForMaskedLM.from_pretrained(checkpoint)

    def rename(weights: dict[str, Tensor]) -> None:
        weights["lm_head.decoder.bias"] = weights.pop("lm_head.bias")

    edit_weights(checkpoint, rename)
    assert_equal_logits(checkpoint, reference)


def test_head_of_no_use_or_in_parts(checkpoint: Path, tmp_path: Path) -> None:
    none = load_backbone(str(tiny_backbone_folder(tmp_path / "none")))
    assert pretrained_head(none) is None
    assert [has_masked_lm_head(backbone) for backbone in (none, load_backbone(str(checkpoint)))] == [False, True]
    edit_weights(checkpoint, lambda weights: weights.__delitem__("lm_head.layer_norm.bias"))
    with pytest.raises(DataError, match=r"without lm_head\.layer_norm\.bias, accepted a whole one"):
        pretrained_head(load_backbone(str(checkpoint)))
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    assert pretrained_head(load_backbone(str(checkpoint))) is None


def test_head_of_another_size_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    other = load_model(load_backbone(str(tiny_backbone_folder(tmp_path / "other", hidden=64))))
    with pytest.raises(DataError, match=r"^masked LM head: found weights that do not fit.*dense\.weight"):
        MaskedLMHead.build(other, CANDIDATES, pretrained_head(load_backbone(str(checkpoint))))


def test_fresh_head_is_the_normed_product_with_the_embeddings(tmp_path: Path) -> None:
    model = load_model(load_backbone(str(tiny_backbone_folder(tmp_path / "tiny"))))
    before = torch.random.get_rng_state()
    head = MaskedLMHead.build(model, CANDIDATES, None)
    assert torch.equal(torch.random.get_rng_state(), before)
    states = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    curved = states * 0.5 * (1 + torch.erf(states / 2**0.5))
    normed = (curved - curved.mean(1, keepdim=True)) / (curved.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = normed @ model.roberta.embeddings.word_embeddings.weight[CANDIDATES].T
    torch.testing.assert_close(head(states), expected, atol=1e-5, rtol=0)


def test_head_stays_while_the_encoder_trains_and_survives_saving(tmp_path: Path) -> None:
    model = load_model(load_backbone(str(tiny_backbone_folder(tmp_path / "tiny"))))
    head = MaskedLMHead.build(model, CANDIDATES, None)
    assert sorted(name for name, weight in head.named_parameters() if weight.requires_grad) == [
        "bias", "dense.bias", "dense.weight", "layer_norm.bias", "layer_norm.weight",
    ]  # fmt: skip
    states = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    torch.nn.functional.cross_entropy(head(states), torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])).backward()
    optimizer.step()
    trained = head(states)
    assert set(torch.nonzero(head.bias)[:, 0].tolist()) == set(CANDIDATES)
    save_file(head.head_weights(), tmp_path / "head.safetensors")
    weights = load_file(tmp_path / "head.safetensors")
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == {
        "dense.weight": (32, 32), "dense.bias": (32,), "layer_norm.weight": (32,), "layer_norm.bias": (32,),
        "bias": (500,),
    }  # fmt: skip
    again = MaskedLMHead.build(model, np.array([17, 400, 498]), weights)
    torch.testing.assert_close(again(states)[:, [0, 2]], trained[:, [1, 4]], atol=1e-6, rtol=0)
    with torch.no_grad():
        model.roberta.embeddings.word_embeddings.weight.zero_()
    assert torch.equal(head(states), trained)
