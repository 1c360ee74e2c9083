"""Random adapters of `peft` on a tiny model: its states, and what they add by their parameters alone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.peft_adapters import activate_peft, add_peft_adapter, peft_parameters
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.schema import Recipe

METHODS = ("lora", "dora", "ia3")
LENGTHS = (9, 4, 17)
RECIPE = Recipe(rank=4)
SMALL = Recipe(rank=2, alpha=3.0)


def parameters_of(model: Any, name: str) -> dict[str, nn.Parameter]:
    pattern = peft_parameters(name)
    return {full_name: parameter for full_name, parameter in model.named_parameters() if pattern.fullmatch(full_name)}


def randomise(model: Any, name: str, seed: int) -> None:
    """Values far from a fresh adapter's: magnitudes and vectors around what they are, factors around zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for full_name, parameter in parameters_of(model, name).items():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(
                noise * 0.2 if ".lora_A." in full_name or ".lora_B." in full_name else parameter * (1 + 0.3 * noise)
            )


def adapted(backbone: Backbone, method: Any, names: Sequence[str], recipes: Sequence[Recipe] = ()) -> Any:
    """A model with random adapters of these names, all active."""
    torch.manual_seed(0)
    model = load_model(backbone)
    for seed, name in enumerate(names):
        add_peft_adapter(model, name, method, recipes[seed] if recipes else RECIPE)
        randomise(model, name, seed)
    activate_peft(model, names)
    return model


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    ids = torch.full((len(LENGTHS), max(LENGTHS)), 1)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.randint(4, 400, (length,), generator=generator)
    return ids, (ids != 1).long()


@torch.no_grad()
def padded_states(model: Any) -> Tensor:
    """States (tokens, hidden) of the plain padded forward, without those of padding."""
    ids, mask = inputs()
    return model.roberta(ids, attention_mask=mask)[0][mask.bool()]


def deltas(model: Any, name: str) -> dict[str, Tensor]:
    """scaling * B @ A by module, from the parameters and the configuration alone."""
    config = model.peft.tuner.peft_config[name]
    parameters = parameters_of(model, name)
    return {
        key.rpartition(".lora_A")[0]: config.lora_alpha
        / config.r
        * (parameters[key.replace(".lora_A.", ".lora_B.")] @ parameters[key]).detach()
        for key in parameters
        if ".lora_A." in key
    }


def vectors(model: Any, name: str) -> dict[str, Tensor]:
    return {
        key.rpartition(".ia3_l")[0]: parameter.detach().clone() for key, parameter in parameters_of(model, name).items()
    }
