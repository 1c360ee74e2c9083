"""What needs CUDA: recorded steps against eager ones, and the same bits twice. Skipped elsewhere, with the reason."""

from typing import Any

import numpy as np
import pytest
import torch
from support.training import Workspace, english_task, use_of

from adapter_stilts.engine.batches import pack
from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.captured import CapturedStep
from adapter_stilts.engine.drawing import make_batch
from adapter_stilts.engine.step import EagerStep
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.model.bottleneck import fusion_regularisation
from adapter_stilts.model.packing import encode_packed
from adapter_stilts.training.sampling import draw_epochs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA: graphs and the attention kernels"),
]


def job_of(workspace: Workspace, method: str, precision: str, dropout: str = "0", steps: int = 0) -> Job:
    """A job of at least so many steps, of one epoch at least."""
    task = english_task(workspace.folder / "t", "t")
    job = workspace.job(task, method=method, precision=precision, settings={"dropout": dropout, "epochs": "1"})
    epochs = -(-steps // len(draw_epochs(load_training_data(job), job.recipe, job.seed)[0])) or 1
    return workspace.job(task, method=method, precision=precision, settings={"dropout": dropout, "epochs": str(epochs)})


def losses(job: Job, step_class: Any, **options: Any) -> tuple[list[float], list[torch.Tensor]]:
    """Losses of all steps, and the weights at the end."""
    data = load_training_data(job)
    model = build_model(job, data, "cuda").train()
    planned = [planned_step for epoch in draw_epochs(data, job.recipe, job.seed) for planned_step in epoch]
    torch.manual_seed(0)
    step = step_class(model, job.recipe, len(planned), job.precision, fusion_regularisation, **options)
    for number, planned_step in enumerate(planned):
        rng = np.random.default_rng(number)
        step([make_batch(job, planned_step.part, each, step.batches_on, rng) for each in planned_step.batches])
    all_losses = step.losses()
    step.close()
    return all_losses, [parameter.detach().cpu() for parameter in model.parameters()]


@pytest.mark.parametrize("method", ["bottleneck", "lora", "full"])
def test_recorded_losses_are_those_of_the_same_functions(workspace: Workspace, method: str) -> None:
    """Over a hundred steps, and near those of autocast."""
    job = job_of(workspace, method, "bf16", steps=100)
    recorded, _ = losses(job, CapturedStep)
    assert len(recorded) >= 100
    assert recorded == pytest.approx(losses(job, CapturedStep, capture=False)[0], abs=1e-3)
    assert recorded[:10] == pytest.approx(losses(job, EagerStep)[0][:10], abs=5e-2)


@pytest.mark.parametrize("method", ["bottleneck", "full"])
def test_recorded_steps_give_the_same_bits_twice(workspace: Workspace, method: str) -> None:
    """With dropout: the recorded random numbers follow the seed."""
    job = job_of(workspace, method, "bf16", dropout="0.1")
    (first, weights), (second, again) = losses(job, CapturedStep), losses(job, CapturedStep)
    assert first == second
    assert all(torch.equal(one, other) for one, other in zip(weights, again, strict=True))


def test_the_kernels_equal_the_padded_groups(workspace: Workspace) -> None:
    job = job_of(workspace, "bottleneck", "float32")
    data = load_training_data(job)
    model = build_model(job, data, "cuda").eval()
    split = data.tasks[0].train
    batch = pack(split, np.arange(12), use_of("t"), 2, "cuda")
    with torch.no_grad():
        groups = encode_packed(model, batch.input_ids, batch.position_ids, batch.layout)
        model.to(torch.bfloat16)
        kernel = encode_packed(model, batch.input_ids, batch.position_ids, batch.layout).float()
    assert (groups - kernel).abs().max() < 0.1 * groups.abs().max()
