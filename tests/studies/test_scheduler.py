"""Carrying a study out: everything once, failures contained, interruptions clean."""

import errno
import gc
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters import XLMRobertaAdapterModel
from safetensors import SafetensorError
from support.cli import command, failed, succeeded
from support.curves import curves_in
from support.studies import SMALL, make_study_workspace, plan_of, write_study
from support.training import Workspace

from adapter_stilts.errors import StiltsError
from adapter_stilts.jobs.request import Request
from adapter_stilts.report.content import missing_runs
from adapter_stilts.runs.claims import Claims, Needs
from adapter_stilts.runs.store import Run, RunStore, keep_of
from adapter_stilts.runs.tidy import FAILURES
from adapter_stilts.studies import scheduler, work
from adapter_stilts.studies.estimate import Estimate, duration
from adapter_stilts.studies.plan import Plan, runs_of, states
from adapter_stilts.studies.pools import Here, Processes
from adapter_stilts.studies.scheduler import Interrupted, Result, run_plan
from adapter_stilts.studies.work import Outcome, is_full_disk
from adapter_stilts.training.environment import Environment
from adapter_stilts.training.execution import Execution

FULL = """\
targets: [tags/tags.yaml]
intermediates: [other/other.yaml, third/third.yaml]
methods: [full]
compositions: [none, continue]
"""
# A learning rate at which no weight stays finite.
BROKEN = "overrides: [{intermediate: third/third.yaml, set: {learning_rate: 1e30}}]\n"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(scheduler, "POLL", 0.05)
    return make_study_workspace(tmp_path, monkeypatch)


def here(plan: Plan) -> Result:
    return run_plan(plan, 0)


def name_of(plan: Plan, task: str, composition: str = "none") -> str:
    """The run of that task and composition."""
    names = [name for name, node in plan.nodes.items() if (node.job.title, node.job.composition) == (task, composition)]
    assert len(names) == 1
    return names[0]


def count_trainings(monkeypatch: pytest.MonkeyPatch, instead: Any = None) -> list[str]:
    """Names of the tasks that are trained from here on; `instead` is called in place of it."""
    trained: list[str] = []
    call = instead or work.run_request

    def noted(request: Request, environment: Environment) -> Run:
        trained.append("+".join(task.name for task in request.tasks))
        return call(request, environment)

    monkeypatch.setattr(work, "run_request", noted)
    return trained


def test_a_study_ends_with_every_cell_scored_and_is_recognised(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(workspace)
    result = here(plan)
    assert sorted(result.done) == sorted(plan.nodes)
    assert (result.before, dict(result.failed), result.stopped) == ((), {}, ())
    study_runs = list(runs_of(plan))
    assert [study_run.run is not None and study_run.run.name for study_run in study_runs] == [
        study_run.name for study_run in study_runs
    ]
    assert all(len(study_run.run.record.scores) == 1 for study_run in study_runs if study_run.run)
    assert {run.record.task.name for run in workspace.store.runs() if not run.record.scores} == {"other", "third"}
    trained = count_trainings(monkeypatch)
    again = here(plan_of(workspace))
    assert (again.done, sorted(again.before), trained) == ((), sorted(plan.nodes), [])


def test_runs_in_this_process_have_the_threads_that_were_asked_for(workspace: Workspace) -> None:
    plan, before = plan_of(workspace), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        result = run_plan(plan, 0, threads=1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert sorted(result.done) == sorted(plan.nodes)
    assert {workspace.store.find(name).record.threads for name in plan.nodes} == {1}


def test_a_failure_stops_only_what_stands_on_it(workspace: Workspace) -> None:
    """The next call tries again; what was done stays done."""
    plan = plan_of(workspace, SMALL + BROKEN)
    result = here(plan)
    third = name_of(plan, "third")
    assert list(result.failed) == [third]
    assert "both must be finite" in result.failed[third]
    stopped = {name for name, node in plan.nodes.items() if third in node.over}
    assert len(stopped) == 2
    assert set(result.stopped) == stopped
    assert set(result.done) == set(plan.nodes) - stopped - {third}
    again = here(plan)
    assert (again.done, set(again.before), list(again.failed)) == ((), set(result.done), [third])


def test_an_error_that_nobody_foresaw_leaves_its_traceback(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(request: Request, environment: Environment) -> Run:
        raise ValueError("a wrong\nturn")

    count_trainings(monkeypatch, wrong)
    result = here(plan_of(workspace))
    name = name_of(plan_of(workspace), "other")
    path = workspace.store.folder.resolve() / ".failures" / f"{name}.txt"
    assert result.failed[name] == f"ValueError: a wrong turn (see {path})"
    assert "in wrong" in path.read_text()


def test_a_run_that_another_process_has_is_waited_for_and_not_done_twice(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(workspace)
    other = name_of(plan, "other")
    elsewhere = RunStore(workspace.folder / "elsewhere")
    run = workspace.train(plan.nodes[other].request.tasks)
    workspace.store.folder.rename(elsewhere.folder)
    claimed, leave = threading.Event(), threading.Event()

    def somebody() -> None:
        with Claims(workspace.store.folder).hold(other) as claim:
            assert claim
            claimed.set()
            leave.wait(60)
            shutil.copytree(elsewhere.folder / run.name, workspace.store.folder / run.name)

    thread = threading.Thread(target=somebody)
    thread.start()
    claimed.wait(60)
    trained = count_trainings(monkeypatch)
    looked = Claims.held

    def seen(self: Claims, name: str) -> Any:
        leave.set()  # only when the study has come to wait for it
        return looked(self, name)

    monkeypatch.setattr(Claims, "held", seen)
    result = here(plan)
    thread.join()
    assert sorted([*result.done, *result.elsewhere]) == sorted(plan.nodes)
    assert result.elsewhere == (other,)
    assert "other" not in trained
    assert len(trained) == len(plan.nodes) - 1


def test_ctrl_c_says_what_to_do_and_leaves_no_claim(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, call = plan_of(workspace), work.run_request

    def interrupted(request: Request, environment: Environment) -> Run:
        if request.tasks[0].name == "third":
            raise KeyboardInterrupt
        return call(request, environment)

    monkeypatch.setattr(work, "run_request", interrupted)
    with pytest.raises(Interrupted) as error:
        here(plan)
    assert str(error.value) == "interrupted: run the same command again, and it goes on where it stopped"
    assert error.value.exit_code == 130
    assert list((workspace.store.folder / ".claims").glob("*.json")) == []
    monkeypatch.setattr(work, "run_request", call)
    before = [name for name, state in states(plan).items() if state == "done"]
    assert before
    result = here(plan)
    assert (list(result.before), len(result.done)) == (before, len(plan.nodes) - len(before))


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("Error: No space left on device (os error 28)")],
    ids=["system", "safetensors"],
)
def test_a_full_disk_ends_the_study_and_says_what_to_do(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(request: Request, environment: Environment) -> Run:
        raise error

    trained = count_trainings(monkeypatch, full)
    with pytest.raises(StiltsError) as ended:
        here(plan_of(workspace))
    message = str(ended.value)
    assert message.startswith(f"{workspace.store.folder}: the disk is full (")
    assert message.endswith("in small.yaml, and run the same command again: it goes on where it stopped")
    assert ended.value.exit_code == 1
    assert len(trained) == 1
    assert not is_full_disk(OSError(errno.EACCES, "Permission denied"))


@pytest.mark.parametrize(("keep", "kept"), [("all", 5), ("adapters", 0), ("scores", 0)])
def test_keep_drops_full_models_once_nothing_waits_for_them(workspace: Workspace, keep: str, kept: int) -> None:
    plan = plan_of(workspace, f"{FULL}keep: {keep}\n")
    result = here(plan)
    assert len(result.done) == 5
    assert sum(run.has_weights for run in workspace.store.runs()) == kept
    assert set(states(plan).values()) == {"done"}


def test_what_a_study_keeps_is_its_own_until_it_ends(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another study over the same runs that keeps fewer drops none of them before; afterwards it may."""
    plan, call, dropped = plan_of(workspace, f"{FULL}keep: all\n"), work.run_request, []

    def dropping(request: Request, environment: Environment) -> Run:
        dropped.extend(keep_of(run, "scores") for run in workspace.store.runs())
        return call(request, environment)

    monkeypatch.setattr(work, "run_request", dropping)
    here(plan)
    assert dropped == [False] * (1 + 2 + 3 + 4)
    # Runs that were done before are as much its own.
    again = name_of(plan, "tags")
    shutil.rmtree(workspace.store.folder / again)
    dropped.clear()
    here(plan)
    assert dropped == [False] * 4
    assert [keep_of(run, "scores") for run in workspace.store.runs()] == [True] * 5


def test_weights_are_kept_for_a_run_that_failed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """It will be tried again; afterwards they go."""
    plan, call = plan_of(workspace, FULL), work.run_request

    def broken(request: Request, environment: Environment) -> Run:
        if request.compose == "continue":
            raise StiltsError("broken")
        return call(request, environment)

    monkeypatch.setattr(work, "run_request", broken)
    assert len(here(plan).failed) == 2
    assert sorted(run.record.task.name for run in workspace.store.runs() if run.has_weights) == ["other", "third"]
    monkeypatch.setattr(work, "run_request", call)
    trained = count_trainings(monkeypatch)
    # A report says why.
    reasons = [(missing.state, missing.reason) for missing in missing_runs(runs_of(plan), workspace.store)]
    assert reasons == [("failed", "broken")] * 2
    assert not here(plan).failed
    assert not list((workspace.store.folder / FAILURES).iterdir())
    assert trained == ["tags", "tags"]
    assert not any(run.has_weights for run in workspace.store.runs())


@pytest.mark.slow
def test_a_worker_that_is_killed_fails_its_run_alone(workspace: Workspace) -> None:
    """Workers are processes: the next one does the same order."""
    plan = plan_of(workspace)
    name = name_of(plan, "other")
    node = plan.nodes[name]
    order = scheduler._order(node)
    pool = Processes(scheduler._site(plan, 1, 1, Execution()), 1)
    try:
        pool.give(order)
        assert pool.free() == 0
        os.kill(pool.workers[0].process.pid, signal.SIGKILL)
        (outcome,) = pool.outcomes(60)
        assert outcome == Outcome(name, "killed", "its worker was killed by signal 9 (out of memory?)")
        pool.give(order)
        (outcome,) = pool.outcomes(120)
        assert (outcome.name, outcome.kind) == (name, "done")
        assert workspace.store.names() == [name]
    finally:
        pool.close()
    assert not pool.workers[0].process.is_alive()


@pytest.mark.slow
def test_command_line(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """plan, run, and plan again; a failure gives exit code 1 and a line for each reason."""
    monkeypatch.setattr(scheduler, "Processes", lambda site, count: Here(site, workspace.backbone))
    path = write_study(workspace, "question: does it run?\n" + SMALL)
    options = [path, "--backbone", workspace.folder / "tiny", "--runs", workspace.store.folder, "--device", "cpu"]
    planned = succeeded("study", "plan", *options).splitlines()
    assert planned[0] == "small: does it run?"
    assert planned[1].split() == ["task", "method", "composition", "runs", "done", "to", "do", "time"]
    assert planned[2].split()[:6] == ["intermediate", "other", "bottleneck", "none", "1", "0"]
    assert "6 runs for 4 cells; 0 done, 6 to do" in planned
    assert planned[-1].startswith(
        f"the speed of 0 of 6 was measured in {workspace.store.folder}; the speed of the others"
    )
    assert succeeded("study", "plan", *options, "--dot").startswith("digraph study {")
    assert '"done": 0,\n  "to_do": 6,' in succeeded("study", "plan", *options, "--json")
    logs = workspace.folder / "logs"
    succeeded("study", "run", *options, "--tensorboard", logs)
    for run in workspace.store.runs():
        accuracies = list(curves_in(logs / run.name)["development/accuracy"].values())
        assert accuracies == pytest.approx([epoch.scores["accuracy"] for epoch in run.record.history])
    assert {path.name for path in logs.iterdir()} == set(workspace.store.names())
    assert "6 runs for 4 cells; 6 done, 0 to do" in succeeded("study", "plan", *options)
    write_study(workspace, SMALL + BROKEN)
    result = failed_lines(1, "study", "run", *options)
    assert result[-1].startswith("small: 1 of 6 runs failed, 2 that stand on them were not tried; run the same command")
    assert sum(line.startswith("failed: third-bottleneck-none-s0-") for line in result) == 1
    assert failed(2, "study", "plan", "nosuch").startswith("study 'nosuch': found no such study")


def failed_lines(code: int, *arguments: Any) -> list[str]:
    result = command(*arguments)
    assert result.exit_code == code, result.output
    return result.stderr.rstrip("\n").splitlines()


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (99, "99 s"), (720, "12 min"), (12_240, "3.4 h")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.slow
def test_a_run_that_has_ended_leaves_no_model_behind(workspace: Workspace) -> None:
    """Models refer to themselves: without a collector's help they would pile up."""

    def models() -> list[XLMRobertaAdapterModel]:
        return [instance for instance in gc.get_objects() if isinstance(instance, XLMRobertaAdapterModel)]

    plan = plan_of(workspace, FULL)
    gc.collect()
    gc.disable()
    try:
        before = models()  # those of other tests
        here(plan)
        left = [model for model in models() if all(model is not other for other in before)]
    finally:
        gc.enable()
    assert left == []


def test_two_processes_count_their_own_runs(workspace: Workspace) -> None:
    """Of four runs another process did one and is at one: three seconds for two of ours say what the last will take."""
    plan = plan_of(workspace)
    names = list(plan.nodes)[:4]
    mine = scheduler._Work(plan, names, Needs(workspace.folder / "our.needs", names, "ours"))
    mine.estimates = dict.fromkeys(names, Estimate(seconds=10.0, bytes=0, measured=True))
    mine.done, mine.others, mine.elsewhere = names[:2], {names[1]}, set()
    mine.started -= 5.0
    assert mine.done_here() == names[:1]
    assert mine.seconds_left(1) == pytest.approx(10.0, abs=0.2)
    mine.elsewhere = {names[2]}
    assert mine.seconds_left(1) == pytest.approx(5.0, abs=0.2)
    assert scheduler._progress_line(mine, 1) == "1 of 2 runs, 2 with another process; about 5 s left"
