"""A bundle that loads is the bundle that was saved: every tensor, and nothing else."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.hostile import reseal_bundle, seal
from support.training import Workspace, english_task, make_workspace

from adapter_stilts.engine.bundle import load_bundle
from adapter_stilts.errors import StiltsError
from adapter_stilts.runs.store import Run

WORDS = "roberta.embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield make_workspace(tmp_path_factory.mktemp("checked"), monkeypatch)


@pytest.fixture(scope="module")
def run(workspace: Workspace) -> Run:
    return workspace.train(english_task(workspace.folder / "data"), settings={"epochs": "1"})


def with_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def hurt(bundle: Path) -> None:
        path = bundle / "tags" / "adapter.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)
        reseal_bundle(bundle)

    return hurt


def pickle_instead(bundle: Path) -> None:
    path = bundle / "tags" / "adapter.safetensors"
    torch.save(load_file(path), path.with_name("pytorch_adapter.bin"))
    path.unlink()
    reseal_bundle(bundle)


def pickle_beside(bundle: Path) -> None:
    (bundle / "tags" / "pytorch_adapter.bin").write_bytes(b"\x80\x04K\x01.")


def no_files(bundle: Path) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    seal(bundle / "manifest.json", {**content, "files": {}})


def other_labels(bundle: Path) -> None:
    content = json.loads((bundle / "manifest.json").read_text())
    seal(bundle / "manifest.json", {**content, "labels": ["A", "C", "B"]})


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (
        with_tensors(lambda tensors: tensors.pop(min(tensors))),
        r"adapter.safetensors: lacks 1 tensors .* first roberta\.",
    ),
    "empty": (with_tensors(lambda tensors: tensors.clear()), r"adapter.safetensors: lacks 8 tensors"),
    "foreign": (
        with_tensors(lambda tensors: tensors.update({WORDS: torch.zeros(500, 32)})),
        rf"has 1 tensors .* first {WORDS}",
    ),
    "nan": (
        with_tensors(lambda tensors: tensors[min(tensors)].fill_(float("nan"))),
        r"weights in .* that are not finite",
    ),
    "shape": (
        with_tensors(lambda tensors: tensors.update({min(tensors): torch.zeros(3)})),
        r"is \(3,\), accepted \(4,\)",
    ),
    "type": (
        with_tensors(lambda tensors: tensors.update({min(tensors): tensors[min(tensors)].long()})),
        r"of type I64, accepted F32",
    ),
    "pickle": (pickle_instead, r"manifest.json: files: lists no tags/adapter.safetensors"),
    "beside": (pickle_beside, r"pytorch_adapter.bin: found a file that the manifest does not list"),
    "nothing": (no_files, r"manifest.json: files: lists no adapter_setup.json"),
    "labels": (other_labels, r"head_config.json: found a head of other labels"),
}


@pytest.mark.parametrize("case", CASES)
def test_bundles_that_are_refused(
    workspace: Workspace, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was opened")

    copy = workspace.store.copy(run, tmp_path / "copy")
    load_bundle(copy / "bundle", workspace.backbone)
    hurt, complaint = CASES[case]
    hurt(copy / "bundle")
    monkeypatch.setattr(torch, "load", never)
    with pytest.raises(StiltsError, match=complaint) as caught:
        load_bundle(copy / "bundle", workspace.backbone)
    assert "\n" not in str(caught.value)


def test_settings_of_peft_that_import_or_read(workspace: Workspace, tmp_path: Path) -> None:
    run = workspace.train(english_task(workspace.folder / "data"), method="lora", settings={"epochs": "1"})
    for number, change in enumerate(
        [
            {"megatron_config": {}, "megatron_core": "os"},
            {"target_modules": "(a+)+$"},
            {"r": 10**9},
            {"lora_alpha": "x"},
        ]
    ):
        copy = workspace.store.copy(run, tmp_path / str(number))
        path = copy / "bundle" / "tags" / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        reseal_bundle(copy / "bundle")
        with pytest.raises(StiltsError, match=rf"adapter_config.json: .*{min(change)}|adapter_config.json: megatron"):
            load_bundle(copy / "bundle", workspace.backbone)
