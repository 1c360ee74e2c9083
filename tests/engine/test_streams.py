"""Parts of a batch side by side: the same losses, gradients and bits whatever the number of threads."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from support.training import Workspace, english_task, random_split, use_of
from torch import Tensor

from adapter_stilts.engine import step as steps
from adapter_stilts.engine.batches import divide_evenly, pack
from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.predicting import predict_answers
from adapter_stilts.engine.step import EagerStep, add_gradients
from adapter_stilts.engine.streams import Streams, parts_of_batch
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.model.bottleneck import fusion_regularisation

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("tokens", "parts"), [(1, 1), (511, 1), (512, 2), (1_023, 2), (1_024, 4), (2_048, 8), (99_999, 8)]
)
def test_parts_are_a_power_of_two(tokens: int, parts: int) -> None:
    assert parts_of_batch(tokens) == parts


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_batch_is_cut_where_tokens_are_equal(parts: int) -> None:
    split = random_split([3, 4, 5, 8, 9, 20, 30])
    batch = pack(split, np.arange(7), use_of("t"), 2)
    divided = list(divide_evenly(batch, parts))
    assert list(itertools.chain(*(part.layout.lengths for part in divided))) == [3, 4, 5, 8, 9, 20, 30]
    assert [part.tokens for part in divided] == {1: [79], 2: [49, 30], 4: [20, 29, 30]}[parts]
    assert torch.cat([part.targets["label"] for part in divided]).tolist() == batch.targets["label"].tolist()


def take(
    workspace: Workspace,
    method: str,
    threads: int,
    parts: int,
    monkeypatch: pytest.MonkeyPatch,
    checkpointing: bool = False,
    **settings: str,
) -> Any:
    """Losses and weights of a job's steps, with dropout unless the settings say otherwise."""
    task = english_task(workspace.folder / "t", "t")
    job = workspace.job(task, method=method, settings=settings)
    data = load_training_data(job)
    model = build_model(job, data).train()
    monkeypatch.setattr(steps, "parts_of_batch", lambda tokens: parts)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    part = data.tasks[0]
    step = EagerStep(model, job.recipe, 4, "float32", fusion_regularisation, checkpointing=checkpointing)
    for first in range(0, 16, 4):
        step([pack(part.train, np.arange(first, first + 4), part.use, 2)])
    losses = step.losses()
    step.close()
    return losses, {
        name: parameter.detach().clone() for name, parameter in model.named_parameters() if parameter.requires_grad
    }


@pytest.mark.parametrize("method", ["bottleneck", "lora", "full"])
def test_threads_change_no_bit(workspace: Workspace, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout: every part draws from a source of its own."""
    (one, weights), (other, again) = (take(workspace, method, count, 4, monkeypatch) for count in (1, 4))
    assert one == other
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_checkpointing_draws_the_same_dropout_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (one, weights), (other, again) = (
        take(workspace, "bottleneck", 2, 2, monkeypatch, checkpointing=checkpointing) for checkpointing in (False, True)
    )
    assert other == pytest.approx(one, abs=1e-6)
    for name, weight in weights.items():
        torch.testing.assert_close(again[name], weight, atol=1e-5, rtol=0)


def test_parts_change_no_loss(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (one, weights), (other, again) = (
        take(workspace, "bottleneck", 2, parts, monkeypatch, dropout="0") for parts in (1, 4)
    )
    assert other == pytest.approx(one, abs=1e-6)
    for name, weight in weights.items():
        torch.testing.assert_close(again[name], weight, atol=1e-5, rtol=0)


def test_dropout_draws_and_differs_from_step_to_step(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (one, _), (other, _) = (
        take(workspace, "bottleneck", 2, 2, monkeypatch, dropout=dropout) for dropout in ("0", "0.5")
    )
    assert one[0] != pytest.approx(other[0], abs=1e-3)


def test_predictions_do_not_depend_on_threads(workspace: Workspace) -> None:
    job = workspace.job(english_task(workspace.folder / "t", "t"))
    data = load_training_data(job)
    model, part = build_model(job, data), data.tasks[0]
    predictions = []
    for count in (1, 4):
        torch.set_num_threads(count)
        predictions.append(predict_answers(model, part.use, part.train, part.train_examples))
        assert torch.get_num_threads() == count
    assert predictions[0] == predictions[1]


def test_results_come_in_order_and_errors_reach_the_caller() -> None:
    torch.set_num_threads(4)
    streams = Streams(CPU)
    assert list(streams.map(lambda number: (number * number, torch.get_num_threads()), range(50))) == [
        (number * number, 1) for number in range(50)
    ]

    def failing(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    with pytest.raises(ValueError, match="three"):
        list(streams.map(failing, range(9)))
    assert torch.get_num_threads() == 4
    streams.close()


def test_gradients_are_summed_without_sharing() -> None:
    first, second = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    shared = torch.ones(2)
    add_gradients([first, second], [shared, shared])
    add_gradients([first, second], [torch.full((2,), 2.0), None])
    gradients: list[Tensor | None] = [first.grad, second.grad]
    assert [gradient.tolist() for gradient in gradients if gradient is not None] == [[3.0, 3.0], [1.0, 1.0]]
    assert first.grad is not None
    first.grad.mul_(5)
    assert second.grad is not None
    assert second.grad.tolist() == [1.0, 1.0]
