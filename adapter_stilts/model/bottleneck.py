"""Bottleneck adapters of `adapters`: fresh, loaded, averaged, fused.

Light fusion. AdapterFusion (Pfeiffer et al., 2021, equation 3) weighs the outputs z_i of N adapters by
softmax_i((Q h) . (K z_i)) and maps the mean by a value matrix V: three matrices H x H a layer, 13% of XLM-R Large.
Since (Q h) . (K z_i) = (K' Q h) . z_i, only the product K' Q matters; light fusion learns it as up (H x r) times down
(r x H) and has no V. When it is saved, the product stands in `adapters`' own query matrix (key: false, value: false),
so plain `adapters` reads it with the same result.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from adapters import AdapterConfig
from adapters.configuration import AdapterFusionConfig, DynamicAdapterFusionConfig, StaticAdapterFusionConfig
from adapters.loading import AdapterFusionLoader, AdapterLoader
from adapters.methods.bottleneck import BottleneckLayer
from adapters.methods.modeling import BertFusion
from adapters.utils import (
    ADAPTERFUSION_CONFIG_NAME,
    CONFIG_NAME,
    SAFE_ADAPTERFUSION_WEIGHTS_NAME,
    SAFE_WEIGHTS_NAME,
)
from torch import Tensor, nn

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.model.protocols import Model
from adapter_stilts.model.tensors import fill
from adapter_stilts.schema import MOST_LAYERS, Recipe, layer_numbers
from adapter_stilts.trust import read_json, refuse

# Share of a fusion's weight that the adapter which does nothing begins with, and the length of its output: long enough
# that a query of moderate length can prefer it, short beside hidden states (about 20 on the embedded backbone).
NULL_SHARE = 0.95
NULL_LENGTH = 0.25
# Of a saved adapter; the widest feed-forward layer of an XLM-R has 16,384.
LARGEST_BOTTLENECK = 65_536
_SIMPLE = (bool, int, float, str, list, type(None))
# What `adapters` raises for configurations that it cannot build.
_REFUSED = (AssertionError, AttributeError, ImportError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


def bottleneck_config(recipe: Recipe, layers: int) -> AdapterConfig:
    """Configuration in `adapters`' own terms on a backbone of so many layers."""
    adapted = set(range(layers)) if recipe.layers is None else set(layer_numbers(recipe.layers))
    left_out = sorted(set(range(layers)) - adapted)
    return AdapterConfig.load(recipe.adapter, reduction_factor=recipe.reduction, leave_out=left_out)


def add_bottleneck(model: Model, name: str, recipe: Recipe) -> None:
    """A fresh adapter, drawn with PyTorch's seed."""
    config = bottleneck_config(recipe, model.config.num_hidden_layers)
    try:
        model.add_adapter(name, config=config)
    except (AssertionError, ValueError) as error:
        # Compacter multiplies matrices whose sizes its own dimension must divide.
        raise UsageError(
            f"--set reduction: found {recipe.reduction:g} with adapter={recipe.adapter}: {error}"
        ) from None


def add_null(model: Model, name: str, fused: list[str]) -> None:
    """An adapter in the places of the fused ones that does next to nothing: what fusion weighs to ignore the others.

    Its output is everywhere the same short vector, in a direction that none of the fused adapters' outputs has (their
    up-projections leave some free), so that a query along it prefers this adapter whatever the others say.
    """
    like_config = model.adapters_config.get(fused[0])
    changes = {"phm_layer": False, "is_parallel": False, "reduction_factor": model.config.hidden_size}
    model.add_adapter(name, config=AdapterConfig.load(like_config.replace(**changes)))
    with torch.no_grad():
        for layer in _layers(model):
            if name in layer.adapters:
                up = layer.adapters[name].adapter_up
                up.weight.zero_()
                up.bias.copy_(NULL_LENGTH * _free_direction([layer.adapters[other] for other in fused]))


def _free_direction(adapters: list[Any]) -> Tensor:
    """A unit vector (H,) that is orthogonal to every output of the adapters, or as nearly as there is one; zero where
    an adapter's up-projection is not one matrix (compacter)."""
    ups = [adapter.adapter_up for adapter in adapters]
    if not all(isinstance(up, nn.Linear) for up in ups):
        return torch.zeros(adapters[0].input_size)
    span = torch.cat([torch.cat([up.weight, up.bias[:, None]], dim=1) for up in ups], dim=1)
    return torch.linalg.svd(span.double())[0][:, -1].to(span.dtype)


def load_bottleneck(model: Model, folder: Path, name: str) -> None:
    """Put a saved adapter on a model, without its head, under a name of our choice.

    Raises StiltsError with the file for a configuration of anything but a bottleneck adapter, and where its weights are
    not exactly those of the configuration.
    """
    path = folder / CONFIG_NAME
    saved, config = _saved_config(path, AdapterConfig.load("pfeiffer").to_dict())
    _check_sizes(path, config, model.config)
    try:
        model.add_adapter(name, config=AdapterConfig.load(config))
    except _REFUSED as error:
        raise StiltsError(f"{path}: found no bottleneck adapter ({' '.join(str(error).split())[:200]})") from None
    _fill_part(model, folder / SAFE_WEIGHTS_NAME, AdapterLoader(model), saved, name)


def load_fusion(model: Model, folder: Path, names: list[str]) -> None:
    """Put the saved fusion of these adapters on a model. Raises StiltsError as `load_bottleneck`."""
    path = folder / ADAPTERFUSION_CONFIG_NAME
    name, config = _saved_config(path, DynamicAdapterFusionConfig().to_dict())
    if name != ",".join(names):
        refuse(path, f"the fusion of {name[:80]}", f"that of {','.join(names)}")
    try:
        model.add_adapter_fusion(names, config, name=name)
    except _REFUSED as error:
        raise StiltsError(f"{path}: found no fusion ({' '.join(str(error).split())[:200]})") from None
    _fill_part(model, folder / SAFE_ADAPTERFUSION_WEIGHTS_NAME, AdapterFusionLoader(model), name, name)


def _saved_config(path: Path, accepted: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and configuration of what is saved; its keys are the accepted ones, each with a value of a type there."""
    saved = read_json(path)
    name, config = saved.get("name"), saved.get("config")
    if not isinstance(name, str) or not isinstance(config, dict):
        refuse(path, "no name or config", "both")
    for key, value in config.items():
        if key not in accepted:
            refuse(path, f"config.{key[:80]}", ", ".join(accepted))
        if isinstance(value, list) and len(value) > MOST_LAYERS:
            refuse(path, f"config.{key}: {len(value):,} values", f"up to {MOST_LAYERS:,}")
        if not isinstance(value, _SIMPLE) or (isinstance(value, list) and not all(type(item) is int for item in value)):
            refuse(path, f"config.{key}: {str(value)[:80]!r}", "a plain value")
    return name, {**accepted, **config}


def _check_sizes(path: Path, config: dict[str, Any], model_config: Any) -> None:
    """Raise StiltsError for sizes that no adapter has, before memory is taken for them."""
    reduction, dimension = config["reduction_factor"], config["phm_dim"]
    plain = isinstance(reduction, int | float) and not isinstance(reduction, bool) and math.isfinite(reduction)
    if not plain or reduction <= 0 or model_config.hidden_size / reduction > LARGEST_BOTTLENECK:
        refuse(path, f"config.reduction_factor: {str(reduction)[:80]}", f"a bottleneck of 1 to {LARGEST_BOTTLENECK:,}")
    if config["inv_adapter"] is not None:
        refuse(path, f"config.inv_adapter: {str(config['inv_adapter'])[:80]}", "null: no invertible adapter")
    if type(dimension) is not int or not 1 <= dimension <= model_config.hidden_size:
        refuse(path, f"config.phm_dim: {str(dimension)[:80]}", f"1 to {model_config.hidden_size}")


def _fill_part(model: Model, path: Path, loader: Any, saved: str, name: str) -> None:
    """Put the weights in a file into what was just added to the model; `saved` is its name there."""
    wanted = loader.filter_func(name)
    back = loader.rename_func(name, saved)
    fill(path, {back(key): tensor for key, tensor in model.state_dict().items() if wanted(key)})


def average_bottlenecks(model: Model, names: list[str], merged: str, weights: tuple[float, ...] | None) -> None:
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
    """A linear map H -> H through `rank` dimensions, with a bias; zero at first, so that what an adapter says does not
    count before it is learnt that it should."""

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(size, rank, bias=False)
        self.up = nn.Linear(rank, size)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    @property
    def bias(self) -> nn.Parameter:
        return self.up.bias

    def forward(self, states: Tensor) -> Tensor:
        """States (..., H) to (..., H)."""
        return self.up(self.down(states))

    def whole(self) -> nn.Linear:
        """The same map as one matrix."""
        linear = nn.Linear(self.down.in_features, self.up.out_features)
        with torch.no_grad():
            linear.weight.copy_(self.up.weight @ self.down.weight)
            linear.bias.copy_(self.up.bias)
        return linear


class _RowProducts(torch.autograd.Function):
    """Products (..., N) of a row (..., H) with each of N others (..., N, H).

    What comes back is an outer product for each token: many of the smallest matrix products there are. As products of
    whole tensors they take a tenth of the time on a GPU.
    """

    @staticmethod
    def forward(ctx: Any, row: Tensor, others: Tensor) -> Tensor:
        ctx.save_for_backward(row, others)
        return torch.matmul(others, row.unsqueeze(-1)).squeeze(-1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        row, others = ctx.saved_tensors
        of_row = torch.matmul(gradient.unsqueeze(-2), others).squeeze(-2)
        return of_row, gradient.unsqueeze(-1) * row.unsqueeze(-2)


class _WeightedMean(torch.autograd.Function):
    """The sum (..., H) of N rows (..., N, H) by their weights (..., N); its backward is as that of `_RowProducts`."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(weights, rows)
        return torch.matmul(weights.unsqueeze(-2), rows).squeeze(-2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        weights, rows = ctx.saved_tensors
        of_weights = torch.matmul(rows, gradient.unsqueeze(-1)).squeeze(-1)
        return of_weights, weights.unsqueeze(-1) * gradient.unsqueeze(-2)


class Fusion(BertFusion):
    """`adapters`' fusion (Pfeiffer et al., 2021, equations 1 to 3) as both kinds of fusion here have it: the value
    matrix, if any, before the mean, the residual added to it, no temperature."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, residual: Tensor, *args: Any, **kwargs: Any) -> Any:
        """States (B, T, H) and adapters' outputs (B, T, N, H) to states (B, T, H)."""
        if args or kwargs.get("output_attentions"):
            return super().forward(query, key, value, residual, *args, **kwargs)
        asked = self.query(query)
        known = self.key(key) if self.config["key"] else key
        given = self.value(value) if self.config["value"] else value
        shares = torch.softmax(self.dropout(_RowProducts.apply(asked, known)), dim=-1)
        return _WeightedMean.apply(shares, given) + residual


def add_fusion(model: Model, names: list[str], recipe: Recipe, null: str | None = None) -> None:
    """A fresh fusion of the given adapters: `full` as `adapters` has it, or `light`. With a `null` adapter among them,
    the others together begin with 1 - NULL_SHARE of the weight."""
    light = recipe.fusion == "light"
    config: AdapterFusionConfig = StaticAdapterFusionConfig(key=False) if light else DynamicAdapterFusionConfig()
    model.add_adapter_fusion(names, config)
    for layer in _layers(model):
        for fusion in layer.adapter_fusion_layer.values():
            fusion.__class__ = Fusion
            # Dropout is the same for every method: the encoder's and the head's.
            fusion.dropout.p = 0.0
            if light:
                fusion.query = FactorisedLinear(fusion.dense_size, recipe.fusion_rank)
            if null is not None:
                _prefer(fusion, layer.adapters[null].adapter_up.bias.detach(), len(names) - 1)


@torch.no_grad()
def _prefer(fusion: Any, output: Tensor, others: int) -> None:
    """Let the fusion begin with NULL_SHARE of its weight on the adapter whose output is always the given vector.

    The query's bias lies along that vector; so does what the key matrix makes of it, and of nothing else. What the
    query makes of a state begins at zero: it is learnt.
    """
    length = output.norm()
    if length == 0:
        return
    direction = output / length
    if hasattr(fusion, "key"):
        along = torch.outer(direction, direction)
        fusion.key.weight.sub_(along @ fusion.key.weight).add_(along)
        fusion.key.bias.zero_()
        fusion.query.weight.zero_()
    score = math.log(others * NULL_SHARE / (1 - NULL_SHARE))
    fusion.query.bias.copy_(score / length * direction)


def fusion_regularisation(model: Model) -> Tensor | None:
    """0.01 x squared distance of every value matrix to the identity (Pfeiffer et al., 2021, section 3.2.2), or None."""
    squares = [
        (fusion.value.weight - torch.eye(fusion.dense_size, device=fusion.value.weight.device)).pow(2).sum()
        for fusion in _fusions(model)
        if hasattr(fusion, "value") and fusion.value.weight.requires_grad
    ]
    return 0.01 * torch.stack(squares).sum() if squares else None


def whole_fusions(model: Model) -> None:
    """Light fusions become plain ones, which `adapters` can save and load."""
    for fusion in _fusions(model):
        if isinstance(getattr(fusion, "query", None), FactorisedLinear):
            fusion.query = fusion.query.whole().to(next(fusion.parameters()).device)


def _layers(model: Model) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, BottleneckLayer)]


def _fusions(model: Model) -> list[Any]:
    return [fusion for layer in _layers(model) for fusion in layer.adapter_fusion_layer.values()]
