"""Bottleneck adapters of `adapters`: fresh, loaded, averaged, fused.

Light fusion. AdapterFusion (Pfeiffer et al., 2021, equation 3) weighs the outputs z_i of N adapters by
softmax_i((Q h) . (K z_i)) and maps the mean by a value matrix V: three matrices H x H a layer, 13% of XLM-R Large.
Since (Q h) . (K z_i) = (K' Q h) . z_i, only the product K' Q matters; light fusion learns it as up (H x r) times down
(r x H) and has no V. When it is saved, the product stands in `adapters`' own query matrix (key: false, value: false),
so plain `adapters` reads it with the same result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from adapters import AdapterConfig
from adapters.configuration import AdapterFusionConfig, DynamicAdapterFusionConfig, StaticAdapterFusionConfig
from adapters.methods.bottleneck import BottleneckLayer
from torch import Tensor, nn

from adapter_stilts.errors import UsageError
from adapter_stilts.schema import Recipe, layer_numbers


def bottleneck_config(recipe: Recipe, layers: int) -> AdapterConfig:
    """Configuration in `adapters`' own terms on a backbone of so many layers."""
    kept = set(range(layers)) if recipe.layers is None else set(layer_numbers(recipe.layers))
    left_out = sorted(set(range(layers)) - kept)
    return AdapterConfig.load(recipe.adapter, reduction_factor=recipe.reduction, leave_out=left_out)


def add_bottleneck(model: Any, name: str, recipe: Recipe) -> None:
    """A fresh adapter, drawn with PyTorch's seed."""
    config = bottleneck_config(recipe, model.config.num_hidden_layers)
    try:
        model.add_adapter(name, config=config)
    except (AssertionError, ValueError) as error:
        # Compacter multiplies matrices whose sizes its own dimension must divide.
        raise UsageError(
            f"--set reduction: found {recipe.reduction:g} with adapter={recipe.adapter}: {error}"
        ) from None


def add_null(model: Any, name: str, like: str) -> None:
    """An adapter in the places of the adapter `like` whose output is zero: what fusion weighs to ignore the others."""
    like_config = model.adapters_config.get(like)
    changes = {"phm_layer": False, "is_parallel": False, "reduction_factor": model.config.hidden_size}
    model.add_adapter(name, config=AdapterConfig.load(like_config.replace(**changes)))
    with torch.no_grad():
        for parameter in (own for key, own in model.named_parameters() if f".adapters.{name}.adapter_up." in key):
            parameter.zero_()


def load_bottleneck(model: Any, folder: Path, name: str) -> None:
    """Put a saved adapter on a model, without its head, under a name of our choice."""
    model.load_adapter(str(folder), load_as=name, with_head=False, use_safetensors=True)


def average_bottlenecks(model: Any, names: list[str], merged: str, weights: tuple[float, ...] | None) -> None:
    """A new adapter whose parameters are the weighted mean (weights sum to one) of the given ones, which go.

    Raises UsageError where they have different architectures or sizes.
    """
    try:
        model.average_adapter(merged, names, weights=list(weights) if weights else None)
    except ValueError as error:
        raise UsageError(f"--compose merge: found adapters of different shapes ({error})") from None
    for name in names:
        model.delete_adapter(name)


class FactorisedLinear(nn.Module):
    """A linear map H -> H through `rank` dimensions; zero at first, so that fusion begins with equal weights."""

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(size, rank)
        self.up = nn.Linear(rank, size, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, states: Tensor) -> Tensor:
        """States (..., H) to (..., H)."""
        return self.up(self.down(states))

    def whole(self) -> nn.Linear:
        """The same map as one matrix."""
        linear = nn.Linear(self.down.in_features, self.up.out_features)
        with torch.no_grad():
            linear.weight.copy_(self.up.weight @ self.down.weight)
            linear.bias.copy_(self.up.weight @ self.down.bias)
        return linear


def add_fusion(model: Any, names: list[str], recipe: Recipe) -> None:
    """A fresh fusion of the given adapters: `full` as `adapters` has it, or `light`."""
    light = recipe.fusion == "light"
    config: AdapterFusionConfig = StaticAdapterFusionConfig(key=False) if light else DynamicAdapterFusionConfig()
    model.add_adapter_fusion(names, config)
    for fusion in _fusions(model):
        # Dropout is the same for every method: the encoder's and the head's.
        fusion.dropout.p = 0.0
        if light:
            fusion.query = FactorisedLinear(fusion.dense_size, recipe.fusion_rank)


def fusion_regularisation(model: Any) -> Tensor | None:
    """0.01 x squared distance of every value matrix to the identity (Pfeiffer et al., 2021, section 3.2.2), or None."""
    squares = [
        (fusion.value.weight - torch.eye(fusion.dense_size, device=fusion.value.weight.device)).pow(2).sum()
        for fusion in _fusions(model)
        if hasattr(fusion, "value") and fusion.value.weight.requires_grad
    ]
    return 0.01 * torch.stack(squares).sum() if squares else None


def whole_fusions(model: Any) -> None:
    """Light fusions become plain ones, which `adapters` can save and load."""
    for fusion in _fusions(model):
        if isinstance(getattr(fusion, "query", None), FactorisedLinear):
            fusion.query = fusion.query.whole().to(next(fusion.parameters()).device)


def _fusions(model: Any) -> list[Any]:
    layers = (module for module in model.modules() if isinstance(module, BottleneckLayer))
    return [fusion for layer in layers for fusion in layer.adapter_fusion_layer.values()]
