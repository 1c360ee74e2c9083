"""The state of a training is saved whole: every field of it, those that it has today and one that is added."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import Field
from support.training import Workspace, english_task

from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.drawing import make_batch
from adapter_stilts.engine.step import EagerStep
from adapter_stilts.errors import StiltsError
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.model.parts import Part
from adapter_stilts.runs.record import EpochScore, Executed
from adapter_stilts.training.checkpoint import Checkpoints
from adapter_stilts.training.state import Best, Fitted, RandomState, TrainingState

CPU = torch.device("cpu")
FULL = Fitted(
    history=[EpochScore(epoch=1, loss=0.1 + 0.2, scores={"accuracy": 61.25}, labels=3)],
    selected_epoch=1,
    development=61.25,
    development_labels=3,
    steps=0,
    tokens=4321,
    train_seconds=1 / 3,
    losses=[0.7, 1e-300],
    parts=[Part("head tags", True, 2, 51)],
    trainable_parameters=51,
    total_parameters=1051,
    executed=Executed(step="unrecorded", compiled=True, checkpointing=True),
)


class Counter:
    """A part of the state that this package does not know."""

    def __init__(self) -> None:
        self.count, self.seen = 0, torch.zeros(2)

    def state(self) -> dict[str, Any]:
        return {"count": self.count, "seen": self.seen}

    def check_state(self, state: Mapping[str, Any]) -> None:
        assert state.keys() == {"count", "seen"}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.count, self.seen = state["count"], state["seen"]


class WiderFitted(Fitted):
    notes: dict[str, list[int]] = Field(default_factory=dict)


@dataclass
class WiderState(TrainingState):
    counter: Counter | None = None


def new_step(workspace: Workspace) -> EagerStep:
    """A step of a model whose weights are those that its seed draws."""
    job = workspace.job(english_task(workspace.folder / "data"))
    return EagerStep(build_model(job, load_training_data(job)), job.recipe, 4, "float32")


def through_a_checkpoint(folder: Path, state: TrainingState, into: TrainingState) -> None:
    Checkpoints(folder, 0).after_epoch(state)
    Checkpoints(folder, 0).restore(into)


def test_every_field_survives(workspace: Workspace) -> None:
    """And each differs from what a new training begins with, so that one that was left behind would be seen."""
    step = new_step(workspace)
    best = Best(step.weights())
    best.improved(61.25)
    state = TrainingState(step, RandomState(CPU), FULL.model_copy(deep=True), best)
    other = TrainingState(new_step(workspace), RandomState(CPU), best=Best(new_step(workspace).weights()))
    with torch.no_grad():
        for weight in [*other.step.weights(), *other.best.copies]:  # type: ignore[union-attr]
            weight.add_(1.0)
    torch.manual_seed(5)
    Checkpoints(workspace.folder / "checkpoints", 0).after_epoch(state)
    drawn = torch.rand(3)
    Checkpoints(workspace.folder / "checkpoints", 0).restore(other)
    fresh = Fitted()
    for name in Fitted.model_fields:
        assert getattr(other.fitted, name) == getattr(FULL, name), name
        assert name == "steps" or getattr(fresh, name) != getattr(FULL, name), name
    assert other.best is not None
    assert other.best.score == 61.25
    for mine, others in ((best.copies, other.best.copies), (step.weights(), other.step.weights())):
        assert len(mine) == len(others) > 5
        assert all(torch.equal(one, two) for one, two in zip(mine, others, strict=True))
    assert torch.equal(torch.rand(3), drawn)


def test_steps_and_optimizer_survive(workspace: Workspace) -> None:
    """After one step the optimizer has a state for each weight, and the history one row."""
    job = workspace.job(english_task(workspace.folder / "data"))
    data = load_training_data(job)
    (part,) = data.parts
    step = new_step(workspace)
    step([make_batch(job, part, np.arange(8), CPU, np.random.default_rng(0))])
    state = TrainingState(step, RandomState(CPU), Fitted(steps=1, losses=step.losses()))
    other = TrainingState(new_step(workspace), RandomState(CPU))
    through_a_checkpoint(workspace.folder / "checkpoints", state, other)
    assert (other.fitted.steps, other.fitted.losses) == (1, state.fitted.losses)
    mine, others = state.state(), other.state()
    assert mine.keys() == others.keys() >= {"step.exp_avg.0", "step.exp_avg_sq.0", "step.step.0", "step.weight.0"}
    for name, value in mine.items():
        assert torch.equal(value, others[name]) if isinstance(value, torch.Tensor) else value == others[name], name


def test_a_new_field_is_saved_by_being_there(workspace: Workspace) -> None:
    """One that JSON can hold, and a part with tensors."""
    state = WiderState(new_step(workspace), RandomState(CPU), WiderFitted(notes={"a": [1, 2]}), counter=Counter())
    assert state.counter is not None
    state.counter.count, state.counter.seen = 7, torch.tensor([1.5, -2.0])
    other = WiderState(new_step(workspace), RandomState(CPU), WiderFitted(), counter=Counter())
    through_a_checkpoint(workspace.folder / "checkpoints", state, other)
    assert isinstance(other.fitted, WiderFitted)
    assert other.counter is not None
    assert other.fitted.notes == {"a": [1, 2]}
    assert (other.counter.count, other.counter.seen.tolist()) == (7, [1.5, -2.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fitted.tokens": None}, r"^fitted.tokens: found nothing, accepted a field of every checkpoint$"),
        ({"fitted.tokens": -1}, r"^fitted.tokens: Input should be greater than or equal to 0$"),
        ({"fitted.more": 1}, r"^fitted.more: Extra inputs are not permitted$"),
        ({"fitted.selected_epoch": 2}, r"^fitted.selected_epoch: found 2, accepted up to 1$"),
        ({"fitted.steps": 1}, r"^fitted.steps: found 1, accepted the number of losses$"),
        ({"counter.count": 1}, r"^counter.count: found a state of what this training does not have$"),
        ({"best.score": "high"}, r"^best.score: found high, accepted percent$"),
        ({"best.weight.0": torch.zeros(1)}, r"^best.weight.0: found torch.float32 of shape \(1,\), accepted"),
        ({"random.cpu": torch.zeros(3)}, r"^random.cpu: found torch.float32 of shape \(3,\), accepted torch.uint8 of"),
        ({"step.weight.0": None}, r"^step.weight.0: found nothing, accepted torch.float32 of"),
    ],
)
def test_a_state_of_another_training_changes_nothing(
    workspace: Workspace, change: dict[str, Any], message: str
) -> None:
    step = new_step(workspace)
    best = Best(step.weights())
    best.improved(61.25)
    state = dict(TrainingState(step, RandomState(CPU), FULL.model_copy(deep=True), best).state()) | change
    state = {name: value for name, value in state.items() if value is not None or name not in change}
    other = TrainingState(new_step(workspace), RandomState(CPU), best=Best(new_step(workspace).weights()))
    with torch.no_grad():
        for weight in other.step.weights():
            weight.add_(1.0)
    before = [weight.detach().clone() for weight in other.step.weights()]
    with pytest.raises(StiltsError, match=message):
        other.load_state(state)
    assert other.fitted == Fitted()
    assert other.best is not None
    assert other.best.score == -float("inf")
    assert all(torch.equal(one, two) for one, two in zip(before, other.step.weights(), strict=True))
