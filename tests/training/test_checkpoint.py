"""A training that is cut off at any step, and goes on, ends with the weights of one that was not."""

import errno
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from support.training import Cut, Workspace, cut_after, english_task
from torch import Tensor

from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.captured import CapturedStep
from adapter_stilts.engine.step import EagerStep
from adapter_stilts.errors import FailedTraining, StiltsError
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.model import tensors
from adapter_stilts.runs.tidy import CHECKPOINTS
from adapter_stilts.training import api, checkpoint, trainer
from adapter_stilts.training.checkpoint import STATE, TENSORS, Checkpoints
from adapter_stilts.training.execution import Execution
from adapter_stilts.training.state import Fitted
from adapter_stilts.training.trainer import fit

STEPS = 6  # two epochs of 24 examples, eight a step


def trained(
    job: Job, checkpoints: Checkpoints | None = None, execution: Execution | None = None
) -> tuple[dict[str, Tensor], Fitted]:
    """All weights after training, and what training leaves."""
    data = load_training_data(job)
    model = build_model(job, data)
    fitted = fit(job, model, data, execution, checkpoints)
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}, fitted


def cut_and_resumed(
    job: Job,
    cuts: Sequence[int],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Any = EagerStep,
    execution: Execution | None = None,
) -> tuple[dict[str, Tensor], Fitted]:
    """Cut after so many steps of each attempt; the last attempt goes through."""
    for steps in cuts:
        context = cut_after(steps, kind)
        with pytest.raises(Cut):
            trained(job, Checkpoints(folder, 0), execution)
        context.undo()
        torch.manual_seed(12345)  # another process has another random state
    return trained(job, Checkpoints(folder, 0), execution)


def assert_same(one: tuple[dict[str, Tensor], Fitted], other: tuple[dict[str, Tensor], Fitted]) -> None:
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(one[0][name], other[0][name]) for name in one[0])
    for name in ("history", "selected_epoch", "development", "steps", "tokens"):
        assert getattr(one[1], name) == getattr(other[1], name), name


@pytest.mark.parametrize("selection", ["last", "best"])
@pytest.mark.parametrize("method", ["bottleneck", "lora", "full"])
def test_cut_training_ends_with_the_same_weights(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, method: str, selection: str
) -> None:
    """Dropout, optimizer, schedule, data order, losses and the best epoch so far all go on; `full` holds the reachable
    rows of the embedding only. Cut within the first epoch, at its end, and in the second one."""
    task = english_task(workspace.folder / "data")
    job = workspace.job(task, method=method, settings={"selection": selection, "epochs": "2", "batch_examples": "8"})
    # The first epoch is the better one: a training that forgot it would keep the second.
    monkeypatch.setattr(trainer, "development_scores", lambda job, model, data: ({"accuracy": scores.pop(0)}, 2))
    scores = [80.0, 60.0]
    whole = trained(job)
    assert (whole[1].steps, whole[1].selected_epoch) == (STEPS, {"best": 1, "last": 2}[selection])
    scores += [80.0, 60.0]
    assert_same(cut_and_resumed(job, [2, 1, 2], workspace.folder / "checkpoints", monkeypatch), whole)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_captured_step_goes_on_too(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """Unrecorded, on the CPU; under bf16 its float32 masters are what is kept."""
    job = workspace.job(english_task(workspace.folder / "data"), precision=precision)

    unrecorded = Execution(step="unrecorded")
    whole = trained(job, execution=unrecorded)
    again = cut_and_resumed(job, [1, 3], workspace.folder / "checkpoints", monkeypatch, CapturedStep, unrecorded)
    assert_same(again, whole)


@pytest.mark.slow
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = workspace.job(english_task(workspace.folder / "data"))
    whole = trained(job)
    for number, damage in enumerate((flip_a_byte, cut_short, change_a_number, lose_the_state)):
        folder = workspace.folder / f"checkpoints-{number}"
        context = cut_after(4)
        with pytest.raises(Cut):
            trained(job, Checkpoints(folder, 0))
        context.undo()
        before, newest = sorted(folder.iterdir())
        assert (before.name, newest.name) == ("step-000000003-0001", "step-000000004-0001")
        damage(newest)
        checkpoints = Checkpoints(folder, 0)
        loaded = checkpoints.load()
        assert loaded is not None
        assert loaded["fitted.steps"] == 3
        assert "step-000000004-0001" in capsys.readouterr().err
        assert not newest.exists()
        assert_same(trained(job, Checkpoints(folder, 0)), whole)


@pytest.mark.parametrize("number", range(3))
def test_training_goes_on_where_another_process_removes_its_checkpoints(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The other has ended the same run, at any time: here before the tensors, before the state, and before its name."""
    job = workspace.job(english_task(workspace.folder / "data"))
    whole = trained(job)
    folder, removed = workspace.folder / "checkpoints", []
    name = ("save_file", "sha256_file", "open_to_readers")[number]
    work = getattr(checkpoint, name)

    def removing(*args: Any) -> Any:
        if not removed:
            removed.append(True)
            shutil.rmtree(folder)
        return work(*args)

    monkeypatch.setattr(checkpoint, name, removing)
    assert_same(trained(job, Checkpoints(folder, 0)), whole)
    assert removed
    assert len(list(folder.iterdir())) == 2
    assert len({path.stat().st_mode for path in folder.glob("*/*")}) == 1  # others can read the tensors too


def test_what_fails_while_the_folder_is_there_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(tensors: Any, path: Path) -> None:
        raise SafetensorError("I/O error: Bad file descriptor")

    monkeypatch.setattr(checkpoint, "save_file", failing)
    with pytest.raises(SafetensorError):
        Checkpoints(tmp_path / "checkpoints", 0).save({}, 1, 0)


def test_tensors_that_have_just_gone_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before safetensors opens them, and before PyTorch does so once more."""
    path = tmp_path / "weights"
    save_file({"a": torch.zeros(1)}, path)
    storage = torch.UntypedStorage

    class Removing:
        @staticmethod
        def from_file(*args: Any, **options: Any) -> Any:
            path.unlink()
            return storage.from_file(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "UntypedStorage", Removing)
        with pytest.raises(StiltsError, match=f"^{path}: cannot be read \\(unable to open file"):
            tensors.read_tensors(path)
    save_file({"a": torch.zeros(1)}, path)
    monkeypatch.setattr(tensors, "tensor_shapes", Path.unlink)
    with pytest.raises(StiltsError, match=f"^{path}: cannot be read \\(.*No such file"):
        tensors.read_tensors(path)


def earlier_format(folder: Path) -> None:
    """As the version before wrote it: whole, with a checksum, and with names of its own."""
    state = json.loads((folder / STATE).read_text())
    del state["sha256"], state["values"]
    state |= {"format": 1, "steps": 4, "losses": [0.5], "history": []}
    sha256 = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
    (folder / STATE).write_text(json.dumps({**state, "sha256": sha256}))


def test_a_checkpoint_of_an_earlier_format_is_told_and_training_starts_anew(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job, folder = workspace.job(english_task(workspace.folder / "data")), workspace.folder / "checkpoints"
    whole = trained(job)
    context = cut_after(4)
    with pytest.raises(Cut):
        trained(job, Checkpoints(folder, 0))
    context.undo()
    for path in folder.iterdir():
        earlier_format(path)
    capsys.readouterr()
    calls: list[int] = []
    monkeypatch.setattr(EagerStep, "__call__", counting(EagerStep.__call__, calls))
    assert_same(trained(job, Checkpoints(folder, 0)), whole)
    assert len(calls) == STEPS
    said = capsys.readouterr().err.splitlines()
    path = folder / "step-000000004-0001" / STATE
    assert said[0] == f"{path}: format: found 1, accepted 2; the training starts anew"
    assert not any("damaged" in line or "format" in line for line in said[1:])


@pytest.mark.parametrize("file", ["state", "tensors"])
def test_a_checkpoint_that_another_process_removes_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    """It ends the run just when the checkpoint is to be read: before the state is, or between the two files."""
    one, other = (Checkpoints(tmp_path / "all" / "run", 0) for _ in range(2))
    one.save({"fitted.steps": 3, "step.weight.0": torch.zeros(1)}, 3, 0)
    name = {"state": "read_json", "tensors": "regular_file"}[file]
    read = getattr(checkpoint, name)

    def removing(path: Path) -> Any:
        other.remove()
        return read(path)

    monkeypatch.setattr(checkpoint, name, removing)
    assert one.load() is None
    (said,) = capsys.readouterr().err.splitlines()
    path = tmp_path / "all" / "run" / "step-000000003-0000"
    assert said == f"{path}: another process has removed this checkpoint: it went on with this run, or ended it"
    assert not (tmp_path / "all").exists()


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / TENSORS).read_bytes())
    content[-1] ^= 1
    (folder / TENSORS).write_bytes(content)


def cut_short(folder: Path) -> None:
    (folder / TENSORS).write_bytes((folder / TENSORS).read_bytes()[:-100])


def change_a_number(folder: Path) -> None:
    state = json.loads((folder / STATE).read_text())
    (folder / STATE).write_text(json.dumps({**state, "values": {**state["values"], "fitted.tokens": 1}}))


def lose_the_state(folder: Path) -> None:
    (folder / STATE).unlink()


def test_nothing_is_left_when_every_checkpoint_is_damaged(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = workspace.job(english_task(workspace.folder / "data"))
    context = cut_after(4)
    with pytest.raises(Cut):
        trained(job, Checkpoints(workspace.folder / "checkpoints", 0))
    context.undo()
    for folder in (workspace.folder / "checkpoints").iterdir():
        flip_a_byte(folder)
    assert_same(trained(job, Checkpoints(workspace.folder / "checkpoints", 0)), trained(job))


def test_state_of_another_model_is_refused(workspace: Workspace) -> None:
    job = workspace.job(english_task(workspace.folder / "data"))
    model = build_model(job, load_training_data(job))
    step = EagerStep(model, job.recipe, 3, "float32")
    state = dict(step.state())
    with pytest.raises(StiltsError, match=r"^weight.0: found nothing, accepted torch.float32 of"):
        step.load_state({name: value for name, value in state.items() if name != "weight.0"})


def test_checkpoints_vanish_with_the_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """`train` writes them into the store, and goes on from there; the finished run takes them away."""
    task = english_task(workspace.folder / "data")
    options = {"execution": Execution(checkpoint_seconds=0)}
    context = cut_after(4)
    with pytest.raises(Cut):
        workspace.train(task, **options)
    context.undo()
    job = workspace.job(task)
    folder = workspace.store.folder / CHECKPOINTS / job.name
    assert [path.name for path in sorted(folder.iterdir())] == ["step-000000003-0001", "step-000000004-0001"]
    assert workspace.store.names() == []
    calls: list[int] = []
    monkeypatch.setattr(EagerStep, "__call__", counting(EagerStep.__call__, calls))
    run = workspace.train(task, **options)
    assert len(calls) == 2
    assert run.record.cost.steps == STEPS
    assert not folder.exists()


def test_checkpoints_stay_where_a_disk_is_full_and_go_where_it_would_fail_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = english_task(workspace.folder / "data")
    options = {"execution": Execution(checkpoint_seconds=0)}
    folder = workspace.store.folder / CHECKPOINTS / workspace.job(task).name
    save, saved = checkpoint.save_file, [0]

    def full(tensors: Any, path: Path) -> None:
        saved[0] += 1
        if saved[0] == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(tensors, path)

    with monkeypatch.context() as context:
        context.setattr(checkpoint, "save_file", full)
        with pytest.raises(StiltsError, match="No space left on device"):
            workspace.train(task, **options)
    left = [path.name for path in sorted(folder.iterdir())]
    assert left == ["step-000000002-0000", "step-000000003-0000"]
    calls: list[int] = []
    with monkeypatch.context() as context:
        context.setattr(EagerStep, "__call__", counting(EagerStep.__call__, calls))
        assert workspace.train(task, **options).record.cost.steps == STEPS
    assert len(calls) == STEPS - 3
    with pytest.raises(FailedTraining, match=r"found loss nan"):
        workspace.train(task, settings={"learning_rate": "1e30"}, **options)
    assert not (workspace.store.folder / CHECKPOINTS).exists()


def test_seconds_of_a_checkpoint_that_is_dropped_are_no_cost(workspace: Workspace) -> None:
    task = english_task(workspace.folder / "data")
    checkpoints = Checkpoints(workspace.folder / "all" / "run", 0)
    checkpoints.seconds_before = 1e6
    checkpoints.save({"fitted.steps": 3}, 3, 0)
    resumed = Checkpoints(checkpoints.folder, 0)
    job = workspace.job(task)
    data = load_training_data(job)
    fitted = fit(job, build_model(job, data, "cpu"), data, Execution(), resumed)
    assert (fitted.steps, resumed.seconds_before) == (STEPS, 0.0)


def counting(call: Any, calls: list[int]) -> Any:
    def counted(self: Any, batches: Sequence[Any]) -> None:
        calls.append(1)
        call(self, batches)

    return counted


def test_when_a_checkpoint_is_due(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `every` seconds or at the end of an epoch, unless writing took over a twentieth of the time since."""
    checkpoints = Checkpoints(workspace.folder / "checkpoints", 60)
    now = [checkpoints.last]
    monkeypatch.setattr("adapter_stilts.training.checkpoint.time.perf_counter", lambda: now[0])
    now[0] += 59
    assert (checkpoints.due(), checkpoints.due(epoch_ended=True)) == (False, True)
    now[0] += 1
    assert checkpoints.due()
    checkpoints.wrote = 4.0  # 80 seconds pay for that
    assert (checkpoints.due(), checkpoints.due(epoch_ended=True)) == (False, False)
    now[0] += 20
    assert (checkpoints.due(), checkpoints.due(epoch_ended=True)) == (True, True)
    assert api.checkpoints_of("name", workspace.store, Execution(checkpoint_seconds=None)) is None


@pytest.mark.parametrize("removed", [False, True])
def test_two_trainings_of_one_run_do_not_trip_over_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    """While one writes a step's checkpoint the other writes the same, or is done and removes the folder."""
    one, other = (Checkpoints(tmp_path / "all" / "run", 0) for _ in range(2))
    state = {"fitted.steps": 3, "step.weight.0": torch.arange(4.0)}
    write = checkpoint.atomic_write_text

    def meanwhile(path: Path, text: str) -> None:
        write(path, text)
        monkeypatch.setattr(checkpoint, "atomic_write_text", write)
        if removed:
            other.remove()
        else:
            other.save(state, 3, 0)

    monkeypatch.setattr(checkpoint, "atomic_write_text", meanwhile)
    one.save(state, 3, 0)
    if removed:
        assert one.load() is None
        one.save(state, 3, 0)
    loaded = one.load()
    assert loaded is not None
    assert (loaded["fitted.steps"], loaded["step.weight.0"].tolist()) == (3, [0.0, 1.0, 2.0, 3.0])
    assert [path.name for path in (tmp_path / "all" / "run").iterdir()] == ["step-000000003-0000"]
