"""The optimizer step: schedule, clipping, AdamW and accumulation against arithmetic by hand."""

import contextlib
import copy
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.training import Workspace, english_task, random_split, use_of
from torch import Tensor
from torch.nn.functional import cross_entropy

from adapter_stilts.engine.batches import pack
from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.embedding_rows import ReachableRows
from adapter_stilts.engine.step import EagerStep, NotFinite, batch_logits, learning_rate_share
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.schema import Recipe
from adapter_stilts.training import trainer
from adapter_stilts.training.trainer import fit


@pytest.fixture
def model(workspace: Workspace) -> Any:
    """A model with a bottleneck adapter, dropout 0."""
    job = workspace.job(english_task(workspace.folder / "data"), settings={"dropout": "0"})
    return build_model(job, load_training_data(job)).train()


@pytest.mark.parametrize(
    ("warmup", "shares"),
    [
        (0.0, [1, 4 / 5, 3 / 5, 2 / 5, 1 / 5]),
        (0.4, [1 / 2, 1, 1, 2 / 3, 1 / 3]),
        (0.3, [1 / 2, 1, 1, 2 / 3, 1 / 3]),
        (1.0, [1 / 5, 2 / 5, 3 / 5, 4 / 5, 1]),
    ],
)
def test_learning_rate_by_hand(warmup: float, shares: list[float]) -> None:
    assert [learning_rate_share(step, 5, warmup) for step in range(5)] == pytest.approx(shares, abs=1e-12)


def trained(model: Any) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def gradient_of(parameter: torch.nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def norm_of(model: Any) -> float:
    return float(torch.cat([gradient_of(parameter).double().flatten() for parameter in trained(model).values()]).norm())


def test_clipping(model: Any) -> None:
    batch = pack(random_split([9, 5, 20]), np.arange(3), use_of("tags"), 2)
    EagerStep(copied := copy.deepcopy(model), Recipe(clip=1e6), 10, "float32")([batch])
    whole = norm_of(copied)
    gradients = {name: gradient_of(parameter).clone() for name, parameter in trained(copied).items()}
    EagerStep(model, Recipe(clip=whole / 4), 10, "float32")([batch])
    assert norm_of(model) == pytest.approx(whole / 4, rel=1e-4)
    for name, parameter in trained(model).items():
        torch.testing.assert_close(parameter.grad, gradients[name] / 4, atol=1e-7, rtol=1e-4)


def test_adamw_by_hand(model: Any) -> None:
    """Loshchilov and Hutter (2019), algorithm 2, in float64, on the head: its weight is decayed, its bias is not."""
    recipe = Recipe(learning_rate=0.01, weight_decay=0.1, warmup=0.5, clip=0.05)
    step = EagerStep(model, recipe, 4, "float32")
    split = random_split([9, 5, 20, 7])
    decayed = {"heads.tags.1.weight": 0.1, "heads.tags.1.bias": 0.0}
    weights = {name: trained(model)[name].detach().double().clone() for name in decayed}
    first = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    second = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for time, share in enumerate([0.5, 1.0, 1.0, 0.5], 1):
        step([pack(split, np.array([time - 1]), use_of("tags"), 2)])
        for name, decay in decayed.items():
            gradient = gradient_of(trained(model)[name]).double()
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            direction = first[name] / (1 - 0.9**time) / ((second[name] / (1 - 0.999**time)).sqrt() + 1e-8)
            weights[name] -= 0.01 * share * (direction + decay * weights[name])
            torch.testing.assert_close(trained(model)[name].double(), weights[name], atol=1e-6, rtol=0)


def test_loss_is_the_mean_over_units(model: Any) -> None:
    batch = pack(random_split([9, 5, 20]), np.arange(3), use_of("tags"), 2)
    with torch.no_grad():
        logits = batch_logits(model, batch).double()
    expected = -logits.log_softmax(1)[torch.arange(len(batch.targets["label"])), batch.targets["label"]].mean().item()
    step = EagerStep(model, Recipe(), 10, "float32")
    step([batch])
    assert step.losses() == pytest.approx([expected], abs=1e-5)
    assert step.losses() == []


def test_two_batches_of_16_equal_one_of_32(model: Any) -> None:
    """The two halves differ much in their number of words: a mean of two means would be another gradient."""
    split = random_split([4] * 16 + [30] * 16)
    whole = [pack(split, np.arange(32), use_of("tags"), 2)]
    halves = [pack(split, np.arange(16), use_of("tags"), 2), pack(split, np.arange(16, 32), use_of("tags"), 2)]
    recipe = Recipe(learning_rate=1e-3, warmup=0.0, clip=1e6)
    other = copy.deepcopy(model)
    losses = []
    for trained_model, batches in ((model, whole), (other, halves)):
        step = EagerStep(trained_model, recipe, 10, "float32")
        step(batches)
        losses += step.losses()
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    unequal = sum(cross_entropy(batch_logits(other, batch), batch.targets["label"]).item() for batch in halves) / 2
    assert abs(unequal - losses[0]) > 1e-4
    for name, parameter in trained(model).items():
        twin = trained(other)[name]
        torch.testing.assert_close(parameter.grad, twin.grad, atol=1e-7, rtol=1e-4, msg=name)
        moved = gradient_of(parameter).abs() > 1e-5
        torch.testing.assert_close(parameter[moved], twin[moved], atol=1e-6, rtol=0)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_no_weight_changes_where_the_loss_is_not_finite(model: Any, poison: float) -> None:
    step = EagerStep(model, Recipe(), 10, "float32")
    split = random_split([9, 5])
    step([pack(split, np.array([0]), use_of("tags"), 2)])
    with torch.no_grad():
        model.heads["tags"][1].bias[1] = poison
    before = {name: parameter.detach().clone() for name, parameter in trained(model).items()}
    step([pack(split, np.array([1]), use_of("tags"), 2)])
    with torch.no_grad():
        model.heads["tags"][1].bias[1] = 0.0
    # Nothing moves in later steps either, however finite: what came before is not known to be good.
    step([pack(split, np.array([0]), use_of("tags"), 2)])
    with torch.no_grad():
        model.heads["tags"][1].bias[1] = poison
    with pytest.raises(NotFinite, match=r"^step 2: found loss (nan|inf) and gradient norm nan") as caught:
        step.losses()
    assert caught.value.step == 1
    for name, parameter in trained(model).items():
        torch.testing.assert_close(parameter.detach(), before[name], atol=0, rtol=0, equal_nan=True)


# --- the reachable part of the word embedding -----------------------------------------------------------------------


def test_rows_by_hand() -> None:
    weight = torch.arange(12.0).view(6, 2)
    part = ReachableRows(weight, np.array([1, 4]))
    assert part(torch.tensor([4, 1, 4])).tolist() == [[8, 9], [2, 3], [8, 9]]
    assert part.weight.shape == (2, 2)
    with pytest.raises(IndexError):
        part(torch.tensor([0]))


@pytest.mark.parametrize("selection", ["last", "best"])
def test_full_training_with_reachable_rows_equals_without(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, selection: str
) -> None:
    task = english_task(workspace.folder / "data")
    job = workspace.job(task, method="full", settings={"selection": selection, "epochs": "3"})
    data = load_training_data(job)

    def weights() -> tuple[dict[str, Tensor], int]:
        model = build_model(job, data)
        selected = fit(job, model, data).selected_epoch
        return model.state_dict(), selected

    with_rows, selected = weights()
    monkeypatch.setattr(trainer, "reachable_rows", lambda *_: contextlib.nullcontext())
    without, also_selected = weights()
    assert selected == also_selected
    assert with_rows.keys() == without.keys()
    for name, weight in without.items():
        torch.testing.assert_close(with_rows[name], weight, atol=1e-6, rtol=0, msg=name)
    original = load_file(workspace.backbone.folder / "model.safetensors")["embeddings.word_embeddings.weight"]
    embeddings = with_rows["roberta.embeddings.word_embeddings.weight"]
    reached = np.unique(data.tasks[0].train.ids)
    untouched = np.setdiff1d(np.arange(500), reached)
    assert len(untouched) > 400
    assert torch.equal(embeddings[untouched], original[untouched])
    assert bool((embeddings[reached] != original[reached]).any(dim=1).all())
