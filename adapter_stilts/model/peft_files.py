"""Adapters of `peft` in files, as plain `peft` reads them on a plain `XLMRobertaModel`."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from adapter_stilts.backbone_names import portable_name
from adapter_stilts.errors import StiltsError
from adapter_stilts.files import atomic_file, atomic_write_text
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

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_MODEL_CLASS = {
    "base_model_class": "XLMRobertaModel",
    "parent_library": "transformers.models.xlm_roberta.modeling_xlm_roberta",
}


def load_peft_adapter(model: Any, folder: Path, name: str) -> None:
    """Put a saved adapter on the model under the given name, frozen; what is active stays active.

    Draws nothing from the global torch seed. Raises StiltsError with the file and the first such tensor where a tensor
    of its configuration on this encoder is missing, left over or of another shape, or a file is unreadable.
    """
    config, tensors = _read_config(folder), _read_tensors(folder)
    try:
        with torch.random.fork_rng(devices=[]):
            inject_adapter(model, name, config)
    except ValueError as error:
        raise StiltsError(f"{folder / CONFIG}: {one_line(error)}") from error
    own = saved_parameters(model, name)
    if problem := _mismatch(own, tensors):
        remove_peft_adapter(model, name)
        raise StiltsError(f"{folder / WEIGHTS}: {problem}")
    with torch.no_grad():
        for key, tensor in tensors.items():
            own[key].copy_(tensor)
    set_training(model, name, False)


def save_peft_adapter(model: Any, folder: Path, name: str, backbone: str, revision: str | None) -> None:
    """Write an adapter as `PeftModel.from_pretrained` reads it on an XLMRobertaModel: a configuration and safetensors.

    backbone: the Hub id that the configuration names; of a folder, only its own name is written.
    """
    require_adapters(model, [name])
    config = copy.copy(tuner_of(model).peft_config[name])
    config.base_model_name_or_path, config.revision = portable_name(backbone), revision
    config.inference_mode, config.auto_mapping = True, _MODEL_CLASS
    settings = {key: sorted(own) if isinstance(own, set) else own for key, own in config.to_dict().items()}
    tensors = {key: own.detach().cpu().contiguous() for key, own in saved_parameters(model, name).items()}
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / WEIGHTS) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})
    atomic_write_text(folder / CONFIG, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def _read_config(folder: Path) -> Any:
    if not (folder / CONFIG).is_file():
        raise StiltsError(f"{folder / CONFIG}: missing, accepted a folder with {CONFIG} and {WEIGHTS}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = PeftConfig.from_pretrained(str(folder))
    except (ValueError, KeyError, TypeError) as error:
        raise StiltsError(f"{folder / CONFIG}: no configuration of peft ({one_line(error)})") from error
    if config.peft_type not in TUNERS:
        raise StiltsError(f"{folder / CONFIG}: found peft_type {config.peft_type!r}, accepted {', '.join(TUNERS)}")
    if getattr(config, "bias", "none") != "none" or config.modules_to_save:
        raise StiltsError(f"{folder / CONFIG}: found trained biases or modules_to_save, accepted an adapter alone")
    if isinstance(config, LoraConfig):
        config.lora_dropout = 0.0  # the encoder has the same dropout for every method, set elsewhere
    return config


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise StiltsError(f"{folder / WEIGHTS}: cannot be read ({one_line(error)})") from error


def _mismatch(own: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> str | None:
    if missing := sorted(own.keys() - found.keys()):
        return f"lacks {len(missing)} tensors of its configuration, first {missing[0]}"
    if surplus := sorted(found.keys() - own.keys()):
        return f"has {len(surplus)} tensors that have no place on this backbone, first {surplus[0]}"
    for key in sorted(own):
        if own[key].shape != found[key].shape:
            return f"{key} is {tuple(found[key].shape)}, accepted {tuple(own[key].shape)}"
    return None
