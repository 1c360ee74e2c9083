"""LoRA, DoRA and IA3 through peft: packed as padded, active and trained as asked for, baked by their formulas."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.peft import LENGTHS, METHODS, RECIPE, adapted, deltas, inputs, padded_states, parameters_of, randomise
from torch import Tensor

from adapter_stilts.errors import UsageError
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.layout import PackedLayout
from adapter_stilts.model.packing import encode_packed, install
from adapter_stilts.model.peft_adapters import (
    activate_peft,
    add_peft_adapter,
    bake_peft_adapters,
    peft_parameters,
    remove_peft_adapter,
)
from adapter_stilts.model.peft_files import load_peft_adapter, save_peft_adapter
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.schema import Recipe


def registered_twice(model: Any) -> int:
    """How many parameters are found under a second name (`adapters` keeps the embedding under two)."""
    return len(list(model.named_parameters(remove_duplicate=False))) - len(list(model.parameters()))


def packed_states(model: Any) -> Tensor:
    ids, mask = inputs()
    positions = torch.cat([torch.arange(2, 2 + length) for length in LENGTHS])
    return encode_packed(model, ids[mask.bool()], positions, PackedLayout.from_lengths(LENGTHS))


@pytest.mark.parametrize("names", [["one"], ["one", "one_2"]], ids=["one", "two"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("first", [True, False], ids=["install first", "install last"])
def test_packed_equals_padded(backbone: Backbone, method: Any, names: list[str], first: bool) -> None:
    model = load_model(backbone)
    plain = padded_states(model)
    if first:
        install(model)
    for seed, name in enumerate(names):
        add_peft_adapter(model, name, method, RECIPE)
        randomise(model, name, seed)
    activate_peft(model, names)
    expected = padded_states(model)
    if not first:
        install(model)
    assert (expected - plain).abs().max() > 0.05
    torch.testing.assert_close(packed_states(model).detach(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(padded_states(model), expected, atol=0, rtol=0)
    activate_peft(model, [])
    torch.testing.assert_close(padded_states(model), plain, atol=0, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_fresh_adapter_changes_nothing_and_is_drawn_from_the_global_seed(backbone: Backbone, method: Any) -> None:
    models = []
    for seed in (1, 1, 2):
        model = load_model(backbone)
        expected = padded_states(model)
        torch.manual_seed(seed)
        add_peft_adapter(model, "fresh", method, RECIPE)
        activate_peft(model, ["fresh"])
        torch.testing.assert_close(padded_states(model), expected, atol=1e-5, rtol=0)
        models.append(torch.cat([parameter.detach().flatten() for parameter in parameters_of(model, "fresh").values()]))
    assert torch.equal(models[0], models[1])
    assert torch.equal(models[0], models[2]) == (method == "ia3")


def test_rank_alpha_and_targets(backbone: Backbone) -> None:
    """Delta of LoRA by its formula; alpha defaults to twice the rank; targets to query and value."""
    model = adapted(backbone, "lora", ["a"])
    assert {name.rpartition(".")[2] for name in deltas(model, "a")} == {"query", "value"}
    assert (model.peft.tuner.peft_config["a"].r, model.peft.tuner.peft_config["a"].lora_alpha) == (4, 8)
    model = adapted(backbone, "lora", ["a"], [Recipe(rank=2, alpha=3.0, targets=("intermediate.dense",))])
    module = model.roberta.encoder.layer[1].intermediate.dense
    delta = deltas(model, "a")["roberta.encoder.layer.1.intermediate.dense"]
    assert len(deltas(model, "a")) == 2
    states = torch.randn(5, 32)
    with torch.no_grad():
        torch.testing.assert_close(module(states) - module.base_layer(states), states @ delta.T, atol=1e-5, rtol=0)


def test_ia3_scales_inputs_of_feed_forward_modules_and_outputs_of_others(backbone: Backbone) -> None:
    targets = ("value", "attention.output.dense", "intermediate.dense")
    model = adapted(backbone, "ia3", ["a"], [Recipe(targets=targets)])
    layer, states = model.roberta.encoder.layer[0], torch.randn(5, 32)
    with torch.no_grad():
        for module, feedforward in ((layer.attention.self.value, False), (layer.attention.output.dense, True)):
            vector = module.ia3_l["a"].flatten()
            base = module.base_layer
            expected = base(states * vector) if feedforward else base(states) * vector
            torch.testing.assert_close(module(states), expected)
    assert layer.intermediate.dense.ia3_l["a"].shape == (128, 1)


@pytest.mark.parametrize("method", METHODS)
def test_layers_restrict(backbone: Backbone, method: Any) -> None:
    model = adapted(backbone, method, ["all", "upper"], [RECIPE, Recipe(rank=4, layers="1")])
    every, upper = parameters_of(model, "all"), parameters_of(model, "upper")
    assert {name.replace(".upper", ".all") for name in upper} == {name for name in every if "encoder.layer.1." in name}
    assert 2 * len(upper) == len(every) > 0


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_exactly_the_target(backbone: Backbone, method: Any) -> None:
    model = install(adapted(backbone, method, ["a", "a_2"]))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(peft_parameters("a_2").fullmatch(name)))
    activate_peft(model, ["a_2"])
    activate_peft(model, ["a", "a_2"])
    weights = torch.linspace(-1, 1, 32)
    (packed_states(model) * weights).square().sum().backward()
    reached = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }
    assert reached == set(parameters_of(model, "a_2"))
    assert not reached & set(parameters_of(model, "a"))
    modules = {"lora": 2 * 2 * 2, "dora": 3 * 2 * 2, "ia3": 4 * 2}
    assert len(reached) == modules[method]


@pytest.mark.parametrize("method", METHODS)
def test_names_and_training_state_of_what_was_there(backbone: Backbone, tmp_path: Path, method: Any) -> None:
    model = load_model(backbone)
    names = [name for name, _ in model.named_parameters()]
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 2 == 0)
    trains = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    add_peft_adapter(model, "a", method, RECIPE)
    save_peft_adapter(model, tmp_path, "a", "tiny", None)
    state = torch.get_rng_state()
    load_peft_adapter(model, tmp_path, "b")
    assert torch.equal(torch.get_rng_state(), state)
    activate_peft(model, ["b", "a"])
    assert all(parameter.requires_grad for parameter in parameters_of(model, "a").values())
    assert not any(parameter.requires_grad for parameter in parameters_of(model, "b").values())
    assert registered_twice(model) == registered_twice(load_model(backbone))
    now = {name.replace(".base_layer", ""): parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {name: now[name] for name in names} == trains
    remove_peft_adapter(model, "b")
    assert model.peft.tuner.active_adapters == ["a"]
    remove_peft_adapter(model, "a")
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == trains


@pytest.mark.parametrize("method", METHODS)
def test_copy_of_a_model_stands_alone(backbone: Backbone, method: Any) -> None:
    model = adapted(backbone, method, ["a", "b"])
    expected = padded_states(model)
    other = copy.deepcopy(model)
    activate_peft(other, ["b"])
    remove_peft_adapter(other, "a")
    torch.testing.assert_close(padded_states(model), expected, atol=0, rtol=0)
    activate_peft(model, ["b"])
    torch.testing.assert_close(padded_states(other), padded_states(model), atol=0, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_bake_equals_the_active_adapters(backbone: Backbone, method: Any) -> None:
    model = adapted(backbone, method, ["a", "b"], [RECIPE, Recipe(rank=2, layers="1")])
    names = [name for name, _ in load_model(backbone).named_parameters()]
    expected = padded_states(model)
    if method == "lora":
        sums = [deltas(model, "a"), deltas(model, "b")]
        key = "roberta.encoder.layer.1.attention.self.query"
        weight = model.get_parameter(f"{key}.base_layer.weight").detach() + sums[0][key] + sums[1][key]
    bake_peft_adapters(model, ["a", "b"])
    torch.testing.assert_close(padded_states(model), expected, atol=1e-5, rtol=0)
    if method == "lora":
        torch.testing.assert_close(model.get_parameter(f"{key}.weight").detach(), weight)
    assert [name for name, _ in model.named_parameters()] == names
    add_peft_adapter(model, "target", method, RECIPE)
    activate_peft(model, ["target"])
    torch.testing.assert_close(padded_states(model), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            Recipe(targets=("foo",)),
            "--set targets: found 'foo', accepted names of linear modules: "
            "query, key, value, attention.output.dense, intermediate.dense, output.dense",
        ),
        (Recipe(targets=("query", "dense")), "--set targets: found 'dense', accepted"),
        (Recipe(layers="1-30"), "--set layers: found 1-30, accepted layers 0 to 1"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_unknown_places(backbone: Backbone, method: Any, recipe: Recipe, message: str) -> None:
    model = adapted(backbone, method, ["a"])
    with pytest.raises(UsageError) as caught:
        add_peft_adapter(model, "b", method, recipe)
    assert str(caught.value).startswith(message)
    assert list(model.peft.tuner.peft_config) == ["a"]


def test_names_and_methods_that_do_not_go(backbone: Backbone, tmp_path: Path) -> None:
    model = adapted(backbone, "lora", ["a", "b"])
    calls: dict[str, Callable[[], None]] = {
        "is on the model already": lambda: add_peft_adapter(model, "a", "lora", RECIPE),
        "without a dot": lambda: add_peft_adapter(model, "a.b", "lora", RECIPE),
        "no method of a torch module": lambda: add_peft_adapter(model, "keys", "lora", RECIPE),
        "found ia3 on a model with lora": lambda: add_peft_adapter(model, "c", "ia3", RECIPE),
        "not on the model, which has a, b": lambda: activate_peft(model, ["a", "c"]),
        "adapter 'c': not on": lambda: save_peft_adapter(model, tmp_path / "c", "c", "tiny", None),
        "cannot be baked beside b": lambda: bake_peft_adapters(model, ["a"]),
    }
    for message, call in calls.items():
        with pytest.raises(UsageError, match=message):
            call()
    assert not list(tmp_path.iterdir())
