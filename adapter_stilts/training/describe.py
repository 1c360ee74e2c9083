"""What a finished job says of itself: its bundle's manifest and its record."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import torch

from adapter_stilts.engine.device import device_name
from adapter_stilts.errors import StiltsError
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import TrainingData, TrainingPart
from adapter_stilts.progress import say
from adapter_stilts.runs.leaks import Leak
from adapter_stilts.runs.manifest import MULTI_TASK, Manifest, stored_backbone
from adapter_stilts.runs.record import (
    Cost,
    Record,
    StoredData,
    StoredPart,
    StoredTask,
    Underneath,
    package_versions,
)
from adapter_stilts.runs.store import Run
from adapter_stilts.runs.update import update_record
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import all_tasks
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.tasks.scoring import majority_score
from adapter_stilts.training.state import Fitted


def manifest_of(job: Job, data: TrainingData) -> Manifest:
    """What the job's bundle will be, without its files."""
    arrangement, (first, *more) = job.arrangement, data.tasks
    return Manifest(
        task=job.title,
        kind=job.task.kind if len(job.tasks) == 1 else MULTI_TASK,
        method=job.method,
        composition=job.composition,
        adapters=arrangement.adapters,
        fused=arrangement.fused,
        baked=arrangement.baked,
        head=first.head,
        labels=first.labels,
        more_heads={part.head: part.labels for part in more},
        word_piece=job.task.options.labelling,
        options=job.task.options.stored(),
        dropout=job.recipe.dropout,
        backbone=stored_backbone(job.backbone),
    )


def record_of(
    job: Job,
    data: TrainingData,
    fitted: Fitted,
    cost: Cost,
    device: str,
    leaks: tuple[Leak, ...] | None = None,
) -> Record:
    """The record of a finished job."""
    packages, python = package_versions()
    return Record(
        name=job.name,
        identity=dict(job.identity),
        task=stored_task(job.tasks),
        method=job.method,
        composition=job.composition,
        variant=job.variant,
        control=job.control,
        languages=job.languages or tuple(dict.fromkeys(task.train_language for task in job.tasks)),
        match_tokens=job.match_tokens,
        over=tuple(_underneath(run) for run in job.runs),
        backbone=stored_backbone(job.backbone),
        seed=job.seed,
        limit=job.limit,
        recipe=job.recipe,
        word_piece=job.task.options.labelling,
        labels=data.tasks[0].labels,
        data=tuple(stored for part in data.parts for stored in _stored_part(part)),
        parts=tuple(StoredPart(**vars(part)) for part in fitted.parts),
        trainable_parameters=fitted.trainable_parameters,
        total_parameters=fitted.total_parameters,
        history=tuple(fitted.history),
        selected_epoch=fitted.selected_epoch,
        development=fitted.development,
        development_majority=development_majority(data),
        development_labels=fitted.development_labels,
        leaks=leaks,
        cost=cost,
        executed=fitted.executed,
        device=device_name(device),
        threads=torch.get_num_threads(),
        precision=job.precision,
        packages=packages,
        python=python,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def development_majority(data: TrainingData) -> float | None:
    """What the majority class would score on the development examples in percent, of several tasks the mean; None
    where a task's kind has no constant answer."""
    scores = []
    for part in data.tasks:
        kind = part.use.kind
        if part.development is None or kind.gold is None or kind.floor is None:
            return None
        gold = kind.gold(part.development, part.development_examples)
        scores.append(majority_score(part.task.kind, part.task.metrics, gold)[part.task.selection_metric])
    return fmean(scores)


def asked_with(run: Run, tasks: Sequence[Task]) -> Run:
    """The run with its record pointing at the YAML with which it has now been asked for, which is said: a run's name
    tells what it trained on, but neither where that lies nor what its task tests on."""
    config, before = stored_task(tasks).config, run.record.task.config
    if config == before:
        return run

    def pointed(record: Record) -> Record:
        return record.model_copy(update={"task": record.task.model_copy(update={"config": config})})

    try:
        record = update_record(run.folder, pointed)
    except (OSError, StiltsError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        say(f"{run.name}: {run.folder} cannot be written ({reason}): evaluated on {before} as before; see --task")
        return run
    say(f"{run.name}: evaluated on {config} from now on (before: {before})")
    return Run(run.folder, record)


def stored_task(tasks: Sequence[Task]) -> StoredTask:
    """A task as records have it; of several the names with + between, and `mixed` where they differ."""

    def common(field: str) -> Any:
        values = list(dict.fromkeys(getattr(task, field) for task in tasks))
        return values[0] if len(values) == 1 else "mixed"

    shipped = all_tasks()
    return StoredTask(
        config="+".join(task.name if task in shipped else str(task.path) for task in tasks),
        name="+".join(task.name for task in tasks),
        version=max(task.version for task in tasks),
        kind=tasks[0].kind if len(tasks) == 1 else MULTI_TASK,
        role=common("role"),
        knowledge=common("knowledge"),
        granularity=common("granularity"),
        metrics=tuple(dict.fromkeys(metric for task in tasks for metric in task.metrics)),
        selection_metric=tasks[0].selection_metric,
        licence="; ".join(dict.fromkeys(task.licence for task in tasks)),
    )


def _underneath(run: Run) -> Underneath:
    record = run.record
    about = ", ".join(text for text in (record.control, record.variant) if text)
    if record.composition != "none":
        over = " + ".join(below.label for below in record.over)
        about = ", ".join(text for text in (f"{record.composition} over {over}", about) if text)
    return Underneath(
        run=run.name,
        task=record.task.name,
        label=record.task.name + (f" ({about})" if about else ""),
        control=record.control or next((below.control for below in record.over if below.control), None),
        knowledge=record.task.knowledge,
        granularity=record.task.granularity,
        development=record.development,
    )


def _stored_part(part: TrainingPart) -> list[StoredData]:
    used = [(part.train, part.train_examples)]
    used += [(part.development, part.development_examples)] if part.development is not None else []
    return [_stored_data(part.task, split, examples) for split, examples in used]


def _stored_data(task: Task, split: EncodedSplit, examples: np.ndarray) -> StoredData:
    sequences = split.sequences_of(examples)
    return StoredData(
        task=task.name,
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
