"""Adapters of peft in files: read by plain peft, written alike each time, and refused where they are damaged."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.peft import METHODS, RECIPE, SMALL, adapted, inputs, padded_states
from support.tiny import tiny_backbone_folder

from adapter_stilts.errors import StiltsError
from adapter_stilts.model.backbone import Backbone, load_backbone
from adapter_stilts.model.peft_adapters import activate_peft, add_peft_adapter, bake_peft_adapters
from adapter_stilts.model.peft_files import load_peft_adapter, save_peft_adapter
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.schema import Recipe

PLAIN_PEFT = """
import json, sys
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import XLMRobertaModel
import warnings
warnings.simplefilter("error", UserWarning)

backbone, root = sys.argv[1:]
expected = load_file(f"{root}/expected.safetensors")
ids = expected.pop("ids")
mask = (ids != 1).long()

def plain():
    return XLMRobertaModel.from_pretrained(backbone, add_pooling_layer=False).eval()

@torch.no_grad()
def states(model):
    return model.eval()(ids, attention_mask=mask).last_hidden_state[mask.bool()]

found = {}
for method in ("lora", "dora", "ia3"):
    a, b = f"{root}/{method}/a", f"{root}/{method}/b"
    model = PeftModel.from_pretrained(plain(), a, adapter_name="first")
    found[f"{method} one"] = states(model)
    model.load_adapter(b, adapter_name="second")
    model.base_model.set_adapter(["first", "second"])
    found[f"{method} two"] = states(model)
    baked = PeftModel.from_pretrained(plain(), a).merge_and_unload()
    found[f"{method} baked"] = states(PeftModel.from_pretrained(baked, b))
assert found.keys() == expected.keys()
assert "adapter_stilts" not in sys.modules and "adapters" not in sys.modules
print(json.dumps({key: (found[key] - expected[key]).abs().max().item() for key in found}))
"""


@pytest.mark.slow
def test_plain_peft_reads_what_is_saved(backbone: Backbone, tmp_path: Path) -> None:
    """One adapter, two at once, and a second one on a backbone that took up the first; without this package."""
    expected = {"ids": inputs()[0]}
    recipes = [Recipe(rank=4, layers="1"), SMALL]
    for method in METHODS:
        model = adapted(backbone, method, ["a", "b"], recipes)
        for name in ("a", "b"):
            save_peft_adapter(model, tmp_path / method / name, name, "owner/backbone", "0" * 40)
        expected[f"{method} two"] = padded_states(model)
        activate_peft(model, ["a"])
        expected[f"{method} one"] = padded_states(model)
        model = load_model(backbone)
        load_peft_adapter(model, tmp_path / method / "a", "intermediate")
        bake_peft_adapters(model, ["intermediate"])
        load_peft_adapter(model, tmp_path / method / "b", "target")
        activate_peft(model, ["target"])
        expected[f"{method} baked"] = padded_states(model)
    assert (expected["lora one"] - expected["lora two"]).abs().max() > 0.05
    save_file(expected, tmp_path / "expected.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_PEFT, str(backbone.folder), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    differences = json.loads(done.stdout.splitlines()[-1])
    assert len(differences) == 9
    assert max(differences.values()) < 1e-5, differences


@pytest.mark.parametrize("method", METHODS)
def test_folder(backbone: Backbone, tmp_path: Path, method: Any) -> None:
    """Two files without a machine path, the same bytes each time, and the same states when read here."""
    model = adapted(backbone, method, ["a", "b"])
    for folder in ("x", "y"):
        save_peft_adapter(model, tmp_path / folder, "b", "owner/backbone", "main")
    files = ["adapter_config.json", "adapter_model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == files
    for file in files:
        assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "y" / file).read_bytes()
    config = json.loads((tmp_path / "x" / files[0]).read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/backbone", "main")
    save_peft_adapter(model, tmp_path / "y", "b", str(backbone.folder), None)
    assert str(backbone.folder.parent) not in (tmp_path / "y" / files[0]).read_text()
    activate_peft(model, ["b"])
    other = load_model(backbone)
    load_peft_adapter(other, tmp_path / "x", "renamed")
    activate_peft(other, ["renamed"])
    torch.testing.assert_close(padded_states(other), padded_states(model), atol=0, rtol=0)


@pytest.mark.parametrize("damage", ["missing", "surplus", "shape", "truncated", "config", "absent", "prefix"])
@pytest.mark.parametrize("method", METHODS)
def test_damaged_folders(backbone: Backbone, tmp_path: Path, method: Any, damage: str) -> None:
    model = adapted(backbone, method, ["a"])
    save_peft_adapter(model, tmp_path, "a", "tiny", None)
    weights, config = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    tensors = load_file(weights)
    first = min(tensors)
    match damage:
        case "missing":
            save_file({key: tensor for key, tensor in tensors.items() if key != first}, weights)
        case "surplus":
            save_file({**tensors, "base_model.model.other": torch.ones(1)}, weights)
        case "shape":
            save_file({**tensors, first: torch.ones(7, 3)}, weights)
        case "prefix":
            save_file({key.replace("base_model.", "roberta."): tensor for key, tensor in tensors.items()}, weights)
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-5])
        case "config":
            config.write_text("{")
        case "absent":
            config.unlink()
    message = {
        "missing": f"lacks 1 tensors of its configuration, first {first}",
        "surplus": "first base_model.model.other",
        "shape": rf"{first} is \(7, 3\), accepted",
        "prefix": f"lacks {len(tensors)} tensors of its configuration, first {first}",
        "truncated": "cannot be read",
        "config": "no configuration of peft",
        "absent": "missing, accepted a folder with",
    }[damage]
    expected = padded_states(model)
    with pytest.raises(StiltsError, match=message) as caught:
        load_peft_adapter(model, tmp_path, "b")
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert list(model.peft.tuner.peft_config) == ["a"]
    torch.testing.assert_close(padded_states(model), expected, atol=0, rtol=0)


def test_adapter_of_a_larger_backbone(tmp_path: Path, backbone: Backbone) -> None:
    larger = load_backbone(str(tiny_backbone_folder(tmp_path / "larger", layers=4)))
    model = adapted(larger, "lora", ["all", "upper"], [RECIPE, Recipe(layers="2-3")])
    save_peft_adapter(model, tmp_path / "all", "all", "larger", None)
    save_peft_adapter(model, tmp_path / "upper", "upper", "larger", None)
    model = load_model(backbone)
    with pytest.raises(
        StiltsError, match=r"has 8 tensors that have no place .* first base_model.model.encoder.layer.2"
    ):
        load_peft_adapter(model, tmp_path / "all", "all")
    with pytest.raises(StiltsError, match=r"adapter_config.json: Target modules .* not found in the base model"):
        load_peft_adapter(model, tmp_path / "upper", "upper")
    add_peft_adapter(model, "upper", "lora", RECIPE)
    assert list(model.peft.tuner.peft_config) == ["upper"]
