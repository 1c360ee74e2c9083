"""Training as a whole: one seed one result, selection, limits, and what stops a run."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from support.training import ENGLISH, Workspace, draw_sentences, english_task, pairs_task, use_of, weights_of
from torch import Tensor

from adapter_stilts.engine.batches import epoch_order, pack
from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.bundle import load_bundle
from adapter_stilts.engine.predicting import predicting
from adapter_stilts.engine.step import EagerStep, batch_logits
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import TrainingData, TrainingPart, load_training_data
from adapter_stilts.runs.store import RunStore
from adapter_stilts.training import api, trainer
from adapter_stilts.training.describe import development_majority
from adapter_stilts.training.trainer import fit


def only_part(job: Job) -> TrainingPart:
    """The data of a job on one task."""
    (part,) = load_training_data(job).parts
    return part


@pytest.mark.parametrize("method", ["bottleneck", "full"])
def test_one_seed_gives_the_same_weights(workspace: Workspace, method: str) -> None:
    """Bit for bit, dropout included; the second run starts after another one has drawn random numbers."""
    task = english_task(workspace.folder / "data")
    runs = []
    for number, seed in enumerate((0, 1, 0)):
        job = workspace.job(task, method=method, seed=seed)
        runs.append(api.execute(job, RunStore(workspace.folder / f"store-{number}"), "cpu"))
    assert runs[0].record.recipe.dropout == 0.1
    first, other, again = (weights_of(run) for run in runs)
    assert first.keys() == again.keys() == other.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert runs[0].record.history == runs[2].record.history
    head = "tags/heads.tags.1.weight"
    assert not torch.equal(first[head], other[head])
    assert runs[0].record.history != runs[1].record.history


def test_the_next_batch_is_packed_before_losses_are_asked_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that has been asked for losses would be idle while a batch was packed. Two epochs of three steps."""
    seen: list[str] = []

    def noted(what: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(what)
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(trainer, "make_batch", noted("pack", trainer.make_batch))
    monkeypatch.setattr(EagerStep, "__call__", noted("step", EagerStep.__call__))
    monkeypatch.setattr(EagerStep, "losses", noted("ask", EagerStep.losses))
    workspace.train(english_task(workspace.folder))
    assert seen == ["pack", *["step", "pack", "ask"] * 2, "step", "ask"] * 2


@pytest.mark.parametrize("training", [True, False])
def test_predicting_leaves_every_module_in_its_mode(workspace: Workspace, training: bool) -> None:
    """Also one that is in another mode than the whole model."""
    job = workspace.job(english_task(workspace.folder))
    model = build_model(job, load_training_data(job)).train(training)
    model.roberta.embeddings.train(not training)
    before = [module.training for module in model.modules()]
    with predicting(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    assert len(set(before)) == 2


def test_majority_of_the_development_examples(workspace: Workspace) -> None:
    """Counted by hand from the words: the share of the most frequent label; of two tasks the mean."""
    tags, other = (
        english_task(workspace.folder / name, name, shift=shift) for name, shift in (("tags", 0), ("other", 1))
    )

    def share(shift: int) -> float:
        sentences = draw_sentences(ENGLISH, 10, 10 * shift + 2, shift=shift)
        counts = Counter(label for sentence in sentences for _, label in sentence)
        return 100 * max(counts.values()) / counts.total()

    assert share(0) != share(1)
    for tasks, expected in (([tags], share(0)), ([other], share(1)), ([tags, other], (share(0) + share(1)) / 2)):
        assert development_majority(load_training_data(workspace.job(tasks))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "best of 3"),
        ({"epochs": "2", "development_examples": "5"}, "best of 3"),
        ({"epochs": "3", "learning_rate": "1e-3"}, "epochs, learning_rate set otherwise than tuned: best of 3"),
        ({"epochs": "3", "tuning": "by a friend"}, "by a friend"),
    ],
)
def test_how_a_recipe_was_tuned_is_said_of_its_own_values(
    workspace: Workspace, settings: dict[str, str], said: str
) -> None:
    tuned = "{learning_rate: 1e-2, epochs: 2, batch_examples: 8, tuning: best of 3}"
    task = english_task(workspace.folder / "data", bottleneck=tuned)
    assert workspace.job(task, settings=settings).recipe.tuning == said


@pytest.mark.parametrize(("selection", "epoch"), [("last", 4), ("best", 2)])
@pytest.mark.parametrize("method", ["bottleneck", "full"])
def test_selection(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, method: str, selection: str, epoch: int
) -> None:
    """Epochs 2 and 3 are equally good: the earlier one is the best."""
    job = workspace.job(
        english_task(workspace.folder / "data"), method=method, settings={"epochs": "4", "selection": selection}
    )
    seen: list[dict[str, Tensor]] = []

    def scores(job: Job, model: Any, data: TrainingData) -> tuple[dict[str, float], int]:
        seen.append(
            {
                name: parameter.detach().clone()
                for name, parameter in model.named_parameters()
                if parameter.requires_grad
            }
        )
        return {"accuracy": [50.0, 80.0, 80.0, 60.0][len(seen) - 1]}, [1, 3, 2, 4][len(seen) - 1]

    monkeypatch.setattr(trainer, "development_scores", scores)
    data = load_training_data(job)
    model = build_model(job, data)
    fitted = fit(job, model, data)
    assert fitted.selected_epoch == epoch
    assert [epoch_record.scores["accuracy"] for epoch_record in fitted.history] == [50.0, 80.0, 80.0, 60.0]
    assert ([epoch_record.labels for epoch_record in fitted.history], fitted.development_labels) == (
        [1, 3, 2, 4],
        {4: 4, 2: 3}[epoch],
    )
    compared = 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name in seen[0] and parameter.shape == seen[0][name].shape:
            assert torch.equal(parameter, seen[epoch - 1][name]), name
            compared += 1
    assert compared >= 10
    head = "heads.tags.1.weight"
    assert not torch.equal(seen[1][head], seen[3][head])
    seen.clear()
    record = workspace.execute(job).record
    assert (record.selected_epoch, record.development) == (epoch, {4: 60.0, 2: 80.0}[epoch])


@pytest.mark.parametrize("over", [False, True])
def test_poisoned_weight_names_step_and_rows(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, over: bool) -> None:
    task = english_task(workspace.folder / "data")
    under = [workspace.train(english_task(workspace.folder / "first", "first", shift=1))] if over else []

    def poisoned(job: Job, data: TrainingData, device: str) -> Any:
        model = build_model(job, data, device)
        with torch.no_grad():
            model.heads["tags"][1].weight[0, 0] = float("nan")
        return model

    monkeypatch.setattr(api, "build_model", poisoned)
    rows = ", ".join(str(row + 1) for row in sorted(epoch_order(np.arange(24), 0, 0)[:8]))
    with pytest.raises(StiltsError, match=rf"^step 1: found loss nan .*; examples: en-train.conllu, rows {rows}$"):
        workspace.train(task, over=under)
    assert sorted(path.name for path in workspace.store.folder.glob("[!.]*")) == [run.name for run in under]


def test_rate_that_is_far_too_large(workspace: Workspace) -> None:
    with pytest.raises(StiltsError, match=r"^step [2-6]: found loss .*rows [0-9, ]+$") as caught:
        workspace.train(english_task(workspace.folder / "data"), settings={"learning_rate": "1e37", "warmup": "0"})
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert not workspace.store.folder.exists() or list(workspace.store.folder.iterdir()) == []


def test_limit_draws_the_same_examples_for_each_method(workspace: Workspace) -> None:
    task = english_task(workspace.folder / "data")
    expected = sorted(np.random.default_rng(7).permutation(24)[:9].tolist())
    drawn = {}
    for method in ("bottleneck", "full"):
        under = workspace.train(task, method=method, seed=7, limit=9)
        for over in ([], [under]):
            data = only_part(workspace.job(task, over, method=method, seed=7, limit=9))
            drawn[method, len(over)] = data.train_examples.tolist()
        stored = under.record.data[0]
        assert (stored.examples, stored.available, stored.split) == (9, 24, "train")
        lengths = data.train.lengths[data.train_examples]
        assert stored.tokens == int(lengths.sum())
    assert drawn == dict.fromkeys(drawn, expected)
    assert only_part(workspace.job(task, seed=8, limit=9)).train_examples.tolist() != expected


def test_development_examples_do_not_follow_the_seed(workspace: Workspace) -> None:
    task = english_task(workspace.folder / "data")
    settings = {"development_examples": "4"}
    drawn = [only_part(workspace.job(task, seed=seed, settings=settings)) for seed in (0, 1)]
    expected = sorted(np.random.default_rng(0).permutation(10)[:4].tolist())
    assert [part.development_examples.tolist() for part in drawn] == [expected, expected]


@pytest.mark.parametrize("kind", ["tagging", "classification"])
def test_recorded_score_is_that_of_the_stored_weights(workspace: Workspace, kind: str) -> None:
    """Recomputed from the bundle, word by word."""
    task = english_task(workspace.folder / "data") if kind == "tagging" else pairs_task(workspace.folder / "pairs")
    run = workspace.train(task, settings={"epochs": "4"})
    data = only_part(workspace.job(task, settings={"epochs": "4"}))
    assert data.development is not None
    model, manifest = load_bundle(run.bundle, workspace.backbone)
    batch = pack(data.development, np.arange(data.development.examples), use_of(manifest.head), 2)
    with torch.no_grad():
        right = batch_logits(model, batch).argmax(dim=1) == batch.targets["label"]
    assert run.record.development == pytest.approx(100 * right.double().mean().item(), abs=1e-9)
    assert run.record.history[-1].scores["accuracy"] == run.record.development
    assert run.record.selected_epoch == 4
    assert run.record.cost.steps == 4 * -(-data.train.examples // 8)
    assert run.record.data[1].examples == data.development.examples


@pytest.mark.slow
def test_the_labels_are_learnt(workspace: Workspace) -> None:
    """A label depends on its word alone, so a tagger that works is right almost everywhere."""
    task = english_task(workspace.folder / "data", examples=96)
    settings = {"epochs": "8", "reduction": "2", "learning_rate": "2e-2"}
    assert workspace.train(task, settings=settings).record.development > 90
    assert (
        workspace.train(task, method="full", settings={"epochs": "8", "learning_rate": "5e-3"}).record.development > 90
    )


def test_task_under_another_is_trained_first_with_the_same_choices(workspace: Workspace) -> None:
    first, second = (
        english_task(workspace.folder / "a", "first"),
        english_task(workspace.folder / "b", "second", shift=1),
    )
    run = workspace.train(second, over=[str(first.path)], seed=3, limit=10, settings={"epochs": "1"})
    under = workspace.store.find(run.record.over[0].run)
    assert (under.record.seed, under.record.limit, under.record.method) == (3, 10, "bottleneck")
    assert under.record.recipe.epochs == 2
    assert workspace.train(first, seed=3, limit=10).name == under.name
    assert len(workspace.store.names()) == 2


def test_neither_run_nor_task(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=r"^--over nothing_like_it: neither a run nor a task"):
        workspace.train(english_task(workspace.folder / "data"), over=["nothing_like_it"])
