"""Which step a job gets, and which requests are refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from support.training import english_task, make_workspace

from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.captured import CapturedStep
from adapter_stilts.engine.step import EagerStep
from adapter_stilts.errors import UsageError
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.model.compiled import forget_compiled, is_compiled
from adapter_stilts.runs.record import Executed, read_record
from adapter_stilts.runs.store import RunStore
from adapter_stilts.training.api import execute
from adapter_stilts.training.execution import Execution, make_step


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    return make_workspace(tmp_path, monkeypatch).job(english_task(tmp_path / "t", "t"))


@pytest.mark.parametrize(
    ("execution", "tokens", "compiled"),
    [(Execution(), 10**9, False), (Execution(compile="on"), 1, True), (Execution(step="eager"), 10**9, False)],
)
def test_a_cpu_takes_eager_steps(job: Job, execution: Execution, tokens: int, compiled: bool) -> None:
    """And compiles only where it is told to, however long the run is."""
    model = build_model(job, load_training_data(job))
    assert type(make_step(job, model, 2, tokens, execution)) is EagerStep
    assert is_compiled(model) == compiled


@pytest.mark.parametrize("compile_", ["off", "on"])
def test_an_unrecorded_step_is_the_captured_one_as_it_is(job: Job, compile_: Literal["off", "on"]) -> None:
    model = build_model(job, load_training_data(job))
    step = make_step(job, model, 2, 100, Execution(step="unrecorded", compile=compile_))
    assert isinstance(step, CapturedStep)
    assert not step.capture
    assert is_compiled(model) == (compile_ == "on")


@pytest.mark.parametrize(
    ("execution", "executed"),
    [
        (Execution(), Executed(step="eager", compiled=False, checkpointing=False)),
        (Execution(checkpointing=True), Executed(step="eager", compiled=False, checkpointing=True)),
        (Execution(step="unrecorded"), Executed(step="unrecorded", compiled=False, checkpointing=False)),
    ],
)
def test_a_record_says_how_its_run_was_executed(job: Job, tmp_path: Path, execution: Execution, executed: Any) -> None:
    """Which is no part of what it is: name and identity are the same."""
    run = execute(job, RunStore(tmp_path / "runs"), "cpu", execution=execution)
    assert read_record(run.folder).executed == executed
    assert run.name == job.name
    assert "executed" not in json.dumps(run.record.identity)


@pytest.mark.parametrize("works", [True, False])
def test_a_step_says_that_it_was_compiled_where_compiling_did_not_fail(job: Job, works: bool) -> None:
    model = build_model(job, load_training_data(job))
    step = make_step(job, model, 2, 1, Execution(compile="on"))
    assert step.executed() == Executed(step="eager", compiled=True, checkpointing=False)
    if not works:
        forget_compiled(model, RuntimeError("no compiler"))
    assert step.executed().compiled == works


def test_an_untrained_control_was_not_executed(job: Job, tmp_path: Path) -> None:
    run = execute(replace(job, control="random"), RunStore(tmp_path / "runs"), "cpu")
    assert run.record.executed is None
    assert run.record.cost.steps == 0


def test_a_captured_step_needs_cuda_and_bf16(job: Job) -> None:
    model = build_model(job, load_training_data(job))
    with pytest.raises(UsageError, match=r"^--step captured: found device cpu, accepted: cuda"):
        make_step(replace(job, precision="bf16"), model, 2, 100, Execution(step="captured"))
