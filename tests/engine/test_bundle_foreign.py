"""Bundles of every composition in processes without this package: `adapters` or `peft` alone give the same states."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.training import FAST, Workspace, english_task, make_workspace, task_of
from torch import Tensor

from adapter_stilts.engine.bundle import load_bundle
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.runs.manifest import read_manifest
from adapter_stilts.runs.store import Run

IDS = torch.tensor([[0, 4, 5, 21, 60, 70, 33, 2], [0, 7, 8, 2, 1, 1, 1, 1], [0, 90, 120, 9, 2, 1, 1, 1]])
# A learning rate that moves weights far from where they start in a few steps.
# Method, composition, intermediates, settings.
BOTTLENECK: list[tuple[str, str, str, dict[str, str]]] = [
    ("bottleneck", "none", "", {}),
    ("bottleneck", "none", "", {"layers": "1"}),
    ("bottleneck", "stack", "a", {}),
    ("bottleneck", "stack", "ab", {}),
    ("bottleneck", "continue", "a", {}),
    ("bottleneck", "merge", "ab", {}),
    ("bottleneck", "merge", "ab", {"merge_then": "continue"}),
    ("bottleneck", "fuse", "ab", {}),
    ("bottleneck", "fuse", "ab", {"fusion_null": "false"}),
    ("bottleneck", "fuse", "ab", {"fusion": "full"}),
    ("houlsby", "none", "", {}),
    ("houlsby", "fuse", "ab", {}),
    ("parallel", "stack", "a", {}),
    ("compacter", "none", "", {}),
    ("compacter", "stack", "ab", {}),
    ("compacter", "continue", "a", {}),
    ("compacter", "fuse", "ab", {}),
]
PEFT: list[tuple[str, str, str, dict[str, str]]] = [
    *((method, "none", "", {}) for method in ("lora", "dora", "ia3")),
    *((method, "none", "", {"layers": "1"}) for method in ("lora", "dora", "ia3")),
    *((method, "stack", "ab", {}) for method in ("lora", "dora", "ia3")),
    *((method, "continue", "a", {}) for method in ("lora", "dora", "ia3")),
    *((method, "bake", "ab", {}) for method in ("lora", "dora", "ia3")),
    ("lora", "merge", "ab", {}),
    ("lora", "merge", "ab", {"merge": "cat", "merge_then": "continue"}),
    ("ia3", "merge", "ab", {}),
]
READ_SETUPS = """
import json, sys
import torch
from adapters import XLMRobertaAdapterModel
from safetensors.torch import load_file, save_file

backbone, out = sys.argv[1:3]
cases = json.loads(sys.argv[3])
ids = load_file(f"{out}/ids.safetensors")["ids"]
found = {}
for name, case in cases.items():
    model = XLMRobertaAdapterModel.from_pretrained(backbone)
    model.load_adapter_setup(case["bundle"], use_safetensors=True, set_active=True)
    model.eval()
    with torch.no_grad():
        output = model(ids, attention_mask=(ids != 1).long(), output_hidden_states=True)
    for layer, states in enumerate(output.hidden_states):
        found[f"{name}/{layer}"] = states.contiguous()
    found[f"{name}/logits"] = output.logits
    assert list(model.heads) == [case["head"]], list(model.heads)
assert not any(module.startswith("adapter_stilts") for module in sys.modules)
save_file(found, f"{out}/adapters.safetensors")
"""
READ_PEFT = """
import json, sys
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import XLMRobertaModel

backbone, out = sys.argv[1:3]
cases = json.loads(sys.argv[3])
ids = load_file(f"{out}/ids.safetensors")["ids"]
found = {}
for name, case in cases.items():
    model = XLMRobertaModel.from_pretrained(backbone, add_pooling_layer=False)
    for adapter in case["baked"]:
        model = PeftModel.from_pretrained(model, f"{case['bundle']}/{adapter}").merge_and_unload()
    first, *others = case["adapters"]
    model = PeftModel.from_pretrained(model, f"{case['bundle']}/{first}", adapter_name=first)
    for adapter in others:
        model.load_adapter(f"{case['bundle']}/{adapter}", adapter_name=adapter)
    model.base_model.set_adapter(case["adapters"])
    model.eval()
    with torch.no_grad():
        output = model(ids, attention_mask=(ids != 1).long(), output_hidden_states=True)
    for layer, states in enumerate(output.hidden_states):
        found[f"{name}/{layer}"] = states.contiguous()
assert not any(module.startswith(("adapter_stilts", "adapters")) for module in sys.modules)
save_file(found, f"{out}/peft.safetensors")
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield make_workspace(tmp_path_factory.mktemp("foreign"), monkeypatch)


@cache
def under(workspace: Workspace, method: str, name: str) -> Run:
    return workspace.train(task_of(workspace, name), method=method, settings=FAST)


def train_all(workspace: Workspace, cases: list[tuple[str, str, str, dict[str, str]]]) -> dict[str, Run]:
    """The target under each request."""
    task = english_task(workspace.folder / "t", "t")
    return {
        "-".join([method, compose, names, *settings.values()]): workspace.train(
            task,
            method=method,
            compose=compose,
            over=[under(workspace, method, name) for name in names],
            settings={**FAST, **settings},
        )
        for method, compose, names, settings in cases
    }


def read_elsewhere(program: str, library: str, workspace: Workspace, runs: dict[str, Run]) -> dict[str, Tensor]:
    """What one process, in which this package is never imported, reads from all bundles."""
    cases = {}
    for name, run in runs.items():
        manifest = read_manifest(run.bundle)
        about = {"adapters": manifest.adapters, "baked": manifest.baked, "head": manifest.head}
        cases[name] = {"bundle": str(run.bundle), **about}
    save_file({"ids": IDS}, workspace.folder / "ids.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", program, str(workspace.folder / "tiny"), str(workspace.folder), json.dumps(cases)],
        cwd=workspace.folder,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return load_file(workspace.folder / f"{library}.safetensors")


def read_here(workspace: Workspace, run: Run) -> dict[str, Tensor]:
    model: Any = load_bundle(run.bundle, workspace.backbone)[0]
    with torch.no_grad():
        output = model(IDS, attention_mask=(IDS != 1).long(), output_hidden_states=True)
    return {str(layer): states for layer, states in enumerate(output.hidden_states)} | {"logits": output.logits}


def compare(workspace: Workspace, runs: dict[str, Run], elsewhere: dict[str, Tensor], logits: bool) -> int:
    """Every layer's states within 1e-5, on pieces that are no padding, and far from the bare backbone's; returns how
    many tensors were compared."""
    real, compared = IDS != 1, 0
    with torch.no_grad():
        bare = load_model(workspace.backbone).roberta(IDS, attention_mask=real.long())[0][real]
    for name, run in runs.items():
        here = read_here(workspace, run)
        assert {"0", "1", "2", "logits"} == here.keys()
        for key, values in here.items():
            if key != "logits" or logits:
                torch.testing.assert_close(
                    elsewhere[f"{name}/{key}"][real], values[real], atol=1e-5, rtol=1e-5, msg=f"{name} {key}"
                )
                compared += 1
        assert (here["2"][real] - bare).abs().max() > 0.02, name
    assert len(elsewhere) == len(runs) * (4 if logits else 3)
    return compared


@pytest.mark.slow
def test_adapters_alone_reads_every_composition(workspace: Workspace) -> None:
    """`load_adapter_setup`, and the target's head with it."""
    runs = train_all(workspace, BOTTLENECK)
    elsewhere = read_elsewhere(READ_SETUPS, "adapters", workspace, runs)
    assert compare(workspace, runs, elsewhere, logits=True) == 4 * len(BOTTLENECK)


@pytest.mark.slow
def test_peft_alone_reads_every_composition(workspace: Workspace) -> None:
    """On a plain `XLMRobertaModel`: baked adapters merged first, the others active together."""
    runs = train_all(workspace, PEFT)
    elsewhere = read_elsewhere(READ_PEFT, "peft", workspace, runs)
    assert compare(workspace, runs, elsewhere, logits=False) == 3 * len(PEFT)
