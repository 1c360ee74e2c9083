"""TensorBoard's own reader finds in a log what training computed, and training does not notice."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.curves import curves_in
from support.training import Cut, Workspace, cut_after, english_task, make_workspace
from tensorboard.summary.writer import event_file_writer

from adapter_stilts.engine.step import EagerStep, learning_rate_share
from adapter_stilts.errors import UsageError
from adapter_stilts.runs.store import Run, RunStore
from adapter_stilts.training import trainer
from adapter_stilts.training.checkpoint import Checkpoints
from adapter_stilts.training.curves import Curves
from adapter_stilts.training.execution import Execution

STEPS = 6  # two epochs of 24 examples, eight a step


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    # Files are read in the order of their names, which of one second end with this number: 10 would come before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    return make_workspace(tmp_path, monkeypatch)


def elsewhere(workspace: Workspace) -> Workspace:
    """The same workspace with another store."""
    return replace(workspace, store=RunStore(workspace.folder / "elsewhere"))


def weights_of(run: Run) -> dict[str, bytes]:
    return {str(path.relative_to(run.folder)): path.read_bytes() for path in run.folder.rglob("*.safetensors")}


def listened(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Gets every loss that the steps tell from now on."""
    heard: list[float] = []
    losses = EagerStep.losses

    def listening(self: Any) -> list[float]:
        latest = losses(self)
        heard.extend(latest)
        return latest

    monkeypatch.setattr(EagerStep, "losses", listening)
    return heard


def test_curves_are_those_of_the_record(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    task, logs, heard = english_task(workspace.folder), workspace.folder / "logs", listened(monkeypatch)
    run = workspace.train(task, execution=Execution(tensorboard=logs))
    curves = curves_in(logs / run.name)
    losses, history, recipe = curves["train/loss"], run.record.history, run.record.recipe
    assert losses == pytest.approx(dict(enumerate(heard, 1)), rel=1e-6)
    for epoch in history:
        mean = sum(losses[step] for step in range(3 * epoch.epoch - 2, 3 * epoch.epoch + 1)) / 3
        assert mean == pytest.approx(epoch.loss, rel=1e-6)
    assert curves["development/accuracy"] == pytest.approx(
        {3 * epoch.epoch: epoch.scores["accuracy"] for epoch in history}
    )
    rates = {step + 1: recipe.learning_rate * learning_rate_share(step, STEPS, recipe.warmup) for step in range(STEPS)}
    assert curves["train/learning_rate"] == pytest.approx(rates, rel=1e-6)
    assert set(curves) == {"train/loss", "train/learning_rate", "development/accuracy"}


def test_losses_that_are_asked_for_in_blocks_have_their_steps(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, heard = english_task(workspace.folder), listened(monkeypatch)
    monkeypatch.setattr(trainer, "ASK_EVERY", {"cpu": 2})
    run = workspace.train(task, execution=Execution(tensorboard=workspace.folder / "logs"))
    curves = curves_in(workspace.folder / "logs" / run.name)
    assert curves["train/loss"] == pytest.approx(dict(enumerate(heard, 1)), rel=1e-6)
    assert len(heard) == STEPS


def test_name_weights_and_scores_are_those_without_a_log(workspace: Workspace) -> None:
    task, logs = english_task(workspace.folder), workspace.folder / "logs"
    run = workspace.train(task, execution=Execution(tensorboard=logs))
    other = elsewhere(workspace).train(task)
    assert other.name == run.name
    assert other.folder != run.folder
    assert weights_of(other) == weights_of(run) != {}
    assert other.record.history == run.record.history
    assert other.record.identity == run.record.identity


def test_every_run_has_a_folder_and_fusion_a_rate_of_its_own(workspace: Workspace) -> None:
    tasks = [
        english_task(workspace.folder / name, name, shift=shift) for shift, name in enumerate(("one", "two", "top"))
    ]
    logs = workspace.folder / "logs"
    over = [str(task.path) for task in tasks[:2]]
    run = workspace.train(tasks[2], over=over, compose="fuse", execution=Execution(tensorboard=logs))
    names = {run.name, *(intermediate.run for intermediate in run.record.over)}
    assert {path.name for path in logs.iterdir()} == names
    assert len(names) == 3
    curves, recipe = curves_in(logs / run.name), run.record.recipe
    assert recipe.fusion_learning_rate == pytest.approx(recipe.learning_rate / 10)
    expected = {step: rate / 10 for step, rate in curves["train/learning_rate"].items()}
    assert curves["train/fusion_learning_rate"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("cut", [1, 3, 4, STEPS])
def test_a_training_that_was_cut_off_has_the_log_of_one_that_was_not(workspace: Workspace, cut: int) -> None:
    """Cut before the next step: in an epoch, at its end, behind the last step once the run is in its store."""
    task, logs = english_task(workspace.folder), workspace.folder / "logs"
    whole = elsewhere(workspace).train(task, execution=Execution(tensorboard=workspace.folder / "whole"))
    execution = Execution(checkpoint_seconds=0, tensorboard=logs)
    context = cut_at(cut)
    with pytest.raises(Cut):
        workspace.train(task, execution=execution)
    context.undo()
    run = workspace.train(task, execution=execution)
    assert run.name == whole.name
    assert curves_in(logs / run.name) == curves_in(workspace.folder / "whole" / run.name)


def cut_at(steps: int) -> pytest.MonkeyPatch:
    """The process ends after so many steps, or behind the last one, and closes nothing."""

    def last(self: Checkpoints) -> None:
        raise Cut

    context = cut_after(steps)
    context.setattr(Checkpoints, "remove", last)
    context.setattr(Curves, "end", lambda self: None)
    return context


def test_without_tensorboard_one_line_says_what_to_install(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UsageError, match="TensorBoard is not installed; install it with: pip install"):
        Execution(tensorboard=workspace.folder)
    assert workspace.train(english_task(workspace.folder)).record.cost.steps == STEPS


def test_a_folder_that_cannot_be_written_to_is_refused(workspace: Workspace) -> None:
    (workspace.folder / "logs").write_text("a file", encoding="utf-8")
    with pytest.raises(UsageError, match=r"--tensorboard: found .*logs, which is no folder"):
        workspace.train(english_task(workspace.folder), execution=Execution(tensorboard=workspace.folder / "logs"))
