"""`train`: from a request to a finished run in the store."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from adapter_stilts.errors import UsageError
from adapter_stilts.model.backbone import DEFAULT_BACKBONE, Backbone, load_backbone
from adapter_stilts.model.composition import choose_composition
from adapter_stilts.paths import mirror_dir
from adapter_stilts.progress import say
from adapter_stilts.runs.bundle import Manifest, save_bundle, stored_backbone
from adapter_stilts.runs.record import (
    Cost,
    Record,
    StoredData,
    StoredTask,
    Underneath,
    package_versions,
    read_record,
    write_record,
)
from adapter_stilts.runs.store import BUNDLE, Run, RunStore
from adapter_stilts.schema import Task, override
from adapter_stilts.tasks.catalog import all_tasks, find_task, recipe_for
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.training.device import (
    default_device,
    default_precision,
    device_name,
    peak_memory_bytes,
    reset_peak_memory,
)
from adapter_stilts.training.job import Job, make_job
from adapter_stilts.training.trainer import Fitted, TrainingData, build_model, fit, load_training_data


def train(
    task: str | Task,
    *,
    over: Sequence[str | Run] = (),
    compose: str | None = None,
    method: str = "bottleneck",
    backbone: str | Backbone = DEFAULT_BACKBONE,
    seed: int = 0,
    limit: int | None = None,
    settings: Mapping[str, str] | None = None,
    runs: RunStore | Path | str | None = None,
    mirror: Path | str | None = None,
    out: Path | None = None,
    device: str | None = None,
    weights: bool = True,
) -> Run:
    """Train a task, over intermediates if any are given, and return the finished run.

    `task` is a task's name, a YAML file or a loaded `Task`. Each of `over` is a finished run (itself, its name, a
    unique beginning of it, its folder) or a task, which is then trained first with the same method, backbone, seed and
    limit (`settings` are the target's alone). `compose` is none or stack; with `method="full"` training continues from
    the intermediate's weights.
    `limit` is the number of English training examples, drawn with the seed; `settings` replace fields of the recipe.
    A run that exists is returned as it is; one whose weights were not kept is trained again if `weights` are wanted.
    `out` gets a copy of the run's folder.

    Raises UsageError for a request that makes no sense, StiltsError for work that failed; nothing half-written stays.
    """
    store = runs if isinstance(runs, RunStore) else RunStore(runs)
    mirror = mirror_dir(Path(mirror) if mirror is not None else None)
    device = device or default_device()
    base = backbone if isinstance(backbone, Backbone) else load_backbone(backbone, mirror=mirror)
    task = task if isinstance(task, Task) else find_task(task)
    # A request that cannot end well must not train its intermediates first.
    choose_composition(method, compose, len(over))
    override(recipe_for(task, method, base.id), settings or {})  # type: ignore[arg-type]
    shared: dict[str, Any] = {"method": method, "backbone": base, "seed": seed, "limit": limit}
    precision = default_precision(device)

    def job_over(intermediates: Sequence[Run]) -> Job:
        return make_job(task, intermediates, compose, method, base, seed, limit, settings or {}, precision, mirror)

    # A target that is done needs no weights underneath: an intermediate that was dropped is not trained again for it.
    job = job_over([_intermediate(own, store, mirror, device, {**shared, "weights": False}) for own in over])
    run = store.get(job.name)
    if run is None or (weights and not run.has_weights):
        job = job_over([_intermediate(own, store, mirror, device, shared) for own in over])
        run = execute(job, store, device)
    else:
        say(f"{run.name}: done before, in {run.folder}")
    if out is not None:
        store.copy(run, out)
    return run


def _intermediate(own: str | Run, store: RunStore, mirror: Path | None, device: str, shared: dict[str, Any]) -> Run:
    """A finished run for one of `over`: a task's name or YAML is trained first, anything else is looked up."""
    if isinstance(own, Run):
        return own
    try:
        task = find_task(own)
    except UsageError as no_task:
        if own.endswith((".yaml", ".yml")):
            raise
        try:
            return store.find(own)
        except UsageError as no_run:
            raise UsageError(f"--over {own}: neither a run nor a task ({no_run}; {no_task})") from None
    return train(task, runs=store, mirror=mirror, device=device, **shared)


def execute(job: Job, store: RunStore, device: str) -> Run:
    """Train a job and put its folder into the store, whole or not at all."""
    started = time.perf_counter()
    reset_peak_memory(device)
    data = load_training_data(job)
    model = build_model(job, data.labels, device)
    fitted = fit(job, model, data)
    model.eval()
    try:
        with store.create(job.name) as folder:
            manifest = save_bundle(folder / BUNDLE, model, manifest_of(job, data.labels))
            cost = Cost(
                train_seconds=fitted.train_seconds,
                seconds=time.perf_counter() - started,
                steps=fitted.steps,
                tokens_per_second=fitted.tokens / fitted.train_seconds,
                peak_memory_bytes=peak_memory_bytes(device),
                bundle_bytes=sum(file.bytes for file in manifest.files.values()),
            )
            write_record(folder, record_of(job, data, fitted, cost, device))
    except FileExistsError:
        say(f"{job.name}: another process finished it first; its run stays")
    return Run(store.folder / job.name, read_record(store.folder / job.name))


def manifest_of(job: Job, labels: Sequence[str]) -> Manifest:
    """What the job's bundle will be, without its files."""
    arrangement = job.arrangement
    return Manifest(
        task=job.task.name,
        kind=job.task.kind,
        method=job.method,
        composition=job.composition,
        adapters=arrangement.adapters,
        head=arrangement.head,
        labels=tuple(labels),
        word_piece=job.task.word_piece,
        dropout=job.recipe.dropout,
        backbone=stored_backbone(job.backbone),
    )


def record_of(job: Job, data: TrainingData, fitted: Fitted, cost: Cost, device: str) -> Record:
    """The record of a finished job."""
    packages, python = package_versions()
    task = job.task
    return Record(
        name=job.name,
        identity=dict(job.identity),
        task=_stored_task(task),
        method=job.method,
        composition=job.composition,
        over=tuple(_underneath(run) for run in job.intermediates),
        backbone=stored_backbone(job.backbone),
        seed=job.seed,
        limit=job.limit,
        recipe=job.recipe,
        word_piece=task.word_piece,
        labels=data.labels,
        data=(
            _stored_data(data.train, data.train_examples),
            _stored_data(data.development, data.development_examples),
        ),
        trainable_parameters=fitted.trainable_parameters,
        total_parameters=fitted.total_parameters,
        history=tuple(fitted.history),
        selected_epoch=fitted.selected_epoch,
        development=fitted.history[fitted.selected_epoch - 1].scores[task.selection_metric],
        cost=cost,
        device=device_name(device),
        threads=torch.get_num_threads(),
        precision=job.precision,
        packages=packages,
        python=python,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _stored_task(task: Task) -> StoredTask:
    shipped = task.name if task in all_tasks() else str(task.path)
    return StoredTask(
        config=shipped, **{name: getattr(task, name) for name in StoredTask.model_fields if name != "config"}
    )


def _underneath(run: Run) -> Underneath:
    task = run.record.task
    return Underneath(
        run=run.name,
        task=task.name,
        knowledge=task.knowledge,
        granularity=task.granularity,
        development=run.record.development,
    )


def _stored_data(split: EncodedSplit, examples: Any) -> StoredData:
    sequences = split.sequences_of(examples)
    return StoredData(
        language=split.language,
        split=split.split,
        sha256=split.sha256,
        source=split.source,
        revision=split.revision,
        available=split.examples,
        examples=len(examples),
        tokens=int(split.lengths[sequences].sum()),
        units=int((split.unit_offsets[sequences + 1] - split.unit_offsets[sequences]).sum()),
    )
