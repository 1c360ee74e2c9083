"""The captured step: its functions on the CPU, unrecorded, against the eager step; what it fills up; its capacities."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from support.training import Workspace, english_task, pairs_task, random_split, use_of
from torch import Tensor

from adapter_stilts.engine.batches import divide, pack
from adapter_stilts.engine.buffers import CAPACITIES, Buffers, capacity_for, filling
from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.captured import CapturedStep
from adapter_stilts.engine.drawing import make_batch
from adapter_stilts.engine.step import EagerStep, NotFinite, Step, batch_logits
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.model.bottleneck import fusion_regularisation
from adapter_stilts.model.half import HalfPrecision, rounded_to
from adapter_stilts.runs.store import Run
from adapter_stilts.tasks.kinds.contract import IGNORED
from adapter_stilts.training.sampling import draw_epochs


def job_of(workspace: Workspace, case: str, precision: str = "float32", **settings: str) -> Job:
    """A job of that case, dropout 0, so that two ways to compute it can be compared."""
    target = english_task(workspace.folder / "t", "t", word_piece="mean" if case == "mean" else "first_content")
    pairs = pairs_task(workspace.folder / "pairs")
    options: dict[str, Any] = {"settings": {"dropout": "0"}, "precision": precision}

    def under(name: str, shift: int) -> Run:
        return workspace.train(english_task(workspace.folder / name, name, shift=shift), settings={"epochs": "1"})

    if case in ("stack", "continue"):
        options |= {"over": [under("a", 1)], "compose": case}
    elif case == "fuse":
        options |= {"over": [under("a", 1), under("b", 2)], "compose": "fuse"}
        options["settings"] = {"dropout": "0", "fusion": "full"}
    elif case in ("lora", "full"):
        options["method"] = case
    options["settings"] |= settings
    tasks = {"pairs": [pairs], "several": [english_task(workspace.folder / "a", "a", shift=1), pairs]}.get(
        case, [target]
    )
    return workspace.job(tasks, **options)


def take(job: Job, step_class: Any, **options: Any) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and weights of all steps of the job."""
    data = load_training_data(job)
    model = build_model(job, data).train()
    frozen = {
        name: parameter.detach().clone() for name, parameter in model.named_parameters() if not parameter.requires_grad
    }
    planned = [planned_step for epoch in draw_epochs(data, job.recipe, job.seed) for planned_step in epoch]
    step: Step = step_class(model, job.recipe, len(planned), job.precision, fusion_regularisation, **options)
    losses: list[float] = []
    for number, planned_step in enumerate(planned):
        rng = np.random.default_rng(number)
        step([make_batch(job, planned_step.part, each, torch.device("cpu"), rng) for each in planned_step.batches])
        if number % 2:
            losses += step.losses()
    losses += step.losses()
    step.close()
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert name not in frozen or torch.equal(parameter, frozen[name])
    return losses, {name: parameter.detach() for name, parameter in model.named_parameters()}


CASES = ("none", "stack", "fuse", "continue", "lora", "full", "several", "mean", "pairs")


@pytest.mark.parametrize("case", CASES)
def test_equals_the_eager_step(workspace: Workspace, case: str) -> None:
    """Capacities of 64 and 128 pieces: most batches leave room, some are divided."""
    job = job_of(workspace, case)
    wanted, weights = take(job, EagerStep)
    losses, captured = take(job, CapturedStep, averaged=case == "mean", capacities=(64, 128))
    assert losses == pytest.approx(wanted, abs=1e-6)
    for name, tensor in weights.items():
        # Adam divides by gradients near zero: of the largest parts a few values differ by a share of one step.
        torch.testing.assert_close(captured[name], tensor, atol=2e-4, rtol=1e-4, msg=name)


@pytest.mark.slow
def test_losses_stay_equal_over_a_hundred_steps(workspace: Workspace) -> None:
    job = job_of(workspace, "none", epochs="50")
    (wanted, _), (losses, _) = take(job, EagerStep), take(job, CapturedStep, capacities=(64, 128))
    assert len(wanted) >= 100
    assert wanted[-1] < wanted[0] / 2
    assert losses == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("case", ["stack", "full"])
def test_bf16_copies_stay_near_float32(workspace: Workspace, case: str) -> None:
    """Not farther from float32 than autocast is (within a half, of so few steps)."""
    wanted, _ = take(job_of(workspace, case), EagerStep)
    autocast, _ = take(job_of(workspace, case, "bf16"), EagerStep)
    copies, _ = take(job_of(workspace, case, "bf16"), CapturedStep, capacities=(64, 128))
    reference = max(abs(one - other) for one, other in zip(autocast, wanted, strict=True))
    assert 0 < max(abs(one - other) for one, other in zip(copies, wanted, strict=True)) < 1.5 * reference + 2e-3


def test_half_precision_gives_back_what_it_took(workspace: Workspace) -> None:
    job = job_of(workspace, "none")
    model = build_model(job, load_training_data(job))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    half = HalfPrecision(model)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    rounded = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for master in half.masters:
            master += 1e-4
    half.publish()
    with half.suspended():
        for name, parameter in model.named_parameters():
            shift = 1e-4 if parameter.requires_grad else 0.0
            torch.testing.assert_close(parameter.detach(), before[name] + shift, atol=0, rtol=0)
    # A recorded graph reads addresses.
    assert {name: parameter.data_ptr() for name, parameter in model.named_parameters()} == rounded
    trained = dict(model.named_parameters())["roberta.encoder.layer.0.output.adapters.t.adapter_up.weight"]
    torch.testing.assert_close(trained.detach().float(), half.masters_of([trained])[0].detach(), atol=0, rtol=2**-8)
    half.restore()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("dtype", "most"), [(torch.bfloat16, 0.05), (torch.float16, 0.05 / 8)])
def test_a_model_rounded_for_predictions_is_what_it_was_afterwards(
    workspace: Workspace, dtype: torch.dtype, most: float
) -> None:
    """fp16 has three bits more than bf16: a rounding of an eighth."""
    job = job_of(workspace, "full")
    model = build_model(job, load_training_data(job)).eval()
    batch = pack(random_split([9, 5, 20]), np.arange(3), use_of("t"), 2)
    before = {name: (parameter.data_ptr(), parameter.detach().clone()) for name, parameter in model.named_parameters()}
    with torch.no_grad():
        expected = batch_logits(model, batch)
        with rounded_to(model, dtype):
            assert {parameter.dtype for parameter in model.parameters()} == {dtype}
            rounded = batch_logits(model, batch)
    assert rounded.dtype == dtype
    assert 0 < (rounded.float() - expected).abs().max() < most * expected.abs().max()
    for name, parameter in model.named_parameters():
        address, values = before[name]
        assert parameter.data_ptr() == address
        assert torch.equal(parameter, values)


def test_a_loss_that_is_not_finite_changes_nothing(workspace: Workspace) -> None:
    job = job_of(workspace, "none")
    model = build_model(job, load_training_data(job)).train()
    split = random_split([9, 5])
    step = CapturedStep(model, job.recipe, 10, "float32", capacities=(64,))
    step([pack(split, np.array([0]), use_of("t"), 2)])
    assert len(step.losses()) == 1
    with torch.no_grad():
        model.heads["t"][1].bias[1] = float("nan")
    before = [weight.detach().clone() for weight in step.weights()]
    for _ in range(2):
        step([pack(split, np.array([1]), use_of("t"), 2)])
    for weight, other in zip(step.weights(), before, strict=True):
        torch.testing.assert_close(weight.detach(), other, atol=0, rtol=0, equal_nan=True)
    with pytest.raises(NotFinite, match=r"^step 2: "):
        step.losses()


# --- capacities and filling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "capacity"), [(1, 256), (256, 256), (257, 384), (1_025, 1_536), (16_384, 16_384), (16_385, None)]
)
def test_the_smallest_capacity_that_fits(tokens: int, capacity: int | None) -> None:
    assert capacity_for(tokens, CAPACITIES) == capacity
    assert capacity_for(tokens, CAPACITIES[::-1]) == capacity


@pytest.mark.parametrize(("pieces", "lengths"), [(0, []), (5, [5]), (512, [512]), (1_030, [512, 512, 6])])
def test_filling_sentences_fit_positions(pieces: int, lengths: Sequence[int]) -> None:
    assert filling(pieces) == lengths


def test_a_capacity_that_is_seldom_needed_borrows_a_larger_one(workspace: Workspace) -> None:
    """What is there serves, until a smaller capacity has been needed twenty times; nothing serves that is too small."""
    job = job_of(workspace, "none")
    step = CapturedStep(build_model(job, load_training_data(job)).train(), job.recipe, 40, "float32")
    split = random_split([100] * 3 + [20])
    large, small = (pack(split, np.array(sequences), use_of("t"), 2) for sequences in ([0, 1, 2], [3]))
    step([small])
    step([large])
    assert list(step.buffers) == [("t", 256), ("t", 384)]
    step = CapturedStep(build_model(job, load_training_data(job)).train(), job.recipe, 40, "float32")
    step([large])
    for needed in range(1, 21):
        step([small])
        assert list(step.buffers) == ([("t", 384)] if needed < 20 else [("t", 384), ("t", 256)])


def test_buffers_by_hand() -> None:
    batch = pack(random_split([4, 6]), np.arange(2), use_of("t"), 2)
    buffers = Buffers(use_of("t"), 16, averaged=False, device=torch.device("cpu"))
    # A longer batch before must leave no trace.
    buffers.fill(pack(random_split([5, 6, 5]), np.arange(3), use_of("t"), 2), 2, 7)
    filled = buffers.fill(batch, 2, 5)
    assert filled.input_ids.tolist() == [*batch.input_ids.tolist(), *[0] * 6]
    assert filled.position_ids.tolist() == [2, 3, 4, 5, 2, 3, 4, 5, 6, 7, 2, 3, 4, 5, 6, 7]
    assert filled.layout.lengths == (4, 6, 6)
    starts, ends = buffers.batch.layout.spans
    assert starts.tolist() == [0] * 4 + [4] * 6 + [10] * 6
    assert ends.tolist() == [4] * 4 + [10] * 6 + [16] * 6
    units = len(batch.targets["label"])
    assert filled.targets["label"].tolist() == [*batch.targets["label"].tolist(), *[IGNORED] * (16 - units)]
    # Unread units read places that differ.
    assert filled.pieces.tolist() == [*batch.pieces.tolist(), *range(units, 16)]
    assert buffers.terms.item() == 5


def test_what_fills_up_changes_no_logit(workspace: Workspace) -> None:
    job = job_of(workspace, "mean")
    model = build_model(job, load_training_data(job)).eval()
    batch = pack(random_split([9, 5, 20], width=3), np.arange(3), use_of("t"), 2)
    filled = Buffers(use_of("t"), 64, averaged=True, device=torch.device("cpu")).fill(batch, 2, 1)
    logits = batch_logits(model, filled)[: len(batch.targets["label"])]
    torch.testing.assert_close(logits, batch_logits(model, batch), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("width", [1, 3])
def test_parts_of_a_batch_are_its_sentences(width: int) -> None:
    split = random_split([9, 5, 20, 12, 7], width=width)
    batch = pack(split, np.arange(5), use_of("t"), 2)
    parts = list(divide(batch, 20))
    assert [part.layout.lengths for part in parts] == [(5, 7), (9,), (12,), (20,)]
    for part in parts:
        alone = pack(split, part.sequences, use_of("t"), 2)
        assert part.input_ids.tolist() == alone.input_ids.tolist()
        assert part.position_ids.tolist() == alone.position_ids.tolist()
        assert part.pieces.tolist() == alone.pieces.tolist()
        assert part.targets["label"].tolist() == alone.targets["label"].tolist()
        if part.unit_of_piece is not None and alone.unit_of_piece is not None:
            assert part.unit_of_piece.tolist() == alone.unit_of_piece.tolist()
    assert list(divide(batch, batch.tokens)) == [batch]
