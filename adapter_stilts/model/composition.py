"""Methods and compositions: which go together, over how many intermediates, and why the others do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from adapter_stilts.errors import UsageError
from adapter_stilts.schema import MethodName, Recipe, layer_numbers

if TYPE_CHECKING:
    from adapter_stilts.model.backbone import Backbone

Method = MethodName
Composition = Literal["none", "stack", "fuse", "continue", "merge", "bake"]
PeftMethod = Literal["lora", "dora", "ia3"]
PEFT_METHODS: tuple[PeftMethod, ...] = get_args(PeftMethod)
METHODS: tuple[Method, ...] = get_args(MethodName)

# Bottleneck adapters that have a name of their own are asked for by it.
BOTTLENECK_NAMES = ("houlsby", "parallel", "compacter")


@dataclass(frozen=True)
class Rule:
    """How many intermediates a composition takes."""

    least: int
    most: int | None

    def __str__(self) -> str:
        if self.most == self.least:
            return "no intermediate" if self.least == 0 else "one intermediate"
        return f"{self.least} intermediates or more" if self.least > 1 else "one intermediate or more"

    def takes(self, intermediates: int) -> bool:
        return self.least <= intermediates and (self.most is None or intermediates <= self.most)


_NONE, _ONE, _ANY, _SEVERAL = Rule(0, 0), Rule(1, 1), Rule(1, None), Rule(2, None)

# What there is; the first composition that takes the intermediates is the default.
COMPOSITIONS: dict[Method, dict[Composition, Rule]] = {
    "bottleneck": {"none": _NONE, "stack": _ANY, "fuse": _SEVERAL, "continue": _ONE, "merge": _SEVERAL},
    "lora": {"none": _NONE, "stack": _ANY, "continue": _ONE, "merge": _SEVERAL, "bake": _ANY},
    "dora": {"none": _NONE, "stack": _ANY, "continue": _ONE, "bake": _ANY},
    "ia3": {"none": _NONE, "stack": _ANY, "continue": _ONE, "merge": _SEVERAL, "bake": _ANY},
    "full": {"none": _NONE, "continue": _ONE},
    "head": {"none": _NONE},
}

_NO_FUSION = "AdapterFusion attends over the outputs of bottleneck adapters; {0} changes the weights inside a layer"
# Why a composition that exists for one method does not for another.
REASONS: dict[tuple[str, str], str] = {
    **{(method, "fuse"): _NO_FUSION.format(method) for method in PEFT_METHODS},
    ("dora", "merge"): "peft merges low-rank updates, and a DoRA adapter has magnitudes besides",
    ("bottleneck", "bake"): "a bottleneck adapter is not linear, so no weight of the backbone can take it up",
    ("full", "stack"): "full fine-tuning has no adapters to stack: it continues from the intermediate's weights",
    ("full", "fuse"): "full fine-tuning has no adapters to fuse: it continues from the intermediate's weights",
}

# How parameters can be merged, the default first.
MERGES: dict[str, tuple[str, ...]] = {
    "bottleneck": ("linear",),
    "lora": ("svd", "cat", "ties", "dare"),
    "ia3": ("linear",),
}

# Fields of a recipe that decide something only under these methods or compositions.
_BOTTLENECK, _PEFT = ("bottleneck",), PEFT_METHODS
USED_BY_METHOD: dict[str, tuple[str, ...]] = {
    "adapter": _BOTTLENECK,
    "reduction": _BOTTLENECK,
    "layers": (*_BOTTLENECK, *_PEFT),
    "rank": ("lora", "dora"),
    "alpha": ("lora", "dora"),
    "targets": _PEFT,
}
USED_BY_COMPOSITION: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("fusion", "fusion_rank", "fusion_null", "fusion_learning_rate"), ("fuse",)),
    **dict.fromkeys(("merge", "merge_weights", "merge_then"), ("merge",)),
}
# Linear modules of a layer of XLM-R, as a recipe's `targets` may name them. Bare `dense` is none: plain XLM-R has a
# pooler of that name, which is no part of the backbone.
LINEAR_MODULES = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
# A compacter's matrices are sums of so many Kronecker products, which divides their sizes.
COMPACTER_DIMENSION = 4
# What the weights of an adapter must agree in before they can be averaged or continued.
SHAPE: dict[str, tuple[str, ...]] = {
    "bottleneck": ("adapter", "reduction", "layers"),
    "lora": ("rank", "alpha", "targets", "layers"),
    "dora": ("rank", "alpha", "targets", "layers"),
    "ia3": ("targets", "layers"),
}


def choose_composition(method: str, compose: str | None, intermediates: int) -> Composition:
    """The composition for a method over so many intermediate runs; `compose` is what was asked for, None the default.

    `full` over an intermediate continues from its weights: that is sequential fine-tuning, the STILTs baseline.
    Raises UsageError where there is no such composition, with the reason and with what there is.
    """
    if method not in COMPOSITIONS:
        raise UsageError(f"--method: found {method!r}, accepted: {', '.join([*COMPOSITIONS, *BOTTLENECK_NAMES])}")
    rules = COMPOSITIONS[method]  # type: ignore[index]
    possible = [name for name, rule in rules.items() if rule.takes(intermediates)]
    if compose is None:
        if not possible:
            few = "; ".join(f"{name} over {rule}" for name, rule in rules.items())
            raise UsageError(f"--over: found {intermediates} with --method {method}, accepted: {few}")
        return possible[0]
    if compose in possible:
        return compose  # type: ignore[return-value]
    accepted = f"accepted over {intermediates}: {', '.join(possible) or 'nothing'}"
    if (method, compose) in REASONS:
        raise UsageError(f"--compose {compose} with --method {method}: {REASONS[method, compose]}; {accepted}")
    if compose in rules:
        rule = rules[compose]  # type: ignore[index]
        raise UsageError(f"--compose {compose}: found {intermediates} with --over, accepted {rule}; {accepted}")
    raise UsageError(f"--compose: found {compose!r} with --method {method}, {accepted}")


def check_recipe(recipe: Recipe, method: str, composition: str, intermediates: int, backbone: Backbone) -> None:
    """Raise UsageError for a recipe field that does not fit the method, composition or backbone."""
    layers = backbone.summary.layers
    if recipe.layers is not None and method in USED_BY_METHOD["layers"] and layer_numbers(recipe.layers)[-1] >= layers:
        raise UsageError(f"--set layers: found {recipe.layers}, accepted layers 0 to {layers - 1} of {backbone.id}")
    if method in PEFT_METHODS:
        check_targets(recipe.targets or ())
    if method == "bottleneck" and recipe.adapter == "compacter":
        _check_compacter(recipe.reduction, backbone)
    if composition == "merge":
        if recipe.merge is not None and recipe.merge not in MERGES[method]:
            raise UsageError(
                f"--set merge: found {recipe.merge}, accepted with --method {method}: {', '.join(MERGES[method])}"
            )
        _check_weights(recipe.merge_weights, intermediates)
    if composition == "fuse" and recipe.adapter == "parallel":
        raise UsageError(
            "--compose fuse: found adapter=parallel, accepted pfeiffer, houlsby or compacter (what runs beside a layer "
            "has no fused output under it)"
        )


def check_targets(targets: Sequence[str]) -> None:
    """Raise UsageError for a target of peft's adapters that names no linear module."""
    for target in targets:
        if target not in LINEAR_MODULES:
            accepted = ", ".join(LINEAR_MODULES)
            raise UsageError(f"--set targets: found {target!r}, accepted names of linear modules: {accepted}")


def _check_compacter(reduction: float, backbone: Backbone) -> None:
    hidden = backbone.summary.hidden_size
    size = max(int(hidden // reduction), 1)  # as `adapters` rounds it
    if hidden % COMPACTER_DIMENSION or size % COMPACTER_DIMENSION:
        raise UsageError(
            f"--set reduction: found {reduction:g} with adapter=compacter, a bottleneck of {size} in {hidden}, "
            f"accepted one that {COMPACTER_DIMENSION} divides"
        )


def _check_weights(weights: Sequence[float] | None, intermediates: int) -> None:
    if weights is None:
        return
    if len(weights) != intermediates:
        raise UsageError(f"--set merge_weights: found {len(weights)}, accepted one for each of {intermediates}")
    if min(weights) < 0 or sum(weights) <= 0:
        listed = ",".join(f"{weight:g}" for weight in weights)
        raise UsageError(f"--set merge_weights: found {listed}, accepted none below 0 and a sum above 0 (it is made 1)")


def unused_fields(method: str, composition: str) -> set[str]:
    """Fields of a recipe that decide nothing under the method and composition."""
    unused = {field for field, users in USED_BY_METHOD.items() if method not in users}
    return unused | {field for field, users in USED_BY_COMPOSITION.items() if composition not in users}
