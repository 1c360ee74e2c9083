"""Bundles: the same logits after loading, damage named, and `adapters` or `transformers` alone read them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adapters.utils
import numpy as np
import peft.utils
import pytest
import torch
from safetensors.torch import load_file
from support.hostile import alter, truncate
from support.tiny import tiny_backbone_folder
from support.training import FAST, TEXT_TASK, Workspace, english_task, pairs_task, text_task, use_of

from adapter_stilts.engine.batches import pack
from adapter_stilts.engine.bundle import load_bundle
from adapter_stilts.engine.step import batch_logits
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.model import peft_files
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.runs import manifest
from adapter_stilts.runs.manifest import read_manifest
from adapter_stilts.runs.store import Run
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.training import api
from adapter_stilts.training.api import train

IDS = [[0, 4, 5, 21, 60, 2], [0, 7, 8, 2, 1, 1]]
READ_SETUP = """
import sys
import torch
from adapters import XLMRobertaAdapterModel
from safetensors.torch import save_file

backbone, out, *bundles = sys.argv[1:]
ids = torch.tensor({ids})
for number, bundle in enumerate(bundles):
    model = XLMRobertaAdapterModel.from_pretrained(backbone)
    model.load_adapter_setup(bundle, set_active=True, use_safetensors=True)
    model.eval()
    with torch.no_grad():
        output = model(ids, attention_mask=(ids != 1).long(), output_hidden_states=True)
    save_file({{"states": output.hidden_states[-1], "logits": output.logits}}, f"{{out}}/{{number}}.safetensors")
assert not any(name.startswith("adapter_stilts") for name in sys.modules)
"""
READ_ENCODER = """
import sys
import torch
from safetensors.torch import save_file
from transformers import XLMRobertaModel

model = XLMRobertaModel.from_pretrained(sys.argv[3], add_pooling_layer=False).eval()
ids = torch.tensor({ids})
with torch.no_grad():
    states = model(ids, attention_mask=(ids != 1).long()).last_hidden_state
assert not any(name.startswith(("adapter_stilts", "adapters")) for name in sys.modules)
save_file({{"states": states}}, sys.argv[2] + "/0.safetensors")
"""


def test_an_adapter_of_masked_language_modelling_is_saved_and_stacked_on(workspace: Workspace) -> None:
    """Its head is one of ours, which lies beside the adapter; a target takes the adapter as it is."""
    folder = workspace.folder / "text"
    languages = "{train: train.tsv, validation: train.tsv}"
    text = find_task(text_task(folder, TEXT_TASK.replace("{train: train.tsv}", languages)))
    below = workspace.train(text, settings=FAST)
    assert sorted(path.relative_to(below.bundle).as_posix() for path in below.bundle.rglob("*.*")) == [
        "adapter_setup.json",
        "manifest.json",
        "text/adapter.safetensors",
        "text/adapter_config.json",
        "text/masked_lm_head.safetensors",
    ]
    above = workspace.train(english_task(workspace.folder / "data"), over=[below], settings=FAST)
    saved, stacked = (load_file(run.bundle / "text" / "adapter.safetensors") for run in (below, above))
    assert saved.keys() == stacked.keys()
    assert all(torch.equal(saved[name], stacked[name]) for name in saved)


def read_elsewhere(program: str, workspace: Workspace, runs: list[Run]) -> list[dict[str, torch.Tensor]]:
    """What one process, in which this package is never imported, reads from each run's bundle."""
    arguments = [str(workspace.folder / "tiny"), str(workspace.folder), *(str(run.bundle) for run in runs)]
    subprocess.run(
        [sys.executable, "-c", program.format(ids=IDS), *arguments],
        check=True,
        cwd=workspace.folder,
        capture_output=True,
    )
    return [load_file(workspace.folder / f"{number}.safetensors") for number in range(len(runs))]


def read_here(workspace: Workspace, run: Run) -> dict[str, torch.Tensor]:
    model, _ = load_bundle(run.bundle, workspace.backbone)
    ids = torch.tensor(IDS)
    with torch.no_grad():
        output = model(ids, attention_mask=(ids != 1).long(), output_hidden_states=True)
    return {"states": output.hidden_states[-1], "logits": output.logits}


@pytest.mark.slow
def test_adapters_alone_reads_a_setup(workspace: Workspace) -> None:
    """None and stack, tagging and classification."""
    under = workspace.train(english_task(workspace.folder / "under", "under", shift=1))
    tasks = [english_task(workspace.folder / "data"), pairs_task(workspace.folder / "pairs")]
    runs = [workspace.train(task, over=over) for task in tasks for over in ([], [under])]
    assert [run.record.composition for run in runs] == ["none", "stack"] * 2
    seen = []
    for run, elsewhere in zip(runs, read_elsewhere(READ_SETUP, workspace, runs), strict=True):
        here = read_here(workspace, run)
        assert torch.equal(here["states"], elsewhere["states"])
        assert torch.equal(here["logits"], elsewhere["logits"])
        seen.append(here["states"])
    assert not any(torch.equal(seen[one], seen[other]) for one in range(4) for other in range(one))


@pytest.mark.slow
def test_transformers_alone_reads_a_full_encoder(workspace: Workspace) -> None:
    run = workspace.train(english_task(workspace.folder / "data"), method="full")
    (elsewhere,) = read_elsewhere(READ_ENCODER, workspace, [run])
    real = torch.tensor(IDS) != 1
    torch.testing.assert_close(read_here(workspace, run)["states"][real], elsewhere["states"][real], atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", ["bottleneck", "full"])
def test_files_of_a_bundle(workspace: Workspace, method: str) -> None:
    """No pickle, no head but the target's, and a manifest that lists every other file."""
    under = workspace.train(english_task(workspace.folder / "under", "under", shift=1), method=method)
    run = workspace.train(english_task(workspace.folder / "data"), over=[under], method=method)
    files = {path.relative_to(run.bundle).as_posix() for path in run.bundle.rglob("*") if path.is_file()}
    assert {Path(name).suffix for name in files} == {".json", ".safetensors"}
    manifest = read_manifest(run.bundle)
    assert manifest.files.keys() | {"manifest.json"} == files
    assert run.record.cost.bundle_bytes == sum((run.bundle / name).stat().st_size for name in manifest.files)
    heads = [name for name in files if "head" in name and name.endswith(".safetensors")]
    assert len(heads) == 1
    assert heads[0].startswith("tags/")
    assert manifest.adapters == (("under", "tags") if method == "bottleneck" else ())
    assert (manifest.labels, manifest.backbone.layers, manifest.backbone.hidden_size) == (("A", "B", "C"), 2, 32)


# --- loading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "over"),
    [("bottleneck", False), ("bottleneck", True), ("full", False), ("full", True)],
    ids=["none", "stack", "full", "continue"],
)
def test_loading_gives_the_logits_from_before_saving(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, method: str, over: bool
) -> None:
    task = english_task(workspace.folder / "data", word_piece="mean")
    under = [workspace.train(english_task(workspace.folder / "under", "under", shift=1), method=method)] if over else []
    job = workspace.job(task, under, method=method)
    split = load_training_data(job).tasks[0].development
    assert split is not None
    batch = pack(split, np.arange(split.examples), use_of("tags"), 2)
    before = []
    original = api.save_bundle

    def remember(folder: Path, model: Any, *rest: Any) -> Any:
        with torch.no_grad():
            before.append(batch_logits(model, batch))
        return original(folder, model, *rest)

    monkeypatch.setattr(api, "save_bundle", remember)
    run = workspace.execute(job)
    model, manifest = load_bundle(run.bundle, workspace.backbone)
    with torch.no_grad():
        assert torch.equal(batch_logits(model, batch), before[0])
    assert manifest.labels == run.record.labels == ("A", "B", "C")
    assert not any(module.training for module in model.modules())


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (Path.unlink, "missing from the bundle"),
    "truncated": (truncate, r"found \d+ bytes, the manifest says \d+"),
    "altered": (alter, "altered since it was written"),
}


def all_files(run: Run) -> list[str]:
    files = [path.relative_to(run.bundle).as_posix() for path in run.bundle.rglob("*") if path.is_file()]
    return sorted(name for name in files if name != "manifest.json")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("method", ["bottleneck", "full"])
def test_damaged_file_is_named(workspace: Workspace, method: str, damage: str) -> None:
    """Every file of the bundle in turn, by loading it and by training on top of it."""
    run = workspace.train(english_task(workspace.folder / "data"), method=method)
    above = english_task(workspace.folder / "above", "above", shift=1)
    hurt, complaint = DAMAGES[damage]
    names = all_files(run)
    assert any(name.endswith(".safetensors") for name in names)
    for name in names:
        whole = (run.bundle / name).read_bytes()
        hurt(run.bundle / name)
        with pytest.raises(StiltsError, match=rf"{name}: {complaint}") as caught:
            load_bundle(run.bundle, workspace.backbone)
        assert "\n" not in str(caught.value)
        with pytest.raises(StiltsError, match=rf"{name}: {complaint}"):
            workspace.train(above, over=[run], method=method)
        (run.bundle / name).write_bytes(whole)
    load_bundle(run.bundle, workspace.backbone)
    assert workspace.store.names() == [run.name]


def test_damaged_manifest_and_record(workspace: Workspace) -> None:
    run = workspace.train(english_task(workspace.folder / "data"))
    for path, read in (
        (run.bundle / "manifest.json", lambda: load_bundle(run.bundle, workspace.backbone)),
        (run.folder / "record.json", lambda: workspace.store.find(run.name)),
    ):
        whole = path.read_text()
        for text, key in (
            (whole[:50], "JSON"),
            (json.dumps({**json.loads(whole), "method": "magic"}), "method"),
            (json.dumps({**json.loads(whole), "more": 1}), "more"),
            (json.dumps({**json.loads(whole), "format": 1}), "format"),
        ):
            path.write_text(text)
            with pytest.raises(StiltsError, match=rf"{path.name}: {key}: ") as caught:
                read()
            assert "\n" not in str(caught.value)
        path.write_text(whole)


def test_another_backbone(workspace: Workspace) -> None:
    run = workspace.train(english_task(workspace.folder / "data"))
    wide = load_backbone(str(tiny_backbone_folder(workspace.folder / "wide", hidden=48)))
    with pytest.raises(UsageError, match=r"trained on .*tiny \(2 x 32, .*found .*wide \(2 x 48"):
        load_bundle(run.bundle, wide)
    with pytest.raises(UsageError, match=r"trained on .*tiny \(2 x 32, .*found .*wide \(2 x 48"):
        workspace.job(english_task(workspace.folder / "above", "above"), [run], backbone=wide)


@pytest.mark.parametrize("method", ["bottleneck", "lora", "full", "head"])
def test_no_path_of_this_machine_is_in_a_bundle(workspace: Workspace, method: str) -> None:
    """The backbone is one of a mirror here: its id stands wherever libraries write where they loaded it from."""
    mirror = workspace.folder / "mirror"
    shutil.copytree(workspace.folder / "tiny", mirror / "owner" / "name")
    backbone = load_backbone("owner/name", mirror=mirror)
    task = english_task(workspace.folder / "data")
    run = train(task, backbone=backbone, runs=workspace.store, device="cpu", method=method, mirror=mirror)
    texts = {path: path.read_bytes() for path in run.bundle.rglob("*") if path.is_file()}
    assert [path.name for path, text in texts.items() if str(workspace.folder).encode() in text] == []
    assert read_manifest(run.bundle).backbone.id == "owner/name"
    configs = [json.loads(path.read_text()) for path in run.bundle.rglob("*config.json")]
    names = {config[key] for config in configs for key in ("model_name", "base_model_name_or_path") if config.get(key)}
    assert names == (set() if method == "full" and not names else {"owner/name"})


def test_of_a_backbone_in_a_folder_the_bundle_has_its_name(workspace: Workspace) -> None:
    run = workspace.train(english_task(workspace.folder / "data"))
    assert read_manifest(run.bundle).backbone.id == "tiny"
    assert run.record.backbone.id == str(workspace.folder / "tiny")  # where evaluation finds it
    assert json.loads((run.bundle / "tags" / "adapter_config.json").read_text())["model_name"] == "tiny"


def test_files_have_the_names_that_the_libraries_give_them() -> None:
    """They are written down so that a manifest is read without either library."""
    names = (manifest.SETUP, manifest.ADAPTER_CONFIG, manifest.ADAPTER_WEIGHTS, manifest.FUSION_CONFIG)
    assert names == (
        adapters.utils.SETUP_CONFIG_NAME,
        adapters.utils.CONFIG_NAME,
        adapters.utils.SAFE_WEIGHTS_NAME,
        adapters.utils.ADAPTERFUSION_CONFIG_NAME,
    )
    heads = (manifest.FUSION_WEIGHTS, manifest.HEAD_CONFIG, manifest.HEAD_WEIGHTS)
    assert heads == (
        adapters.utils.SAFE_ADAPTERFUSION_WEIGHTS_NAME,
        adapters.utils.HEAD_CONFIG_NAME,
        adapters.utils.SAFE_HEAD_WEIGHTS_NAME,
    )
    assert (manifest.PEFT_CONFIG, manifest.PEFT_WEIGHTS) == (
        peft.utils.CONFIG_NAME,
        peft.utils.SAFETENSORS_WEIGHTS_NAME,
    )
    assert (manifest.PEFT_CONFIG, manifest.PEFT_WEIGHTS) == (peft_files.CONFIG, peft_files.WEIGHTS)
