"""Adapters of `peft` in files, as plain `peft` reads them on a plain `XLMRobertaModel`."""

from __future__ import annotations

import copy
import json
import math
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig
from safetensors.torch import save_file

from adapter_stilts.backbone_names import portable_name
from adapter_stilts.errors import StiltsError
from adapter_stilts.files import atomic_file, atomic_write_text, open_to_readers
from adapter_stilts.model.peft_adapters import (
    TUNERS,
    inject_adapter,
    one_line,
    remove_peft_adapter,
    require_adapters,
    saved_parameters,
    set_training,
    tuner_of,
)
from adapter_stilts.model.protocols import Model
from adapter_stilts.model.tensors import fill
from adapter_stilts.trust import read_json, tensor_shapes

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Of LoRA; XLM-R's linear modules have at most 16,384 dimensions.
LARGEST_RANK = 16_384
# What an adapter may say otherwise than peft's defaults; `_refuse_other_settings` looks at the values of some.
_SETTINGS = {"r", "lora_alpha", "lora_dropout", "target_modules", "feedforward_modules", "layers_to_transform"}
_SETTINGS |= {"layers_pattern", "use_dora", "use_rslora", "inference_mode", "auto_mapping", "peft_type", "peft_version"}
_SETTINGS |= {"base_model_name_or_path", "revision", "task_type"}
_MODEL_CLASS = {
    "base_model_class": "XLMRobertaModel",
    "parent_library": "transformers.models.xlm_roberta.modeling_xlm_roberta",
}


def load_peft_adapter(model: Model, folder: Path, name: str) -> None:
    """Put a saved adapter on the model under the given name, frozen; what is active stays active.

    Draws nothing from the global torch seed. Raises StiltsError with the file and the first such tensor where a tensor
    of its configuration on this encoder is missing, left over or of another shape, or a file is unreadable.
    """
    path = folder / WEIGHTS
    config = _read_config(folder)
    _check_ranks(path, config)
    try:
        with torch.random.fork_rng(devices=[]):
            inject_adapter(model, name, config)
    except ValueError as error:
        raise StiltsError(f"{folder / CONFIG}: {one_line(error)}") from error
    parameters = saved_parameters(model, name)
    try:
        fill(path, parameters)
    except StiltsError:
        remove_peft_adapter(model, name)
        raise
    set_training(model, name, False)


def save_peft_adapter(model: Model, folder: Path, name: str, backbone: str, revision: str | None) -> None:
    """Write an adapter as `PeftModel.from_pretrained` reads it on an XLMRobertaModel: a configuration and safetensors.

    backbone: the Hub id that the configuration names; of a folder, only its own name is written.
    """
    require_adapters(model, [name])
    config = copy.copy(tuner_of(model).peft_config[name])
    config.base_model_name_or_path, config.revision = portable_name(backbone), revision
    config.inference_mode, config.auto_mapping = True, _MODEL_CLASS
    settings = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    tensors = {key: parameter.detach().cpu().contiguous() for key, parameter in saved_parameters(model, name).items()}
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / WEIGHTS) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
        open_to_readers(partial)
    atomic_write_text(folder / CONFIG, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def _read_config(folder: Path) -> Any:
    if not (folder / CONFIG).exists():
        raise StiltsError(f"{folder / CONFIG}: missing, accepted a folder with {CONFIG} and {WEIGHTS}")
    try:
        content = read_json(folder / CONFIG)
    except StiltsError as error:
        reason = str(error).removeprefix(f"{folder / CONFIG}: ")
        raise StiltsError(f"{folder / CONFIG}: no configuration of peft ({reason})") from error
    content.pop("runtime_config", None)
    if content.get("peft_type") not in TUNERS:
        peft_type = str(content.get("peft_type"))[:80]
        raise StiltsError(f"{folder / CONFIG}: found peft_type {peft_type!r}, accepted {', '.join(TUNERS)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = PeftConfig.from_peft_type(**PeftConfig.check_kwargs(**content))
    except (ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise StiltsError(f"{folder / CONFIG}: no configuration of peft ({one_line(error)})") from error
    if getattr(config, "bias", "none") != "none" or config.modules_to_save:
        raise StiltsError(f"{folder / CONFIG}: found trained biases or modules_to_save, accepted an adapter alone")
    _refuse_other_settings(folder / CONFIG, config)
    if isinstance(config, LoraConfig):
        config.lora_dropout = 0.0  # the encoder has the same dropout for every method, set elsewhere
    return config


def _refuse_other_settings(path: Path, config: Any) -> None:
    """Raise StiltsError for settings beyond those of a plain adapter: some import modules, some read other files, some
    draw weights by long computations."""
    plain = type(config)().to_dict()
    for key, value in config.to_dict().items():
        if key not in _SETTINGS and value != plain[key]:
            raise StiltsError(f"{path}: {key}: found {str(value)[:80]}, accepted {plain[key]}")
    for key in ("target_modules", "feedforward_modules", "layers_to_transform"):
        value = getattr(config, key, None)
        kind = int if key == "layers_to_transform" else str
        plain_list = isinstance(value, list | set | tuple) and all(type(item) is kind for item in value)
        if value is not None and not plain_list:
            raise StiltsError(f"{path}: {key}: found {str(value)[:80]!r}, accepted a list")
    rank = getattr(config, "r", 1)
    if type(rank) is not int or not 1 <= rank <= LARGEST_RANK:
        raise StiltsError(f"{path}: r: found {str(rank)[:80]}, accepted 1 to {LARGEST_RANK:,}")
    alpha = getattr(config, "lora_alpha", 1)
    if type(alpha) not in (int, float) or not math.isfinite(alpha):
        raise StiltsError(f"{path}: lora_alpha: found {str(alpha)[:80]}, accepted a number")


def _check_ranks(path: Path, config: Any) -> None:
    """Raise StiltsError where the weights have another rank than the configuration, before memory is taken for it."""
    for name, tensor in tensor_shapes(path).items():
        if name.endswith(".lora_A.weight") and tensor.shape[:1] != (config.r,):
            raise StiltsError(f"{path}: {name} is {tensor.shape}, accepted rank {config.r}")
