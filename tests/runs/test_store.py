"""The run store: a name for everything that decides a result, finding, keeping, and nothing half-written."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.tiny import edit_weights, tiny_backbone_folder
from support.training import TEXT_TASK, Workspace, english_task, text_task, write_task

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.jobs.resolve import identified
from adapter_stilts.model.backbone import load_backbone
from adapter_stilts.runs.record import read_record
from adapter_stilts.runs.store import Keep, RunStore, content_hash, keep_of
from adapter_stilts.runs.tidy import CHECKPOINTS
from adapter_stilts.schema import Recipe
from adapter_stilts.training import api

OTHER_VALUES = {
    "learning_rate": "2e-3",
    "epochs": "3",
    "batch_examples": "9",
    "batch_tokens": "300",
    "accumulate": "2",
    "warmup": "0.2",
    "weight_decay": "0.1",
    "clip": "2.0",
    "dropout": "0.2",
    "selection": "best",
    "development_examples": "5",
    "reduction": "4",
    "adapter": "houlsby",
    "layers": "1",
}
# Fields that decide something under some methods, compositions and tasks alone, by the job that they change.
VALUES_ELSEWHERE = {
    "lora": {"rank": "4", "alpha": "5", "targets": "query", "layers": "0"},
    "ia3": {"targets": "query"},
    "fused": {"fusion": "full", "fusion_rank": "3", "fusion_null": "false", "fusion_learning_rate": "1e-5"},
    "merged": {"merge_weights": "0.9,0.1", "merge_then": "continue"},
    "merged lora": {"merge": "ties"},
    "two tasks": {"mixing": "uniform", "mixing_cap": "12", "mixing_temperature": "5"},
    "masked": {"mlm_share": "0.3", "mlm_task": "other.yaml"},
}
TWO_LANGUAGES = (
    "{en: {train: en-train.conllu, validation: en-dev.conllu, test: en-test.conllu}, de: {train: en-dev.conllu}}"
)


# --- names ----------------------------------------------------------------------------------------------------------


def test_a_value_for_every_field_of_a_recipe() -> None:
    fields = OTHER_VALUES.keys() | {field for field_names in VALUES_ELSEWHERE.values() for field in field_names}
    assert fields == Recipe.model_fields.keys() - {"tuning"}


@pytest.mark.slow
def test_each_field_of_the_identity_changes_the_name(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash at the end decides; whatever goes before it is for the reader."""
    folder = workspace.folder

    def edited(name: str, file: str, old: str, new: str) -> Any:
        task = english_task(folder / name)
        path = folder / name / file
        path.write_text(path.read_text().replace(old, new, 1))
        return task

    task = english_task(folder / "data")
    first, second = (workspace.train(english_task(folder / "under", "under", shift=1), seed=seed) for seed in (0, 1))
    full, lora = (
        workspace.train(english_task(folder / "under", "under", shift=1), method=method) for method in ("full", "lora")
    )
    other_lora = workspace.train(english_task(folder / "under", "under", shift=1), method="lora", seed=1)
    both = [task, english_task(folder / "both", "both", shift=1)]
    german = write_task(folder / "data", "german", languages=TWO_LANGUAGES)
    text = text_task(
        folder / "text", TEXT_TASK.replace("{train: train.tsv}", "{train: train.tsv, validation: train.tsv}")
    )
    (folder / "text" / "other.yaml").write_text(text.read_text())
    monkeypatch.chdir(text.parent)
    mixed_in = {"mlm_share": "0.2", "mlm_task": str(text)}
    masked = workspace.job(task, settings=mixed_in)
    assert masked.mixed_in is not None
    other_weights = tiny_backbone_folder(folder / "other")
    edit_weights(other_weights, lambda weights: weights["embeddings.LayerNorm.bias"][0].add_(1))
    jobs = {
        "base": workspace.job(task),
        "backbone weights": workspace.job(task, backbone=load_backbone(str(other_weights))),
        "backbone tokenizer": workspace.job(
            task, backbone=load_backbone(str(tiny_backbone_folder(folder / "small", vocabulary=480)))
        ),
        "task name": workspace.job(english_task(folder / "name", "tagz")),
        "task version": workspace.job(english_task(folder / "version", version=2)),
        "labels": workspace.job(english_task(folder / "labels", labels="[B, A, C]")),
        "open labels": workspace.job(english_task(folder / "open", labels="open")),
        "word piece": workspace.job(english_task(folder / "piece", word_piece="mean")),
        "train data": workspace.job(edited("train", "en-train.conllu", "\tA\t", "\tB\t")),
        "development data": workspace.job(edited("dev", "en-dev.conllu", "\tA\t", "\tB\t")),
        "seed": workspace.job(task, seed=1),
        "limit": workspace.job(task, limit=12),
        "other limit": workspace.job(task, limit=13),
        "precision": workspace.job(task, precision="bf16"),
        "method": workspace.job(task, method="full"),
        "composition": workspace.job(task, [first]),
        "run underneath": workspace.job(task, [second]),
        "two underneath": workspace.job(task, [first, second]),
        "two in another order": workspace.job(task, [second, first]),
        "continued": workspace.job(task, [full], method="full"),
        "continued adapter": workspace.job(task, [first], compose="continue"),
        "fused": workspace.job(task, [first, second], compose="fuse"),
        "merged": workspace.job(task, [first, second], compose="merge"),
        "head": workspace.job(task, method="head"),
        "lora": workspace.job(task, method="lora"),
        "dora": workspace.job(task, method="dora"),
        "ia3": workspace.job(task, method="ia3"),
        "stacked lora": workspace.job(task, [lora], method="lora"),
        "baked": workspace.job(task, [lora], method="lora", compose="bake"),
        "merged lora": workspace.job(task, [lora, other_lora], method="lora", compose="merge"),
        "random": workspace.job(task, control="random"),
        "shuffled": workspace.job(task, control="shuffled"),
        "tokens": workspace.job(task, match_tokens=40),
        "other tokens": workspace.job(task, match_tokens=41),
        "two tasks": workspace.job(both),
        "two tasks in another order": workspace.job(both[::-1]),
        "in English and German": workspace.job(german, languages=("en", "de")),
        "in German": workspace.job(german, languages=("de",)),
        "name alone": workspace.job(german),
        "masked": masked,
        "masked with the checkpoint's head": identified(replace(masked, mixed_in=replace(masked.mixed_in, head=None))),
    }
    changed = {
        "base": lambda settings: workspace.job(task, settings=settings),
        "lora": lambda settings: workspace.job(task, method="lora", settings=settings),
        "ia3": lambda settings: workspace.job(task, method="ia3", settings=settings),
        "fused": lambda settings: workspace.job(task, [first, second], compose="fuse", settings=settings),
        "merged": lambda settings: workspace.job(task, [first, second], compose="merge", settings=settings),
        "merged lora": lambda settings: workspace.job(
            task, [lora, other_lora], method="lora", compose="merge", settings=settings
        ),
        "two tasks": lambda settings: workspace.job(both, settings=settings),
        "masked": lambda settings: workspace.job(task, settings=mixed_in | settings),
    }
    for what, values in {"base": OTHER_VALUES, **VALUES_ELSEWHERE}.items():
        jobs |= {f"{what}: {key}": changed[what]({key: value}) for key, value in values.items()}
    hashes = {what: content_hash(job.identity) for what, job in jobs.items()}
    assert len(set(hashes.values())) == len(jobs), sorted(hashes.items(), key=lambda item: item[1])
    assert all(job.name.endswith(f"-{hashes[what]}") for what, job in jobs.items())
    same = {
        "tuning": workspace.job(task, settings={"tuning": "by hand"}),
        "value set to what it is": workspace.job(task, settings={"epochs": "2"}),
        "other folder": workspace.job(english_task(folder / "elsewhere")),
        "test data": workspace.job(edited("test", "en-test.conllu", "\tA\t", "\tB\t")),
        "other backbone folder": workspace.job(
            task, backbone=load_backbone(str(shutil.copytree(folder / "tiny", folder / "moved")))
        ),
        "a further language": workspace.job(
            write_task(
                folder / "data",
                languages="{en: {train: en-train.conllu, validation: en-dev.conllu}, de: {test: en-test.conllu}}",
            )
        ),
    }
    assert {what: job.name for what, job in same.items()} == dict.fromkeys(same, jobs["base"].name)
    # A tenth of the task's 1e-2, which fusion has unless it is told another.
    assert changed["fused"]({"fusion_learning_rate": "1e-3"}).name == jobs["fused"].name


def test_used_tokenizer_names_the_same_run(workspace: Workspace) -> None:
    backbone = load_backbone(str(workspace.folder / "tiny"))
    backbone.tokenizer(["the of"], truncation=True, max_length=3)
    task = english_task(workspace.folder / "data")
    assert workspace.job(task, backbone=backbone).name == workspace.job(task).name


def test_hash_by_hand() -> None:
    """printf '{"a":"ä","b":[1,null]}' | sha256sum"""
    assert content_hash({"b": [1, None], "a": "ä"}) == "e4caa2320164"
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_hash({"a": float("nan")})


# --- finding --------------------------------------------------------------------------------------------------------


def test_find(workspace: Workspace, tmp_path: Path) -> None:
    task = english_task(workspace.folder / "data")
    one, other = workspace.train(task), workspace.train(task, seed=1)
    copied = tmp_path / "copied"
    workspace.train(task, out=copied)
    store = RunStore(workspace.store.folder)
    assert store.names() == sorted([one.name, other.name])
    for run in (one.name, "tags-bottleneck-none-s0", str(one.folder), str(copied)):
        assert store.find(run).record == one.record
    with pytest.raises(UsageError, match=rf"^run 'tags': found 2 that begin so, .*{one.name}, {other.name}$"):
        store.find("tags")
    with pytest.raises(UsageError, match=rf"^run 'tagz': not a folder .*{one.name}"):
        store.find("tagz")
    with pytest.raises(UsageError, match=r"it has none yet"):
        RunStore(tmp_path / "nowhere").find("tags")
    with pytest.raises(UsageError, match=r"^run ''"):
        store.find("")


def test_half_written_folder_is_no_run(workspace: Workspace) -> None:
    """What a killed process leaves behind begins with a dot."""
    run = workspace.train(english_task(workspace.folder / "data"))
    shutil.copytree(run.folder, workspace.store.folder / f".{run.name}.0123.partial")
    assert workspace.store.names() == [run.name]


def test_where_the_store_is(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RunStore().folder == Path("runs")
    monkeypatch.setenv("ADAPTER_STILTS_RUNS", str(workspace.folder / "variable"))
    assert RunStore().folder == workspace.folder / "variable"
    assert RunStore(workspace.folder / "option").folder == workspace.folder / "option"


# --- training once --------------------------------------------------------------------------------------------------


def test_existing_run_is_not_trained_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    task = english_task(workspace.folder / "data")
    run = workspace.train(task)
    monkeypatch.setattr(api, "execute", lambda *_: pytest.fail("trained again"))
    assert workspace.train(task, settings={"tuning": "other words"}).record == run.record


def test_copy_to_a_folder(workspace: Workspace, tmp_path: Path) -> None:
    task = english_task(workspace.folder / "data")
    out = tmp_path / "out"
    run = workspace.train(task, out=out)
    files = {path.relative_to(run.folder): path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    assert {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()} == files
    other = workspace.train(task, seed=1, out=out)
    assert read_record(out) == other.record
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    with pytest.raises(UsageError, match="not empty and holds no run"):
        workspace.train(task, out=tmp_path / "full")
    assert (tmp_path / "full" / "note").read_text() == "mine"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("where", ["fit", "save_bundle", "write_record"])
def test_interrupted_training_leaves_a_checkpoint_alone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, where: str, error: type[BaseException]
) -> None:
    task = english_task(workspace.folder / "data")
    original = getattr(api, where)

    def interrupted(*arguments: Any) -> None:
        original(*arguments)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(api, where, interrupted)
        with pytest.raises(error):
            workspace.train(task)
    checkpoints = workspace.store.folder / CHECKPOINTS
    assert set(workspace.store.folder.iterdir()) <= {checkpoints}
    assert workspace.train(task).has_weights
    assert not list(checkpoints.glob("*"))


# --- keeping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "keep", "stays"),
    [
        ("bottleneck", "all", True),
        ("bottleneck", "adapters", True),
        ("bottleneck", "scores", False),
        ("full", "all", True),
        ("full", "adapters", False),
        ("full", "scores", False),
    ],
)
def test_keep(workspace: Workspace, method: str, keep: Keep, stays: bool) -> None:
    run = workspace.train(english_task(workspace.folder / "data"), method=method)
    keep_of(run, keep)
    assert run.has_weights is stays
    assert sorted(path.name for path in run.folder.iterdir()) == [
        *(["bundle"] if stays else []),
        "record.json",
        "trained_on.safetensors",
    ]
    assert workspace.store.find(run.name).record == run.record
    keep_of(run, keep)


def test_run_without_weights_is_trained_again_and_keeps_its_scores(workspace: Workspace) -> None:
    task = english_task(workspace.folder / "data")
    run = workspace.train(task)
    weights = load_file(run.bundle / "tags" / "adapter.safetensors")
    (run.folder / "evaluations" / "test-x").mkdir(parents=True)
    (run.folder / "evaluations" / "test-x" / "scores.json").write_text("{}")
    keep_of(run, "scores")
    with pytest.raises(StiltsError, match="were not kept"):
        workspace.execute(workspace.job(task, [run]))
    again = workspace.train(task)
    assert again.name == run.name
    tensors = load_file(again.bundle / "tags" / "adapter.safetensors")
    assert all(torch.equal(tensors[name], tensor) for name, tensor in weights.items())
    assert (again.folder / "evaluations" / "test-x" / "scores.json").read_text() == "{}"
    assert [path.name for path in workspace.store.folder.iterdir()] == [run.name]


def test_a_run_that_another_process_finished_first_stays(workspace: Workspace) -> None:
    job = workspace.job(english_task(workspace.folder / "data"))
    first = workspace.execute(job)
    before = (first.folder / "record.json").read_bytes()
    second = workspace.execute(job)
    assert second.folder == first.folder
    assert (first.folder / "record.json").read_bytes() == before
    assert [path.name for path in workspace.store.folder.iterdir()] == [first.name]


def test_a_done_target_needs_no_weights_underneath(workspace: Workspace) -> None:
    under, task = english_task(workspace.folder / "under", "under", shift=1), english_task(workspace.folder / "data")
    run = workspace.train(task, over=[str(under.path)])
    (below,) = [run for run in workspace.store.runs() if run.record.task.name == "under"]
    keep_of(below, "scores")
    assert workspace.train(task, over=[str(under.path)]).name == run.name
    assert not below.has_weights
    other = workspace.train(task, over=[str(under.path)], settings={"epochs": "1"})
    assert other.record.over[0].run == below.name
    assert below.has_weights
