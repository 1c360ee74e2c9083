"""LoRA, DoRA and IA3 adapters of the `peft` library on the encoder of an `adapters` XLM-R model.

peft's layers replace the linear modules of `model.roberta` in place; its tuner sits in `model.peft`, a plain object, so
that no parameter is registered twice. Several active LoRA adapters add their deltas to the frozen weight (a parallel
sum), IA3 vectors multiply, and a DoRA adapter rescales what the adapters before it made of the weight, so that the
order of names matters for it. Files are in `adapter_stilts.model.peft_files`, merging in
`adapter_stilts.model.peft_merge`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from peft import IA3Config, IA3Model, LoraConfig, LoraModel
from peft.utils import (
    TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
)
from torch import nn

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.model.composition import check_targets
from adapter_stilts.model.protocols import Model
from adapter_stilts.schema import Recipe, layer_numbers

# peft's own defaults; it lists none of IA3 for XLM-R, whose modules are RoBERTa's.
LORA_TARGETS = tuple(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING["xlm-roberta"])
IA3_TARGETS = tuple(TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING["roberta"])
IA3_FEEDFORWARD = tuple(TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING["roberta"])
TUNERS = {"LORA": LoraModel, "IA3": IA3Model}


@dataclass(frozen=True)
class PeftHolder:
    """Keeps peft's tuner out of the model's registered modules: `model.roberta` is inside it already."""

    tuner: Any


def add_peft_adapter(model: Model, name: str, method: Literal["lora", "dora", "ia3"], recipe: Recipe) -> None:
    """Put a fresh, trainable adapter on the model, drawn from the global torch seed; what is active stays active.

    Of the recipe: targets and layers, and for `lora` and `dora` rank and alpha. LoRA's B is zero, DoRA's magnitudes are
    the weight's norms and IA3's vectors are one, so the model's output stays as it is (Hu et al., 2022; Liu et al.,
    2024; Liu et al., 2022). Raises UsageError for targets or layers that the encoder does not have.
    """
    targets = recipe.targets or (IA3_TARGETS if method == "ia3" else LORA_TARGETS)
    check_targets(targets)
    layers = _checked_layers(model, recipe.layers)
    make = _ia3_config if method == "ia3" else _lora_config
    inject_adapter(model, name, make(model, method, recipe, targets, layers))
    set_training(model, name, True)


def activate_peft(model: Model, names: Sequence[str]) -> None:
    """Make exactly these adapters active, all at once, in this order; what trains stays as it is."""
    if not names and not hasattr(model, "peft"):
        return
    require_adapters(model, names)
    with undisturbed(model):
        tuner_of(model).set_adapter(list(names))


def peft_parameters(name: str) -> re.Pattern[str]:
    """Matches, whole, the names in `model.named_parameters()` of one adapter's tensors, for all three methods."""
    return re.compile(rf"^(.+\.(?:lora_A|lora_B|lora_magnitude_vector|ia3_l))\.{re.escape(name)}(?:\.weight)?$")


def bake_peft_adapters(model: Model, names: Sequence[str]) -> None:
    """Take adapters up into the backbone's weights, in this order: plain linear modules stay behind.

    Raises UsageError where the model has other adapters besides, and StiltsError where a weight would not be finite.
    """
    require_adapters(model, names)
    baked = ", ".join(names)
    if left := [name for name in tuner_of(model).peft_config if name not in names]:
        raise UsageError(f"adapters {baked}: cannot be baked beside {', '.join(left)}; remove or bake them all")
    try:
        with undisturbed(model):
            tuner_of(model).merge_and_unload(safe_merge=True, adapter_names=list(names))
    except ValueError as error:
        raise StiltsError(f"adapters {baked}: {one_line(error)}") from error
    del model.peft


def remove_peft_adapter(model: Model, name: str) -> None:
    """Take one adapter off the model; the others stay as active as they were. The last leaves plain linear modules."""
    require_adapters(model, [name])
    tuner = tuner_of(model)
    active = [other for other in tuner.active_adapters if other != name]
    with undisturbed(model):
        tuner.delete_adapter(name)
        tuner.set_adapter(active)
        if not tuner.peft_config:
            tuner.unload()
            del model.peft


def _lora_config(model: Model, method: str, recipe: Recipe, targets: Sequence[str], layers: list[int] | None) -> Any:
    alpha: Any = 2 * recipe.rank if recipe.alpha is None else recipe.alpha
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        bias="none",
        use_dora=method == "dora",
        target_modules=list(targets),
        layers_to_transform=layers,
        layers_pattern=None if layers is None else "layer",
    )


def _ia3_config(model: Model, method: str, recipe: Recipe, targets: Sequence[str], layers: list[int] | None) -> Any:
    """peft's IA3 has no layers of its own: where they are chosen, each module is named in full."""
    names = list(targets)
    if layers is not None:
        modules = [module for module in _linear_names(model) if _is_at(module, targets)]
        names = [f"encoder.layer.{layer}.{module}" for layer in layers for module in modules]
    return IA3Config(
        target_modules=names, feedforward_modules=[name for name in names if _is_at(name, IA3_FEEDFORWARD)]
    )


def _is_at(module: str, targets: Sequence[str]) -> bool:
    """Whether one of the targets names the module, as peft reads them: the whole name, or its end."""
    return any(module == target or module.endswith(f".{target}") for target in targets)


def _linear_names(model: Model) -> list[str]:
    """Linear modules of the backbone within one layer, such as `attention.self.query`."""
    names = [name for name, module in model.roberta.encoder.layer[0].named_modules() if isinstance(module, nn.Linear)]
    return [name.removesuffix(".base_layer") for name in names if ".lora_" not in name and ".adapters." not in name]


def _checked_layers(model: Model, text: str | None) -> list[int] | None:
    if text is None:
        return None
    layers, count = layer_numbers(text), len(model.roberta.encoder.layer)
    if layers[-1] >= count:
        raise UsageError(f"--set layers: found {text}, accepted layers 0 to {count - 1}")
    return list(layers)


def tuner_of(model: Model) -> Any:
    """peft's tuner of a model that has adapters of it."""
    return model.peft.tuner


def require_adapters(model: Model, names: Sequence[str]) -> None:
    """Raise UsageError for an adapter that is not on the model."""
    present = list(tuner_of(model).peft_config) if hasattr(model, "peft") else []
    for name in names:
        if name not in present:
            raise UsageError(f"adapter {name!r}: not on the model, which has {', '.join(present) or 'none of peft'}")


def check_new_name(model: Model, name: str) -> None:
    """A name becomes a part of parameters' names, and a key beside the methods of `nn.ModuleDict`."""
    if not name or "." in name or hasattr(nn.ModuleDict, name):
        raise UsageError(f"adapter {name!r}: accepted names without a dot that are no method of a torch module")
    if hasattr(model, "peft") and name in tuner_of(model).peft_config:
        raise UsageError(f"adapter {name!r}: is on the model already, accepted another name")


def inject_adapter(model: Model, name: str, config: Any) -> None:
    """Put an adapter of a peft configuration on the model, inactive.

    Raises UsageError for a name or method that the model cannot take, and peft's ValueError for modules it lacks.
    """
    check_new_name(model, name)
    tuner_class = TUNERS[config.peft_type.value]
    with undisturbed(model):
        if not hasattr(model, "peft"):
            tuner = tuner_class(model.roberta, config, name)
            model.peft = PeftHolder(tuner)
            tuner.set_adapter([])
        elif isinstance(tuner_of(model), tuner_class):
            _add_to(tuner_of(model), name, config)
        else:
            has = next(iter(tuner_of(model).peft_config.values())).peft_type.value.lower()
            method = config.peft_type.value.lower()
            raise UsageError(f"adapter {name!r}: found {method} on a model with {has}, accepted adapters of one method")
    model.roberta.train(model.roberta.training)


def _add_to(tuner: Any, name: str, config: Any) -> None:
    tuner.peft_config[name] = config
    try:
        tuner.inject_adapter(tuner.model, name)
    except ValueError:
        del tuner.peft_config[name]
        raise


@contextmanager
def undisturbed(model: Model) -> Iterator[None]:
    """Keep back peft's warnings, and let what trains among the parameters there are stay as it is."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for parameter, trains in before:
            parameter.requires_grad_(trains)


def set_training(model: Model, name: str, trains: bool) -> None:
    """Let an adapter's parameters train, or not."""
    for parameter in saved_parameters(model, name).values():
        parameter.requires_grad_(trains)


def saved_parameters(model: Model, name: str) -> dict[str, nn.Parameter]:
    """An adapter's parameters by the names that a `PeftModel` around an `XLMRobertaModel` saves them under."""
    matches = [(peft_parameters(name).match(key), parameter) for key, parameter in model.roberta.named_parameters()]
    names = {match[1]: parameter for match, parameter in matches if match}
    return {
        f"base_model.model.{key}{'.weight' if key.endswith(('lora_A', 'lora_B')) else ''}": parameter
        for key, parameter in names.items()
    }


def one_line(error: Exception) -> str:
    """What a library's exception says, for one line of our own."""
    return " ".join(str(error).split())[:200]
