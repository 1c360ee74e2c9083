"""Adapters of peft merged by the formulas of their papers."""

from collections.abc import Sequence

import pytest
import torch
from support.peft import RECIPE, SMALL, adapted, deltas, parameters_of, vectors
from torch import Tensor

from adapter_stilts.errors import UsageError
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.peft_merge import MERGE_DENSITY, merge_peft_adapters
from adapter_stilts.schema import Recipe

SVD_TOLERANCE = 1e-5


def truncated(matrix: Tensor, rank: int) -> Tensor:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left[:, :rank] * values[:rank] @ right[:rank]


def weighted(parts: Sequence[dict[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    return {
        key: torch.stack([weight * part[key] for part, weight in zip(parts, weights, strict=True)]).sum(0)
        for key in parts[0]
    }


@pytest.mark.parametrize("weights", [None, [0.7, -0.2]])
@pytest.mark.parametrize(("how", "rank"), [("cat", 6), ("svd", 4)])
def test_cat_and_svd_add_weighted_deltas(backbone: Backbone, how: str, rank: int, weights: list[float] | None) -> None:
    model = adapted(backbone, "lora", ["a", "b"], [RECIPE, SMALL])
    total = weighted([deltas(model, "a"), deltas(model, "b")], weights or [0.5, 0.5])
    expected = {key: delta if how == "cat" else truncated(delta, 4) for key, delta in total.items()}
    trains = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    merge_peft_adapters(model, ["a", "b"], "merged", how, weights)
    assert list(model.peft.tuner.peft_config) == ["merged"]
    assert model.peft.tuner.peft_config["merged"].r == rank
    for key, delta in deltas(model, "merged").items():
        torch.testing.assert_close(delta, expected[key], atol=SVD_TOLERANCE, rtol=0)
        assert (total[key] - expected[key]).abs().max() > (0.01 if how == "svd" else -1)
    assert not any(parameter.requires_grad for parameter in parameters_of(model, "merged").values())
    assert all(
        parameter.requires_grad == trains[name] for name, parameter in model.named_parameters() if name in trains
    )


def test_svd_is_exact_where_the_rank_suffices(backbone: Backbone) -> None:
    """Two adapters with the same A have a sum of the same rank."""
    model = adapted(backbone, "lora", ["a", "b"])
    with torch.no_grad():
        for name, parameter in parameters_of(model, "b").items():
            if ".lora_A." in name:
                parameter.copy_(parameters_of(model, "a")[name.replace(".b.", ".a.")])
    expected = weighted([deltas(model, "a"), deltas(model, "b")], [0.5, 0.5])
    merge_peft_adapters(model, ["a", "b"], "merged", "svd", None)
    for key, delta in deltas(model, "merged").items():
        torch.testing.assert_close(delta, expected[key], atol=SVD_TOLERANCE, rtol=0)


def ties(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Trim to the largest values, elect the sign with the larger mass, average what agrees (Yadav et al., 2023)."""
    kept = []
    for part in parts:
        threshold = part.abs().flatten().sort(descending=True).values[int(MERGE_DENSITY * part.numel()) - 1]
        kept.append(torch.where(part.abs() >= threshold, part, 0.0))
    sign = torch.stack(kept).sum(0).sign()
    agree = [(part.sign() == sign) & (part != 0) for part in kept]
    total = sum(weight * len(parts) * part * agrees for weight, part, agrees in zip(weights, kept, agree, strict=True))
    return total / torch.stack(agree).sum(0).clamp(min=1)


@pytest.mark.parametrize("weights", [None, [0.8, 0.2]])
def test_ties_follows_its_paper(backbone: Backbone, weights: list[float] | None) -> None:
    model = adapted(backbone, "lora", ["a", "b"])
    a, b = deltas(model, "a"), deltas(model, "b")
    expected = {key: truncated(ties([a[key], b[key]], weights or [0.5, 0.5]), 4) for key in a}
    merge_peft_adapters(model, ["a", "b"], "merged", "ties", weights)
    for key, delta in deltas(model, "merged").items():
        torch.testing.assert_close(delta, expected[key], atol=SVD_TOLERANCE, rtol=0)


def test_dare_drops_values_of_the_deltas_by_its_seed(backbone: Backbone) -> None:
    """At full rank nothing is cut: each value is a w_i D_i / density or none of it (Yu et al., 2024)."""
    merged = []
    state = torch.get_rng_state()
    for seed in (3, 3, 4):
        model = adapted(backbone, "lora", ["a", "b"], [Recipe(rank=32), Recipe(rank=32)])
        parts = [deltas(model, "a"), deltas(model, "b")]
        state = torch.get_rng_state()
        merge_peft_adapters(model, ["a", "b"], "merged", "dare", [0.7, 0.3], seed)
        assert torch.equal(torch.get_rng_state(), state)
        merged.append(deltas(model, "merged"))
    shares = []
    for key, delta in merged[0].items():
        torch.testing.assert_close(merged[1][key], delta, atol=0, rtol=0)
        assert (merged[2][key] - delta).abs().max() > 0.1
        left, right = 0.7 * parts[0][key] / MERGE_DENSITY, 0.3 * parts[1][key] / MERGE_DENSITY
        choices = torch.stack([torch.zeros_like(delta), left, right, left + right])
        distance, choice = (choices - delta).abs().min(dim=0)
        assert distance.max() < 1e-4
        shares.append(torch.bincount(choice.flatten(), minlength=4) / choice.numel())
    torch.testing.assert_close(torch.stack(shares).mean(0), torch.full((4,), 0.25), atol=0.03, rtol=0)


@pytest.mark.parametrize("weights", [None, [0.9, 0.4]])
def test_linear_adds_weighted_ia3_vectors(backbone: Backbone, weights: list[float] | None) -> None:
    recipes = [Recipe(layers="1"), Recipe(layers="1")]
    model = adapted(backbone, "ia3", ["a", "b"], recipes)
    expected = weighted([vectors(model, "a"), vectors(model, "b")], weights or [0.5, 0.5])
    merge_peft_adapters(model, ["a", "b"], "merged", "linear", weights)
    merged = vectors(model, "merged")
    assert len(merged) == 4
    for key, vector in merged.items():
        torch.testing.assert_close(vector, expected[key])


MERGE_ERRORS: dict[str, tuple[str, list[Recipe], str, list[float] | None, str]] = {
    "dora": ("dora", [RECIPE, RECIPE], "svd", None, "adapter 'a' is dora, accepted lora and ia3"),
    "layers": ("lora", [RECIPE, Recipe(rank=4, layers="1")], "svd", None, "first at encoder.layer.0.attention.self"),
    "targets": ("ia3", [RECIPE, Recipe(targets=("key",))], "linear", None, "differ in targets or layers"),
    "lora": ("lora", [RECIPE, RECIPE], "linear", None, "found 'linear', accepted for lora: svd, cat, ties, dare"),
    "ia3": ("ia3", [RECIPE, RECIPE], "svd", None, "found 'svd', accepted for ia3: linear"),
    "weights": ("lora", [RECIPE, RECIPE], "svd", [1.0], "--set merge_weights: found 1 for 2 adapters"),
    "one": ("lora", [RECIPE], "svd", None, "accepted two different ones or more"),
}


@pytest.mark.parametrize("case", MERGE_ERRORS)
def test_what_cannot_be_merged(backbone: Backbone, case: str) -> None:
    method, recipes, how, weights, message = MERGE_ERRORS[case]
    names = ["a", "b"][: len(recipes)]
    model = adapted(backbone, method, names, recipes)
    with pytest.raises(UsageError) as caught:
        merge_peft_adapters(model, names, "merged", how, weights)
    assert message in str(caught.value)
    assert list(model.peft.tuner.peft_config) == names
