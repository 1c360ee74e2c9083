"""`train`: from a request to a finished run in the store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from adapter_stilts.arguments import listed
from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.bundle import save_bundle
from adapter_stilts.engine.device import peak_memory_bytes, reset_peak_memory
from adapter_stilts.errors import FailedTraining
from adapter_stilts.evaluation.floor import nothing_learnt_in_development
from adapter_stilts.jobs.job import Intermediate, Job
from adapter_stilts.jobs.leaks import leaks_of_job, refuse_leaks, trained_on
from adapter_stilts.jobs.request import Request, Underneath
from adapter_stilts.jobs.resolve import identified, resolve
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.memory import memory_given_back
from adapter_stilts.model.backbone import DEFAULT_BACKBONE, Backbone
from adapter_stilts.paths import sha256_file
from adapter_stilts.progress import say
from adapter_stilts.runs.claims import Claims
from adapter_stilts.runs.leaks import Leak, leak_line
from adapter_stilts.runs.record import Control, Cost, read_record, write_record
from adapter_stilts.runs.store import BUNDLE, TRAINED_ON, Keep, Run, RunStore, bundle_of
from adapter_stilts.runs.tidy import tidy
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import Named, find_tasks
from adapter_stilts.tasks.overlap import write_signatures
from adapter_stilts.threads import computing_with
from adapter_stilts.training.arguments import environment_of, request_fields, request_of
from adapter_stilts.training.checkpoint import checkpoints_of
from adapter_stilts.training.describe import asked_with, manifest_of, record_of
from adapter_stilts.training.environment import Environment
from adapter_stilts.training.execution import Execution
from adapter_stilts.training.trainer import fit


def train(
    task: Named | Sequence[Named],
    *,
    over: Underneath | Sequence[Underneath] = (),
    compose: str | None = None,
    method: str = "bottleneck",
    backbone: str | Path | Backbone = DEFAULT_BACKBONE,
    seed: int = 0,
    limit: int | None = None,
    development_limit: int | None = None,
    match_tokens: int | None = None,
    languages: str | Sequence[str] | None = None,
    control: Control | None = None,
    settings: Mapping[str, Any] | None = None,
    runs: RunStore | Path | str | None = None,
    mirror: Path | str | None = None,
    out: Path | str | None = None,
    device: str | None = None,
    weights: bool = True,
    keep: Keep = "all",
    precision: str | None = None,
    execution: Execution | None = None,
    threads: int | None = None,
) -> Run:
    """Train a task, over intermediates if any are given, and return the finished run.

    `task` is a task's name, a YAML file or a loaded `Task`; several of them, or names with + between, train together,
    with one adapter and a head each. Each of `over` is a finished run (itself, its name, a unique beginning of it, its
    folder) or a task, or tasks with + between, which is then trained first with the same method, backbone, seed and
    limits (`settings` are the target's alone); TASK@random and TASK@shuffled are its controls. `compose` says how the
    intermediates lie under the target: see `adapter_stilts.model.composition`. `method` is bottleneck, lora, dora, ia3,
    full or head; houlsby, parallel and compacter are bottleneck adapters by name. `limit` is the number of training
    examples of each task, drawn with the seed; `match_tokens` is instead a number of pieces: of the intermediates, or
    of the run itself where it stands on none. `development_limit` is the number of development examples that are scored
    after each epoch, of the intermediates too: the recipe's `development_examples` (default: the recipe's, or all).
    `languages` are those of the training data (default: the task's own, English); `settings` replace fields of the
    recipe, by values or by the text that would be typed after --set.
    A run that exists is returned as it is; one whose weights were not kept is trained again if `weights` are wanted.
    `keep="scores"` wants no weights and writes none: a trial whose development score alone matters.
    `out` gets a copy of the run's folder. `precision` is float32 or bf16 (default: bf16 on CUDA, float32 on a CPU), of
    the intermediates that are trained first too; predictions have one of their own. `execution` says how it is
    computed, which decides nothing of the result. `threads` compute on a CPU, the intermediates too (default: as many
    as PyTorch has been given); batches of fewer than 512 pieces may round otherwise with one than with several.

    Raises UsageError for a request that makes no sense, StiltsError for work that failed; nothing half-written stays.
    """
    fields = request_fields(
        compose=compose,
        method=method,
        seed=seed,
        limit=limit,
        development_limit=development_limit,
        match_tokens=match_tokens,
        languages=languages,
        control=control,
        settings=settings,
        precision=precision,
    )
    over = listed("--over", over, (str, Path, Task, Run), "runs and tasks: names, paths, Run or Task objects")
    environment = environment_of(
        store=runs,
        mirror=mirror,
        device=device,
        execution=execution,
        threads=threads,
        keep=keep,
        weights=weights,
        out=out,
    )
    tidy(environment.store)
    request = request_of(find_tasks(task), backbone, environment, fields)
    return run_request(request.standing_on(over, environment.store), environment)


def run_request(request: Request, environment: Environment) -> Run:
    """The finished run of a request, trained where it is not in the store, after what is missing underneath.

    Raises UsageError for a request that makes no sense, before anything trains, StiltsError for work that failed.
    """
    return _run(resolve(request, environment.mirror), environment)


def _run(job: Job, environment: Environment) -> Run:
    store = environment.store
    run = store.get(job.name)
    if run is None or (environment.needs_weights and not run.has_weights):
        run = _train(job, environment)
    else:
        # Its weights may have been dropped underneath: they are not trained again for a target that is done.
        for below in job.below:
            if isinstance(below.source, Job) and store.get(below.name) is not None:
                _run_underneath(job, below, environment, weights=False)
        say(f"{run.name}: done before, in {run.folder}")
        _say_leaks(run.name, run.record.leaks)
    run = asked_with(run, job.tasks)
    _say_nothing_learnt(run)
    if environment.out is not None:
        store.copy(run, environment.out)
    return run


def _train(job: Job, environment: Environment) -> Run:
    """The run of a job that is not there, after those that it stands on."""
    store, device = environment.store, environment.device
    store.check()
    environment.execution.check()
    with _needing(job.below, store), computing_with(environment.threads), _random_numbers_kept(device):
        job = _over_finished_runs(job, environment)
        refuse_leaks(job)
        return execute(job, store, device, environment.keep, environment.execution)


def _over_finished_runs(job: Job, environment: Environment) -> Job:
    """The job once all that lies underneath is trained; its data are looked at again, which may have taken hours."""
    if all(isinstance(below.source, Run) for below in job.below):
        return job
    by_name = {below.name: below for below in job.below}
    finished = {name: _finished(job, below, environment) for name, below in by_name.items()}
    mixed_in = job.mixed_in
    if mixed_in is not None and mixed_in.head is not None:
        mixed_in = replace(mixed_in, head=finished[mixed_in.head.name])
    intermediates = tuple(finished[below.name] for below in job.intermediates)
    return identified(replace(job, intermediates=intermediates, mixed_in=mixed_in))


def _finished(job: Job, below: Intermediate, environment: Environment) -> Intermediate:
    if isinstance(below.source, Run):
        return below
    return Intermediate.of_run(_run_underneath(job, below, environment, weights=True))


def _run_underneath(job: Job, below: Intermediate, environment: Environment, weights: bool) -> Run:
    """The run of a job that lies underneath another."""
    assert isinstance(below.source, Job)
    if job.mixed_in is not None and below is job.mixed_in.head:
        task = job.mixed_in.task.name
        say(f"{job.backbone.id}: has no head for masked language modelling; it gets one trained on {task}")
    return _run(below.source, environment.for_intermediate(weights))


def _needing(intermediates: Sequence[Intermediate], store: RunStore) -> AbstractContextManager[Any]:
    """For the time of the block no other process drops the weights of these runs."""
    names = [intermediate.name for intermediate in intermediates]
    return Claims(store.folder).need(names) if names else nullcontext()


def _random_numbers_kept(device: str) -> AbstractContextManager[None]:
    """The caller's random numbers go on after the block as if it had drawn none."""
    return torch.random.fork_rng(devices=[torch.device(device)] if device.startswith("cuda") else [])


def _say_leaks(name: str, leaks: Sequence[Leak] | None) -> None:
    if leaks:
        say(f"{name}: {leak_line(leaks)}")


def _say_nothing_learnt(run: Run) -> None:
    record = run.record
    line = nothing_learnt_in_development(
        record.task.selection_metric, record.development, record.development_majority, record.development_labels
    )
    if line and record.control is None:
        say(f"{run.name}: {line}")


@memory_given_back()
def execute(job: Job, store: RunStore, device: str, keep: Keep = "all", execution: Execution | None = None) -> Run:
    """Train a job and put its folder into the store, whole or not at all; without weights where `keep` is "scores".

    A job that was cut off goes on from its last checkpoint; so does one that ended for a reason outside, such as a full
    disk."""
    started = time.perf_counter()
    reset_peak_memory(device)
    data = load_training_data(job)
    signatures = trained_on(job, data)
    leaks = leaks_of_job(job, data, signatures)
    _say_leaks(job.name, leaks)
    model = build_model(job, data, device)
    checkpoints = checkpoints_of(job.name, store, execution or Execution())
    try:
        fitted = fit(job, model, data, execution, checkpoints)
    except FailedTraining:
        if checkpoints is not None:
            checkpoints.remove()
        raise
    model.eval()
    try:
        with store.create(job.name) as folder:
            manifest = manifest_of(job, data)
            if keep != "scores":
                manifest = save_bundle(folder / BUNDLE, model, manifest, _baked(job))
            write_signatures(folder / TRAINED_ON, signatures)
            cost = Cost(
                train_seconds=fitted.train_seconds,
                seconds=time.perf_counter() - started + (checkpoints.seconds_before if checkpoints else 0.0),
                steps=fitted.steps,
                tokens_per_second=fitted.tokens / fitted.train_seconds if fitted.train_seconds else 0.0,
                peak_memory_bytes=peak_memory_bytes(device),
                bundle_bytes=sum(file.bytes for file in manifest.files.values()),
            )
            record = record_of(job, data, fitted, cost, device, leaks)
            write_record(folder, record.model_copy(update={"trained_on": sha256_file(folder / TRAINED_ON)}))
    except FileExistsError:
        say(f"{job.name}: another process finished it first; its run stays")
    if checkpoints is not None:
        checkpoints.remove()
    return Run(store.folder / job.name, read_record(store.folder / job.name))


def _baked(job: Job) -> dict[str, Path]:
    """Where the adapters lie that the backbone took up, by their names in the model."""
    if job.composition != "bake":
        return {}
    return {name: bundle_of(intermediate.run) / adapter for intermediate, adapter, name in job.underneath}
