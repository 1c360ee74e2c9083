"""Several adapters of `peft` merged into one, which stands in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig

from adapter_stilts.errors import UsageError
from adapter_stilts.model.peft_adapters import (
    check_new_name,
    remove_peft_adapter,
    require_adapters,
    saved_parameters,
    set_training,
    tuner_of,
    undisturbed,
)
from adapter_stilts.model.protocols import Model

# The share of a delta's values that TIES and DARE keep.
MERGE_DENSITY = 0.5
# Names without `_svd` would merge the factors A and B apart, which is not a merge of the deltas B @ A.
_LORA_MERGES = {"svd": "svd", "cat": "cat", "ties": "ties_svd", "dare": "dare_linear_svd"}


def merge_peft_adapters(
    model: Model, names: Sequence[str], merged: str, how: str, weights: Sequence[float] | None, seed: int = 0
) -> None:
    """Make a new, frozen, inactive adapter from several of one method, targets and layers, and remove those.

    weights: one for each adapter; None: equal, adding to 1. With deltas D_i = scaling_i * B_i @ A_i of LoRA adapters:
    `svd` is sum(w_i D_i), cut to the largest of the ranks; `cat` the same exactly, the ranks added up; `ties` prunes,
    elects signs and averages what agrees (Yadav et al., 2023), weights counting relative to 1/N; `dare` drops at random
    by the seed and rescales (Yu et al., 2024); both are then cut as `svd` is. `linear` is sum(w_i l_i) of IA3 vectors.
    Raises UsageError for other ways, for DoRA, and for adapters that do not sit at the same modules.
    """
    require_adapters(model, names)
    _check_mergeable(model, names, how)
    if weights is not None and len(weights) != len(names):
        raise UsageError(f"--set merge_weights: found {len(weights)} for {len(names)} adapters, accepted one for each")
    shares = [1 / len(names)] * len(names) if weights is None else list(weights)
    check_new_name(model, merged)
    if how == "ties":
        # peft divides by the number of adapters that agree on a sign, which is the mean already for weights of 1.
        shares = [share * len(names) for share in shares]
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), undisturbed(model):
        torch.manual_seed(seed)
        tuner_of(model).add_weighted_adapter(list(names), shares, merged, **_merge_options(model, names, how))
    set_training(model, merged, False)
    for name in names:
        remove_peft_adapter(model, name)


def _merge_options(model: Model, names: Sequence[str], how: str) -> dict[str, Any]:
    if how not in _LORA_MERGES:
        return {}
    rank = min(max(tuner_of(model).peft_config[name].r for name in names), model.config.hidden_size)
    return {
        "combination_type": _LORA_MERGES[how],
        "density": MERGE_DENSITY,
        "svd_rank": rank,
        "svd_full_matrices": False,
    }


def _check_mergeable(model: Model, names: Sequence[str], how: str) -> None:
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise UsageError(f"--set merge: found adapters {', '.join(names)}, accepted two different ones or more")
    configs = [tuner_of(model).peft_config[name] for name in names]
    method, accepted = ("lora", _LORA_MERGES) if isinstance(configs[0], LoraConfig) else ("ia3", {"linear": ""})
    for name, config in zip(names, configs, strict=True):
        if getattr(config, "use_dora", False):
            raise UsageError(
                f"--set merge: adapter {name!r} is dora, accepted lora and ia3: "
                "peft merges low-rank deltas, and a DoRA adapter also has magnitudes"
            )
    if how not in accepted:
        raise UsageError(f"--set merge: found {how!r}, accepted for {method}: {', '.join(accepted)}")
    modules = {name: {key.rpartition(".lora_")[0] or key for key in saved_parameters(model, name)} for name in names}
    for name in names[1:]:
        if different := sorted(modules[names[0]] ^ modules[name]):
            module = different[0].removeprefix("base_model.model.")
            raise UsageError(
                f"--set merge: adapters {names[0]!r} and {name!r} differ in targets or layers, first at {module}, "
                "accepted adapters at the same modules"
            )
