"""Packed rows against plain padded `adapters`: logits, gradients, and sentences that know nothing of each other."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from adapters.composition import Stack
from support.padded import gradients, padded_logits
from support.training import add_head, random_split, use_of
from torch import Tensor

from adapter_stilts.engine.batches import pack
from adapter_stilts.engine.step import batch_logits
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.layout import PackedLayout
from adapter_stilts.model.packing import encode_packed, install
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.tasks.encode import EncodedSplit

LENGTHS = {
    "one word": [3],
    "words alone": [3, 3, 3],
    "equal": [9, 9, 9, 9],
    "one sentence": [40],
    "near": [10, 11, 12, 13],
    "far apart": [120, 3, 41, 4, 3, 80, 42],
    "longest": [512, 3, 500],
}
METHODS = ("none", "stack", "full")


def plain_model(backbone: Backbone, method: str, kind: str = "tagging") -> Any:
    """As `adapters` has it, in evaluation mode (no dropout), adapters far from the identity that they start as."""
    torch.manual_seed(7)
    model = load_model(backbone)
    names = {"none": ["target"], "stack": ["intermediate", "target"], "full": []}[method]
    for name in names:
        model.add_adapter(name, config="seq_bn", set_active=False)
    add_head(model, "target", kind=kind)
    if names:
        model.train_adapter("target")
        model.set_active_adapters(Stack(*names))
    model.active_head = "target"
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "adapters." in name:
                parameter.normal_(std=0.2)
    return model.eval()


def split_for(kind: str, lengths: Sequence[int]) -> EncodedSplit:
    split = random_split(lengths)
    if kind == "tagging":
        return split
    whole = random_split(lengths, step=10_000)
    whole.starts[:], whole.ends[:] = 0, 1
    return whole


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["tagging", "classification"])
def test_logits_and_gradients_equal_those_of_padded_adapters(
    backbone: Backbone, kind: str, method: str, lengths: list[int]
) -> None:
    plain = plain_model(backbone, method, kind)
    packed = install(copy.deepcopy(plain))
    split = split_for(kind, lengths)
    batch = pack(split, torch.arange(len(lengths)).numpy(), use_of("target", kind), 2)
    units = split.unit_offsets.tolist()
    order = torch.cat([torch.arange(units[sequence], units[sequence + 1]) for sequence in batch.sequences])
    expected = padded_logits(plain, split, kind)
    logits = batch_logits(packed, batch)
    torch.testing.assert_close(logits, expected[order], atol=1e-5, rtol=1e-5)
    labels = torch.as_tensor(split.targets["label"]).long()
    wanted, packed_gradients = gradients(plain, expected, labels), gradients(packed, logits, batch.targets["label"])
    trained = "heads.target." if method != "full" else "roberta.embeddings.word_embeddings"
    assert packed_gradients.keys() == wanted.keys()
    assert any(name.startswith(trained) for name in packed_gradients)
    for name, gradient in wanted.items():
        torch.testing.assert_close(packed_gradients[name], gradient, atol=1e-5, rtol=1e-5, msg=name)
        assert gradient.abs().max() > 0 or "key.bias" in name, name


def test_what_trains_in_the_comparison(backbone: Backbone) -> None:
    """The gradients above are those of the target adapter and head alone, or of everything."""
    names = {
        method: {
            name for name, parameter in plain_model(backbone, method).named_parameters() if parameter.requires_grad
        }
        for method in METHODS
    }
    assert names["none"] == names["stack"]
    assert all("adapters.target." in name or name.startswith("heads.target.") for name in names["none"])
    assert len(names["none"]) == 2 * 4 + 2
    assert len(names["full"]) == 3 + 2 + 2 * 16 + 2


def packed_states(model: Any, sentences: Sequence[Tensor]) -> list[Tensor]:
    lengths = [len(sentence) for sentence in sentences]
    positions = torch.cat([torch.arange(2, 2 + length) for length in lengths])
    with torch.no_grad():
        states = encode_packed(model, torch.cat(list(sentences)), positions, PackedLayout.from_lengths(lengths))
    return list(states.split(lengths))


@pytest.mark.parametrize("method", METHODS)
def test_order_and_neighbours_do_not_matter(backbone: Backbone, method: str) -> None:
    model = install(plain_model(backbone, method))
    split = random_split([3, 50, 9, 9, 200, 10, 4])
    sentences = list(torch.from_numpy(split.ids).long().split(split.lengths.tolist()))
    together = packed_states(model, sentences)
    for order in ([6, 5, 4, 3, 2, 1, 0], [4, 0, 1, 3, 6, 2, 5], [1], [4, 1], [0, 2]):
        for index, states in zip(order, packed_states(model, [sentences[index] for index in order]), strict=True):
            torch.testing.assert_close(states, together[index], atol=1e-5, rtol=0)
    changed = [sentences[0], sentences[1].flip(0), *sentences[2:]]
    for index, states in enumerate(packed_states(model, changed)):
        difference = (states - together[index]).abs().max().item()
        assert (difference > 0.1) if index == 1 else (difference == 0.0)


def test_mean_of_a_words_pieces(backbone: Backbone) -> None:
    """Units of one to three pieces: the head reads the plain mean of their states."""
    model = install(plain_model(backbone, "none"))
    split = random_split([12, 5, 30], width=3, step=3)
    batch = pack(split, torch.arange(3).numpy(), use_of("target"), 2)
    states = packed_states(model, list(torch.from_numpy(split.ids).long().split(split.lengths.tolist())))
    means = [
        states[sequence][split.starts[unit] : split.ends[unit]].mean(dim=0)
        for sequence in batch.sequences
        for unit in range(split.unit_offsets[sequence], split.unit_offsets[sequence + 1])
    ]
    with torch.no_grad():
        expected = model.heads["target"][1](torch.stack(means))
        torch.testing.assert_close(batch_logits(model, batch), expected, atol=1e-5, rtol=0)
    assert {1, 3} <= set((split.ends - split.starts).tolist())


@pytest.mark.parametrize("method", METHODS)
def test_padded_behaviour_of_an_installed_model_is_unchanged(backbone: Backbone, method: str) -> None:
    plain = plain_model(backbone, method)
    split = random_split([30, 3, 17])
    names = list(plain.state_dict())
    with torch.no_grad():
        expected = padded_logits(plain, split)
        model = install(plain)
        assert torch.equal(padded_logits(model, split), expected)
        batch_logits(model, pack(split, torch.arange(3).numpy(), use_of("target"), 2))
        assert torch.equal(padded_logits(model, split), expected)
        with pytest.raises(IndexError):
            encode_packed(model, torch.tensor([9999]), torch.tensor([2]), PackedLayout.from_lengths([1]))
        assert torch.equal(padded_logits(model, split), expected)
    assert list(model.state_dict()) == names


def test_layout_by_hand() -> None:
    """Lengths within a ratio of 1.5 and four tokens share a group; equal ones need no padding."""
    layout = PackedLayout.from_lengths([4, 4, 5, 50])
    starts, ends = layout.spans
    assert starts.tolist() == [0] * 4 + [4] * 4 + [8] * 5 + [13] * 50
    assert ends.tolist() == [4] * 4 + [8] * 4 + [13] * 5 + [63] * 50
    assert [(group.start, group.stop, group.count, group.length) for group in layout.groups] == [
        (0, 13, 3, 5),
        (13, 63, 1, 50),
    ]
    group = layout.groups[0]
    assert group.index is not None
    assert group.index.view(3, 5).tolist() == [[0, 1, 2, 3, 0], [4, 5, 6, 7, 0], [8, 9, 10, 11, 12]]
    assert group.inverse is not None
    assert group.inverse.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 14]
    assert group.mask is not None
    assert group.mask[:, 0, 0, 4].tolist() == [-float("inf"), -float("inf"), 0.0]
    assert layout.groups[1].index is None
