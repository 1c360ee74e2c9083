"""Bottleneck adapters and fusion: packed as padded, the null adapter, light fusion, averages, by formulas."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapters import AdapterConfig
from adapters.composition import Fuse, Stack
from adapters.configuration import DynamicAdapterFusionConfig, StaticAdapterFusionConfig
from adapters.methods.modeling import BertFusion
from support.padded import gradients, padded_logits
from support.training import add_head, random_split, use_of
from torch import Tensor, nn

from adapter_stilts.engine.batches import Batch, pack
from adapter_stilts.engine.step import batch_logits
from adapter_stilts.errors import UsageError
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.bottleneck import (
    NULL_LENGTH,
    NULL_SHARE,
    FactorisedLinear,
    Fusion,
    add_bottleneck,
    add_fusion,
    add_null,
    average_bottlenecks,
    fusion_regularisation,
    load_bottleneck,
    whole_fusions,
)
from adapter_stilts.model.packing import install
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.schema import Recipe
from adapter_stilts.tasks.encode import EncodedSplit

SPLIT = random_split([30, 3, 41, 9, 9, 10])
KINDS = ("pfeiffer", "houlsby", "compacter")


def adapters_of(model: Any, name: str) -> dict[str, nn.Parameter]:
    patterns = (f".adapters.{name}.", f".shared_parameters.{name}.")
    return {
        full_name: value
        for full_name, value in model.named_parameters()
        if any(pattern in full_name for pattern in patterns)
    }


def randomise(model: Any, names: Sequence[str], scale: float = 0.2) -> None:
    """Values far from what adapters and fusion start as, the same for the same model."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for full_name, parameter in model.named_parameters():
            if any(f".{part}.{name}." in full_name for part in ("adapters", "shared_parameters") for name in names) or (
                "adapter_fusion_layer." in full_name
            ):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def fused_model(backbone: Backbone, recipe: Recipe, null: bool = True) -> Any:
    """a and b (and an adapter that does nothing) fused under the target t."""
    torch.manual_seed(1)
    model = load_model(backbone)
    for name in ("a", "b"):
        add_bottleneck(model, name, recipe)
    fused = ["a", "b"]
    if null:
        add_null(model, "nothing", fused.copy())
        fused.append("nothing")
    add_fusion(model, fused, recipe, "nothing" if null else None)
    add_bottleneck(model, "t", recipe)
    add_head(model, "t")
    randomise(model, ["a", "b", "t"])
    model.set_active_adapters(Stack(Fuse(*fused), "t"))
    return model.eval()


def stacked_model(backbone: Backbone, recipe: Recipe, names: Sequence[str] = ("a", "t")) -> Any:
    torch.manual_seed(1)
    model = load_model(backbone)
    for name in names:
        add_bottleneck(model, name, recipe)
    add_head(model, "t")
    randomise(model, names)
    model.set_active_adapters(Stack(*names))
    return model.eval()


def merged_model(backbone: Backbone) -> Any:
    model = stacked_model(backbone, Recipe(), ("a", "b", "t"))
    average_bottlenecks(model, ["a", "b"], "merged", (0.7, 0.3))
    model.set_active_adapters(Stack("merged", "t"))
    return model.eval()


def whole_batch(split: EncodedSplit = SPLIT) -> Batch:
    return pack(split, np.arange(split.examples), use_of("t"), 2)


# --- packed rows against plain padded `adapters` ----------------------------------------------------------------------

MODELS = {
    "fuse light": lambda backbone: fused_model(backbone, Recipe()),
    "fuse light, two adapters": lambda backbone: fused_model(backbone, Recipe(fusion_rank=3), null=False),
    "fuse full": lambda backbone: fused_model(backbone, Recipe(fusion="full")),
    "fuse houlsby": lambda backbone: fused_model(backbone, Recipe(adapter="houlsby")),
    "fuse compacter": lambda backbone: fused_model(backbone, Recipe(adapter="compacter")),
    "houlsby": lambda backbone: stacked_model(backbone, Recipe(adapter="houlsby")),
    "parallel": lambda backbone: stacked_model(backbone, Recipe(adapter="parallel")),
    "compacter": lambda backbone: stacked_model(backbone, Recipe(adapter="compacter")),
    "second layer": lambda backbone: stacked_model(backbone, Recipe(layers="1")),
    "merged": merged_model,
}


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_all_gradients_equal_those_of_padded_adapters(backbone: Backbone, name: str) -> None:
    """Of every parameter, also of those that training freezes."""
    plain = MODELS[name](backbone)
    plain.requires_grad_(True)
    packed = install(copy.deepcopy(plain))
    batch = whole_batch()
    units = SPLIT.unit_offsets
    order = np.concatenate([np.arange(units[sequence], units[sequence + 1]) for sequence in batch.sequences])
    expected, logits = padded_logits(plain, SPLIT)[order], batch_logits(packed, batch)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    wanted, packed_gradients = (
        gradients(plain, expected, batch.targets["label"]),
        gradients(packed, logits, batch.targets["label"]),
    )
    assert packed_gradients.keys() == wanted.keys()
    still = {
        full_name
        for full_name, gradient in wanted.items()
        if gradient.abs().max() < 1e-6 and "key.bias" not in full_name
    }
    # Nothing comes back through the null adapter, whose output is a bias alone.
    assert still == {full_name for full_name in wanted if ".nothing.adapter_down." in full_name}
    for parameter, gradient in wanted.items():
        torch.testing.assert_close(packed_gradients[parameter], gradient, atol=1e-5, rtol=1e-5, msg=parameter)


@pytest.mark.parametrize("adapter", KINDS)
def test_adapters_own_fusion_reads_the_whole_matrix(backbone: Backbone, adapter: Any) -> None:
    """A model that `adapters` builds by itself, with our tensors by name, gives the same logits."""
    replaced = fused_model(backbone, Recipe(adapter=adapter))
    expected = padded_logits(replaced, SPLIT)
    config = AdapterConfig.load(adapter, reduction_factor=8)
    plain = load_model(backbone)
    for name in ("a", "b", "t"):
        plain.add_adapter(name, config=config)
    plain.add_adapter("nothing", config=config.replace(phm_layer=False, reduction_factor=32))
    plain.add_adapter_fusion(["a", "b", "nothing"], StaticAdapterFusionConfig(key=False))
    add_head(plain, "t")
    whole_fusions(replaced)
    plain.load_state_dict(replaced.state_dict(), strict=True)
    plain.set_active_adapters(Stack(Fuse("a", "b", "nothing"), "t"))
    logits = padded_logits(plain.eval(), SPLIT)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(padded_logits(replaced, SPLIT), expected, atol=1e-5, rtol=1e-5)


# --- fusion -----------------------------------------------------------------------------------------------------------


def test_factorised_map_as_one_matrix() -> None:
    """up down h + bias = (up down) h + bias, in float64."""
    torch.manual_seed(0)
    layer = FactorisedLinear(12, 5)
    assert layer(torch.randn(4, 12)).abs().max() == 0.0
    assert {name: parameter.numel() for name, parameter in layer.named_parameters()} == {
        "down.weight": 5 * 12,
        "up.weight": 12 * 5,
        "up.bias": 12,
    }
    nn.init.normal_(layer.up.weight)
    nn.init.normal_(layer.bias)
    whole = layer.whole()
    up, down, bias = (tensor.detach().double() for tensor in (layer.up.weight, layer.down.weight, layer.up.bias))
    torch.testing.assert_close(whole.weight.double(), up @ down, atol=1e-5, rtol=0)
    assert torch.equal(whole.bias.double(), bias)
    states = torch.randn(3, 7, 12)
    torch.testing.assert_close(layer(states).double(), states.double() @ (up @ down).T + bias, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole(states), layer(states), atol=1e-5, rtol=1e-5)
    assert int(torch.linalg.matrix_rank(whole.weight)) == 5


def attentions(model: Any) -> list[Tensor]:
    """Weights (tokens, adapters) that each fusion gives its adapters, in the order of the layers."""
    ids = torch.tensor([[0, 5, 60, 70, 9, 2]])
    with torch.no_grad():
        output = model(ids, output_adapter_fusion_attentions=True)
    by_layer = output.adapter_fusion_attentions
    return [
        torch.as_tensor(weights)[0]
        for layers in by_layer.values()
        for by_name in layers.values()
        for weights in by_name.values()
    ]


def fresh_fusion(backbone: Backbone, recipe: Recipe, null: bool = True) -> Any:
    """A fusion as it is built, over adapters that are far from the identity."""
    torch.manual_seed(1)
    model = load_model(backbone)
    for name in ("a", "b"):
        add_bottleneck(model, name, recipe)
    randomise(model, ["a", "b"], scale=1.0)
    fused = ["a", "b"]
    if null:
        add_null(model, "nothing", ["a", "b"])
        fused.append("nothing")
    add_fusion(model, fused, recipe, "nothing" if null else None)
    add_head(model, "t")
    model.set_active_adapters(Fuse(*fused))
    return model.eval()


@pytest.mark.parametrize(("adapter", "null"), [(adapter, False) for adapter in KINDS] + [("compacter", True)])
def test_light_fusion_without_a_free_direction_starts_with_equal_weights(
    backbone: Backbone, adapter: Any, null: bool
) -> None:
    """There is no null adapter to prefer, or none whose output a query can tell from zero."""
    weights_of_fusions = attentions(fresh_fusion(backbone, Recipe(adapter=adapter), null))
    assert len(weights_of_fusions) == (2 if adapter == "pfeiffer" else 4)
    for weights in weights_of_fusions:
        share = 1 / (2 + null)
        assert weights.shape == (6, 2 + null)
        torch.testing.assert_close(weights, torch.full((6, 2 + null), share), atol=0, rtol=1e-6)
    trained = fused_model(backbone, Recipe(adapter=adapter), null)
    assert max(float((weights - share).abs().max()) for weights in attentions(trained)) > 0.05


@pytest.mark.parametrize("adapter", ["pfeiffer", "houlsby"])
@pytest.mark.parametrize("fusion", ["light", "full"])
def test_fresh_fusion_has_most_of_its_weight_on_the_null_adapter(backbone: Backbone, adapter: Any, fusion: Any) -> None:
    """0.95 at every token, and the others share the rest."""
    assert (NULL_SHARE, NULL_LENGTH) == (0.95, 0.25)
    model = fresh_fusion(backbone, Recipe(adapter=adapter, fusion=fusion))
    weights_of_fusions = attentions(model)
    assert len(weights_of_fusions) == (2 if adapter == "pfeiffer" else 4)
    for weights in weights_of_fusions:
        torch.testing.assert_close(weights, torch.tensor([0.025, 0.025, 0.95]).expand(6, 3), atol=1e-3, rtol=0)
        torch.testing.assert_close(weights[:, :2].sum(1), torch.full((6,), 0.05), atol=1e-3, rtol=0)


@pytest.mark.parametrize("fusion", ["light", "full"])
@pytest.mark.parametrize("others", [1, 2, 4])
def test_start_of_the_query_and_key_by_hand(backbone: Backbone, others: int, fusion: Any) -> None:
    """Score of the null adapter: log(0.95 n / 0.05) against 0 for each of n others, so its weight is 0.95."""
    torch.manual_seed(0)
    model = load_model(backbone)
    names = list("abcd"[:others])
    for name in names:
        add_bottleneck(model, name, Recipe())
    randomise(model, names)
    add_null(model, "nothing", names)
    add_fusion(model, [*names, "nothing"], Recipe(fusion=fusion), "nothing")
    score = math.log(19 * others)
    assert math.exp(score) / (math.exp(score) + others) == pytest.approx(0.95, rel=1e-12)
    for layer in model.roberta.encoder.layer:
        fusion_layer = layer.output.adapter_fusion_layer[",".join([*names, "nothing"])]
        direction = layer.output.adapters["nothing"].adapter_up.bias.detach() / 0.25
        torch.testing.assert_close(fusion_layer.query.bias.detach(), score / 0.25 * direction, atol=1e-5, rtol=1e-5)
        if fusion == "full":
            torch.testing.assert_close(direction @ fusion_layer.key.weight, direction, atol=1e-6, rtol=0)
            assert fusion_layer.key.bias.abs().max() == 0
            rest = fusion_layer.key.weight - torch.outer(direction, direction)
            # What is left of 32 x 32 draws from N(0, 0.02), one row's worth of them gone.
            assert rest.norm().item() == pytest.approx(0.02 * math.sqrt(31 * 32), rel=0.1)


@pytest.mark.parametrize(("fusion", "atol"), [("light", 1e-4), ("full", 1e-3)])
@pytest.mark.parametrize("adapter", ["pfeiffer", "houlsby"])
def test_what_a_fresh_fusion_adds(backbone: Backbone, adapter: Any, fusion: Any, atol: float) -> None:
    """sum_i w_i z_i: 0.025 of each other output and 0.95 of the null output, so at most 0.05 max |z| + 0.25."""
    model = fresh_fusion(backbone, Recipe(adapter=adapter, fusion=fusion))
    seen: list[tuple[Tensor, Tensor]] = []

    def remember(layer: Any, given: tuple[Tensor, ...], output: Tensor) -> None:
        _, _, outputs, residual = given
        seen.append((outputs.detach(), (output - residual).detach()))

    for layer in fusions(model):
        if fusion == "full":
            # Only its bias decides then, as in a light fusion.
            nn.init.zeros_(layer.query.weight)
        layer.register_forward_hook(remember)
    with torch.no_grad():
        model(torch.tensor([[0, 5, 60, 70, 9, 2]]))
    assert len(seen) == (2 if adapter == "pfeiffer" else 4)
    for outputs, context in seen:
        one, other, null = outputs.unbind(2)
        torch.testing.assert_close(context, 0.025 * (one + other) + 0.95 * null, atol=atol, rtol=1e-4)
        lengths = torch.stack([one, other]).norm(dim=-1)
        assert lengths.min() > 3
        torch.testing.assert_close(null.norm(dim=-1), torch.full(null.shape[:2], 0.25), atol=1e-6, rtol=0)
        assert (context.norm(dim=-1) <= 0.05 * lengths.amax(0) + 0.25).all()


def test_fresh_light_fusion_is_zero_and_drawn_from_the_seed(backbone: Backbone) -> None:
    """Before any weight is set by hand."""
    maps = []
    for seed in (0, 0, 1):
        model = load_model(backbone)
        for name in ("a", "b"):
            add_bottleneck(model, name, Recipe())
        torch.manual_seed(seed)
        add_fusion(model, ["a", "b"], Recipe(fusion_rank=7))
        parameters = {name: value for name, value in model.named_parameters() if "adapter_fusion_layer.a,b." in name}
        assert {tuple(value.shape) for name, value in parameters.items()} == {(7, 32), (32, 7), (32,)}
        assert all(value.abs().max() == 0 for name, value in parameters.items() if ".up." in name)
        assert all(fusion.dropout.p == 0 for fusion in fusions(model))
        maps.append(torch.cat([value.detach().flatten() for value in parameters.values()]))
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


def fusions(model: Any) -> list[Any]:
    return [module for name, module in model.named_modules() if name.endswith((".a,b", ".a,b,nothing"))]


def outputs_of(layer: Any, name: str, states: Tensor) -> Tensor:
    """What one adapter adds to the states."""
    with torch.no_grad():
        return layer.adapters[name](states, states)[2]


def bottleneck_layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if len(getattr(module, "adapters", {})) > 0]


@pytest.mark.parametrize("fused", ["a", "ab", "abc"])
@pytest.mark.parametrize("adapter", ["pfeiffer", "houlsby"])
def test_null_output_is_short_and_orthogonal_to_the_others(backbone: Backbone, adapter: Any, fused: str) -> None:
    """A length of 0.25 and the same for all states; the other adapters' outputs have no share in its direction."""
    torch.manual_seed(0)
    model = load_model(backbone)
    for name in fused:
        add_bottleneck(model, name, Recipe(adapter=adapter))
    randomise(model, fused)
    add_null(model, "nothing", list(fused))
    states = 3 * torch.randn(40, 32)
    layers = bottleneck_layers(model)
    assert len(layers) == (2 if adapter == "pfeiffer" else 4)
    for layer in layers:
        null = outputs_of(layer, "nothing", states)
        assert torch.equal(null, null[:1].expand(40, 32))
        torch.testing.assert_close(null.norm(dim=-1), torch.full((40,), 0.25), atol=1e-6, rtol=0)
        for name in fused:
            others = outputs_of(layer, name, states)
            assert others.norm(dim=-1).min() > 0.5
            assert (others * null).sum(-1).abs().max() < 1e-5


def test_null_direction_where_the_others_leave_none(backbone: Backbone) -> None:
    """Bottlenecks of the hidden size reach every direction: the least eigenvector of up up' + b b' is taken."""
    model = load_model(backbone)
    for name in "ab":
        add_bottleneck(model, name, Recipe(reduction=1))
    randomise(model, ["a", "b"])
    add_null(model, "nothing", ["a", "b"])
    for layer in bottleneck_layers(model):
        ups = [layer.adapters[name].adapter_up for name in "ab"]
        reached = sum((up.weight.double() @ up.weight.double().T + up.bias.outer(up.bias)).detach() for up in ups)
        least = np.linalg.eigvalsh(np.asarray(reached))[0]
        direction = layer.adapters["nothing"].adapter_up.bias.detach().double() / 0.25
        assert direction.norm().item() == pytest.approx(1, abs=1e-6)
        assert float(direction @ reached @ direction) == pytest.approx(least, rel=1e-4)
        assert least > 0.01


@pytest.mark.parametrize("adapter", KINDS)
def test_null_adapter_alone_is_a_bias_of_the_backbone(backbone: Backbone, adapter: Any) -> None:
    """Its vector added by hand to the bias of the dense module before it; of compacter zero, equal to the bit."""
    torch.manual_seed(0)
    model = load_model(backbone)
    add_head(model, "t")
    plain = copy.deepcopy(model)
    bare = padded_logits(model, SPLIT)
    add_bottleneck(model, "a", Recipe(adapter=adapter))
    randomise(model, ["a"])
    add_null(model, "nothing", ["a"])
    up = [parameter for name, parameter in adapters_of(model, "nothing").items() if ".adapter_up." in name]
    adapter_count = 2 if adapter == "pfeiffer" else 4
    assert len(up) == 2 * adapter_count
    assert {tuple(parameter.shape) for parameter in up} == {(32, 1), (32,)}
    assert all(parameter.abs().max() == 0 for parameter in up if parameter.ndim == 2 or adapter == "compacter")
    model.set_active_adapters("a")
    assert (padded_logits(model.eval(), SPLIT) - bare).abs().max() > 0.1
    model.set_active_adapters("nothing")
    logits = padded_logits(model, SPLIT)
    if adapter == "compacter":
        assert torch.equal(logits, bare)
        return
    with torch.no_grad():
        for mine, other in zip(model.roberta.encoder.layer, plain.roberta.encoder.layer, strict=True):
            other.output.dense.bias += mine.output.adapters["nothing"].adapter_up.bias
            if adapter == "houlsby":
                attention = mine.attention.output.adapters["nothing"]
                other.attention.output.dense.bias += attention.adapter_up.bias
    torch.testing.assert_close(logits, padded_logits(plain.eval(), SPLIT), atol=1e-5, rtol=1e-5)
    assert (logits - bare).abs().max() > 1e-3


def test_null_adapter_sits_where_the_others_do(backbone: Backbone) -> None:
    model = load_model(backbone)
    for name in "ab":
        add_bottleneck(model, name, Recipe(adapter="houlsby", layers="1"))
    add_null(model, "nothing", ["a", "b"])
    layers = {name.split(".adapters.")[0] for name in adapters_of(model, "a")}
    assert {name.split(".adapters.")[0] for name in adapters_of(model, "nothing")} == layers
    assert len(layers) == 2


@pytest.mark.parametrize("adapter", KINDS)
def test_fusion_that_prefers_the_null_adapter_ignores_the_other(backbone: Backbone, adapter: Any) -> None:
    """A query that is far from what `a` adds and orthogonal to what the null adapter does gives the latter alone.

    adapter_up's bias alone is left of a, z_a = c: the query -1000 c scores it -1000 |c|^2, and the null adapter 0.
    """
    torch.manual_seed(0)
    model = load_model(backbone)
    recipe = Recipe(adapter=adapter)
    add_bottleneck(model, "a", recipe)
    added = torch.randn(32)
    with torch.no_grad():
        for name, parameter in adapters_of(model, "a").items():
            if "shared_parameters" in name:
                continue
            is_bias = ".adapter_up." in name and parameter.shape == (32,)
            parameter.copy_(added) if is_bias else parameter.zero_()
    add_null(model, "nothing", ["a"])
    add_fusion(model, ["a", "nothing"], recipe, "nothing")
    whole_fusions(model)
    add_head(model, "t")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "adapter_fusion_layer." in name:
                parameter.copy_(-1000 * added) if name.endswith("bias") else parameter.zero_()
    model.set_active_adapters("nothing")
    expected = padded_logits(model.eval(), SPLIT)
    model.set_active_adapters("a")
    assert (padded_logits(model, SPLIT) - expected).abs().max() > 0.1
    model.set_active_adapters(Fuse("a", "nothing"))
    assert torch.equal(padded_logits(model, SPLIT), expected)


@pytest.mark.parametrize("adapter", ["pfeiffer", "houlsby"])
def test_regularisation_is_that_of_adapters(backbone: Backbone, adapter: Any) -> None:
    """0.01 |V - I|^2 summed over layers; value and gradient."""
    model = fused_model(backbone, Recipe(adapter=adapter, fusion="full"))
    model.train_adapter_fusion(Fuse("a", "b", "nothing"))
    regularisation, reference = fusion_regularisation(model), model.roberta.get_fusion_regularization_loss()
    assert regularisation is not None
    matrices = [layer.value.weight for layer in fusions(model)]
    by_hand = (
        sum(float(((matrix.detach().double() - torch.eye(32, dtype=torch.float64)) ** 2).sum()) for matrix in matrices)
        * 0.01
    )
    assert regularisation.item() == pytest.approx(by_hand, rel=1e-6)
    assert regularisation.item() == pytest.approx(reference.item(), rel=1e-6)
    assert regularisation.item() > 1
    for mine, other in zip(
        torch.autograd.grad(regularisation, matrices), torch.autograd.grad(reference, matrices), strict=True
    ):
        torch.testing.assert_close(mine, other, atol=1e-7, rtol=1e-6)
    model.requires_grad_(False)
    assert fusion_regularisation(model) is None


def test_light_fusion_has_nothing_to_regularise(backbone: Backbone) -> None:
    model = fused_model(backbone, Recipe())
    model.requires_grad_(True)
    assert fusion_regularisation(model) is None


# --- averages and places ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, (0.75, 0.25), (3.0, 1.0)])
@pytest.mark.parametrize("adapter", ["pfeiffer", "compacter"])
def test_average_by_hand(backbone: Backbone, adapter: Any, weights: tuple[float, ...] | None) -> None:
    """The weighted mean, parameter by parameter; weights count relative to their sum."""
    model = stacked_model(backbone, Recipe(adapter=adapter), ("a", "b", "t"))
    values = {
        name: {full_name: value.detach().double() for full_name, value in adapters_of(model, name).items()}
        for name in "abt"
    }
    share = 0.5 if weights is None else weights[0] / sum(weights)
    average_bottlenecks(model, ["a", "b"], "merged", weights)
    merged = adapters_of(model, "merged")
    assert len(merged) == len(values["a"])
    for full_name, value in merged.items():
        one, other = (values[name][full_name.replace(".merged.", f".{name}.")] for name in "ab")
        torch.testing.assert_close(value.double(), share * one + (1 - share) * other, atol=1e-6, rtol=0)
    assert not adapters_of(model, "a")
    assert not adapters_of(model, "b")
    assert all(
        torch.equal(value.double(), values["t"][full_name]) for full_name, value in adapters_of(model, "t").items()
    )


def test_adapters_of_unequal_shapes_have_no_average(backbone: Backbone) -> None:
    model = load_model(backbone)
    for name, reduction in (("a", 8), ("b", 4)):
        add_bottleneck(model, name, Recipe(reduction=reduction))
    with pytest.raises(UsageError, match=r"^--compose merge: found adapters of different shapes \(") as caught:
        average_bottlenecks(model, ["a", "b"], "merged", None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("layers", "kept"), [(None, {0, 1}), ("0", {0}), ("1", {1}), ("0-1", {0, 1})])
@pytest.mark.parametrize("adapter", [*KINDS, "parallel"])
def test_layers_restrict(backbone: Backbone, adapter: Any, layers: str | None, kept: set[int]) -> None:
    model = load_model(backbone)
    add_bottleneck(model, "a", Recipe(adapter=adapter, layers=layers))
    layers_with_adapters = {
        int(name.split("layer.")[1].split(".")[0]) for name in adapters_of(model, "a") if ".adapters." in name
    }
    assert layers_with_adapters == kept


def test_reduction_that_compacter_cannot_divide(backbone: Backbone) -> None:
    """Its matrices are sums of 4 Kronecker products, so 4 must divide the bottleneck."""
    with pytest.raises(UsageError, match=r"^--set reduction: found 16 with adapter=compacter: ") as caught:
        add_bottleneck(load_model(backbone), "a", Recipe(adapter="compacter", reduction=16))
    assert "\n" not in str(caught.value)


def test_folder_is_no_part_of_the_name(tmp_path: Path, backbone: Backbone) -> None:
    """A saved adapter comes back under a name of our choice, without its head, value by value."""
    model = stacked_model(backbone, Recipe(adapter="compacter"))
    model.save_adapter(str(tmp_path / "t"), "t", with_head=True, use_safetensors=True)
    other = load_model(backbone)
    load_bottleneck(other, tmp_path / "t", "renamed")
    saved, loaded = adapters_of(model, "t"), adapters_of(other, "renamed")
    assert {name.replace(".renamed.", ".t.") for name in loaded} == saved.keys()
    assert all(torch.equal(parameter, saved[name.replace(".renamed.", ".t.")]) for name, parameter in loaded.items())
    assert len(other.heads) == 0


@pytest.mark.parametrize("kind", ["full", "light"])
def test_fusion_equals_that_of_adapters_forward_and_backward(kind: str) -> None:
    """The same module by both classes: outputs, and gradients of its weights and of everything that it reads."""
    config = DynamicAdapterFusionConfig() if kind == "full" else StaticAdapterFusionConfig(key=False)
    torch.manual_seed(0)
    plain = BertFusion(config, 12, 0.0)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter)
    replaced = copy.deepcopy(plain)
    replaced.__class__ = Fusion
    drawn = torch.randn(1, 7, 12), torch.randn(1, 7, 3, 12), torch.randn(1, 7, 12), torch.randn(1, 7, 12)
    results = []
    for module in (replaced, plain):
        query, others, residual, gradient = (tensor.clone().requires_grad_() for tensor in drawn)
        # `adapters` gives one tensor as key and value.
        out = module(query, others, others, residual)
        out.backward(gradient)
        results.append(
            [out, query.grad, others.grad, residual.grad, *(parameter.grad for parameter in module.parameters())]
        )
    for tensor, other in zip(*results, strict=True):
        torch.testing.assert_close(tensor, other, atol=1e-5, rtol=1e-5)
