"""What others write into a store, a checkpoint, a mirror or a file: bounded work, and nothing outside is touched."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.cli import command
from support.hostile import reseal_bundle
from support.tiny import tiny_backbone_folder
from support.training import Workspace, english_task

from adapter_stilts import residue
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.evaluation.zero_shot import evaluate
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.model.backbone_files import weight_map
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.paths import resolve_repository
from adapter_stilts.plain_text import csv_cell, markdown_cell
from adapter_stilts.residue import remove
from adapter_stilts.schema import layer_numbers
from adapter_stilts.studies.reading import read_study
from adapter_stilts.tasks.dataset_card import readme_configs
from adapter_stilts.tasks.readers import jsonl, parquet
from adapter_stilts.training.api import train
from adapter_stilts.trust import matching_files, names_in, parse_json


@contextmanager
def quickly() -> Iterator[None]:
    """Far under what unbounded work takes, far over what a busy machine does."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("name", [".claims", ".checkpoints", ".failures"])
def test_a_link_among_a_stores_own_folders_is_not_followed(
    tmp_path: Path, workspace: Workspace, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residue, "LOOK_EVERY", -1.0)
    run = workspace.train(english_task(workspace.folder / "data"))
    outside = tmp_path / "outside"
    (outside / run.name).mkdir(parents=True)
    (outside / "package.json").write_text("{}")
    remove(workspace.store.folder / name)
    (workspace.store.folder / name).symlink_to(outside)
    with pytest.raises(StiltsError, match=rf"{name}: found a symbolic link, accepted a folder"):
        evaluate(run.name, runs=workspace.store, device="cpu")
    assert sorted(path.name for path in outside.iterdir()) == sorted(["package.json", run.name])


# --- checkpoints ------------------------------------------------------------------------------------------------------


def configured(folder: Path, **changes: Any) -> Path:
    checkpoint = tiny_backbone_folder(folder / "tiny")
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return checkpoint


def test_a_configuration_leads_to_no_other_weights(tmp_path: Path) -> None:
    other = tiny_backbone_folder(tmp_path / "other", hidden=32)
    whole = load_model(load_backbone(tiny_backbone_folder(tmp_path / "whole"))).state_dict()
    path = configured(tmp_path, transformers_weights=str(other / "model.safetensors"), num_labels=10**9)
    with quickly():
        tensors = load_model(load_backbone(path)).state_dict()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"hidden_act": 3}, r"hidden_act: found 3, accepted .*gelu"),
        ({"hidden_act": "x"}, r"hidden_act: found x, accepted .*gelu"),
        ({"is_decoder": True}, r"is_decoder: found True, accepted False"),
        (
            {"position_embedding_type": "relative_key"},
            r"position_embedding_type: found relative_key, accepted abs",
        ),
    ],
)
def test_what_the_encoder_would_compute_otherwise_is_refused(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        load_backbone(configured(tmp_path, **changes))


def test_a_repository_of_a_mirror_is_in_the_mirror(tmp_path: Path) -> None:
    (tmp_path / "mirror" / "org").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "mirror" / "org" / "data").symlink_to(tmp_path / "outside")
    with pytest.raises(StiltsError, match=r"org/data: found a link to what is outside .*mirror, accepted the folder"):
        resolve_repository("org/data", tmp_path / "mirror")


def test_half_a_character_in_a_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text('{"weight_map": {"a": "a\\ud800.safetensors"}}')
    with pytest.raises(StiltsError, match=r"found the file .*, accepted names of \.safetensors files"):
        list(names_in(weight_map(path).values(), path))


def test_an_adapter_with_an_invertible_one_is_refused(workspace: Workspace) -> None:
    run = workspace.train(english_task(workspace.folder / "data"))
    path = next(run.bundle.rglob("adapter_config.json"))
    content = json.loads(path.read_text())
    content["config"] |= {"inv_adapter": "nice", "inv_adapter_reduction_factor": 1e-9}
    path.write_text(json.dumps(content))
    reseal_bundle(run.bundle)
    with quickly(), pytest.raises(StiltsError, match=r"found config\.inv_adapter: nice, accepted null"):
        evaluate(run, runs=workspace.store, device="cpu")


# --- texts ------------------------------------------------------------------------------------------------------------


def test_keys_that_stand_twice_are_found_in_one_pass(tmp_path: Path) -> None:
    text = "{" + ", ".join(f'"{key}": 1' for key in [*range(100_000), 99_999]) + "}"
    with quickly(), pytest.raises(StiltsError, match="found the key '99999' twice"):
        parse_json(tmp_path / "x.json", text)
    (tmp_path / "x.jsonl").write_text(text)
    with quickly(), pytest.raises(StiltsError, match=r"x\.jsonl:1: found the key '99999' twice"):
        jsonl.read_jsonl(tmp_path / "x.jsonl", ["a"])


def test_lists_in_lists(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"a": ' + "[" * 900 + "]" * 900 + "}\n")
    with pytest.raises(StiltsError, match=r"x\.jsonl:1: a: found (a list|lists nested too deeply)"):
        jsonl.read_jsonl(tmp_path / "x.jsonl", ["a"])


def test_columns_of_a_complaint_are_few(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps(dict.fromkeys(map(str, range(10_000)), 1)) + "\n")
    with pytest.raises(StiltsError, match=r"found no column 'a', accepted one of 0, 1, .*, 49 and 9950 more$"):
        jsonl.read_jsonl(tmp_path / "x.jsonl", ["a"])


def test_rows_of_a_parquet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MOST_ROWS", 2)
    pq.write_table(pa.table({"a": ["x"] * 3}), tmp_path / "x.parquet")
    with pytest.raises(StiltsError, match=r"x\.parquet: found 3 rows, accepted up to 2"):
        parquet.read_parquet(tmp_path / "x.parquet", ["a"])


@pytest.mark.parametrize(
    ("text", "configs"),
    [
        ("---\n" + "\n" * 100_000, {}),
        ("---\nconfigs:\n- config_name: a\n---\nconfigs: 3\n---\n", {"a": {"train": []}}),
        ("---\n---\n", {}),
        ("--- \nconfigs:\n- config_name: b\n---", {"b": {"train": []}}),
        ("text\n---\nconfigs: 3\n---\n", {}),
    ],
)
def test_metadata_of_a_readme(tmp_path: Path, text: str, configs: dict[str, Any]) -> None:
    (tmp_path / "README.md").write_text(text)
    with quickly():
        assert readme_configs(tmp_path / "README.md", len(text)) == configs


def test_patterns_look_through_the_folders_once(tmp_path: Path) -> None:
    (tmp_path / "/".join("a" * 1 for _ in range(25))).mkdir(parents=True)
    with quickly(), pytest.raises(StiltsError, match=r"\(it has \*\* twice\), accepted files of the repository"):
        matching_files(tmp_path, "**/" * 12 + "x.parquet", tmp_path / "README.md")


def test_files_that_a_study_includes_are_read_once(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"include: [{number + 1}.yaml, {number + 1}.yaml]\n")
    (tmp_path / "40.yaml").write_text("targets: [udpos]\nmethods: [bottleneck]\ncompositions: [none]\n")
    with quickly():
        assert read_study(tmp_path / "0.yaml").targets == ("udpos",)
    for number in range(41, 160):
        (tmp_path / f"{number}.yaml").write_text(f"include: [{number + 1}.yaml]\n")
    with pytest.raises(UsageError, match="found more than 100 files, accepted fewer"):
        read_study(tmp_path / "41.yaml")


def test_a_list_of_layers_is_short() -> None:
    with quickly(), pytest.raises(ValueError, match="0-999"):
        layer_numbers(",".join(["0-999"] * 100_000))


def test_numbers_that_no_record_holds(workspace: Workspace) -> None:
    task = english_task(workspace.folder / "data")
    with pytest.raises(UsageError, match=r"--limit: found .*, accepted a whole number from 0 to 1000000000000000"):
        workspace.train(task, limit=10**30)
    run = workspace.train(task)
    with pytest.raises(UsageError, match=r"--limit: found .*, accepted a whole number from 1 to 1000000000000000"):
        evaluate(run, runs=workspace.store, device="cpu", limit=10**30)


@pytest.mark.parametrize(
    ("text", "cell"), [("a|b", r"a\|b"), (r"a\|b", r"a\\\|b"), (r"a\\|b", r"a\\\\\|b"), (r"a\b", r"a\b")]
)
def test_pipes_in_cells(text: str, cell: str) -> None:
    assert markdown_cell(text) == cell


@pytest.mark.parametrize("text", ["=1", " =1", "\ufeff=1", "\u200b@x", "﹢1+x", "＝1"])
def test_formulas(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


def test_where_a_prediction_cannot_be_written(workspace: Workspace) -> None:
    run = workspace.train(english_task(workspace.folder / "data"))
    text = workspace.folder / "text.txt"
    text.write_text("the dog runs\n")
    result = command("predict", run.name, text, "--runs", workspace.store.folder, "--out", "/dev/full")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        1,
        "/dev/full: cannot be written (No space left on device)",
    )


# --- threads of the caller --------------------------------------------------------------------------------------------


def in_threads(*works: Callable[[], Any]) -> list[Any]:
    results: list[Any] = [None] * len(works)

    def do(index: int) -> None:
        results[index] = works[index]()

    threads = [threading.Thread(target=do, args=(index,)) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_two_threads_train_as_each_would_alone(workspace: Workspace, tmp_path: Path) -> None:
    task = english_task(workspace.folder / "data")

    def history(seed: int, store: str) -> Callable[[], Any]:
        return lambda: (
            train(task, backbone=workspace.backbone, runs=tmp_path / store, device="cpu", seed=seed).record.history
        )

    alone = [history(seed, "alone")() for seed in (0, 1)]
    assert in_threads(history(0, "first"), history(1, "second")) == alone


def test_training_leaves_the_callers_random_numbers_alone(workspace: Workspace) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    workspace.train(english_task(workspace.folder / "data"))
    assert torch.equal(torch.rand(3), expected)
