"""A run before it runs: everything that decides its result, and the name that follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_stilts.errors import UsageError
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.composition import Arrangement, Composition, Method, arrange, choose_composition
from adapter_stilts.runs.bundle import check_backbone, read_manifest
from adapter_stilts.runs.store import Run, bundle_of, content_hash
from adapter_stilts.schema import Recipe, Task, override
from adapter_stilts.tasks.catalog import recipe_for
from adapter_stilts.tasks.data import data_identity
from adapter_stilts.tasks.encode import ENCODING_VERSION, reading_of, tokenizer_hash

# Raise it when training gives other weights for the same request: run names change with it.
TRAINING_VERSION = 1


@dataclass(frozen=True)
class Job:
    """One training run, resolved. `intermediates` are finished runs; `limit` the number of English examples."""

    task: Task
    method: Method
    composition: Composition
    intermediates: tuple[Run, ...]
    backbone: Backbone
    recipe: Recipe
    seed: int
    limit: int | None
    precision: str
    mirror: Path | None
    identity: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Readable parts, then the hash of the identity, which alone decides."""
        over = "".join(f"-over-{run.record.task.name}" for run in self.intermediates)
        parts = f"{self.task.name}-{self.method}-{self.composition}{over}-s{self.seed}"
        return f"{parts}-{content_hash(self.identity)}"

    @property
    def arrangement(self) -> Arrangement:
        """What is active and what trains."""
        return arrange(self.method, self.composition, adapter_name(self.task.name), [name for _, name in self.adapters])

    @property
    def adapters(self) -> list[tuple[tuple[Run, str], str]]:
        """((run, adapter in its bundle), name in this model) of every adapter underneath, in order.

        A run that is itself a stack brings all its adapters. Names are made unique: a task may stand on itself.
        """
        if self.method == "full":
            return []
        taken = {adapter_name(self.task.name)}
        placed = []
        for run in self.intermediates:
            for adapter in read_manifest(bundle_of(run)).adapters:
                name, number = adapter, 2
                while name in taken:
                    name, number = f"{adapter}_{number}", number + 1
                taken.add(name)
                placed.append(((run, adapter), name))
        return placed


def adapter_name(task: str) -> str:
    """Name of a task's adapter and head in a model; a module's name holds no dot."""
    return task.replace(".", "_")


def make_job(
    task: Task,
    intermediates: Sequence[Run],
    compose: str | None,
    method: str,
    backbone: Backbone,
    seed: int,
    limit: int | None,
    settings: Mapping[str, str],
    precision: str,
    mirror: Path | None,
) -> Job:
    """Check a request and resolve it; loads no weights and no rows.

    Raises UsageError for a composition that is not possible, a recipe field that does not exist, an intermediate of
    another backbone or method.
    """
    composition = choose_composition(method, compose, len(intermediates))
    if limit is not None and limit < 1:
        raise UsageError(f"--limit: found {limit}, accepted: at least 1 example")
    recipe = override(recipe_for(task, method, backbone.id), settings)  # type: ignore[arg-type]
    for run in intermediates:
        if run.record.method != method:
            raise UsageError(
                f"--over {run.name}: a {run.record.method} run, accepted under --method {method}: {method}"
            )
        check_backbone(run.folder, run.record.backbone, backbone)
    identity = {
        "training": TRAINING_VERSION,
        "backbone": backbone.sha256,
        "tokenizer": tokenizer_hash(backbone.tokenizer),
        "task": {"name": task.name, "version": task.version, "encoding": ENCODING_VERSION},
        "reading": reading_of(task, task.train_language),
        "data": {split: data_identity(task, task.train_language, split, mirror) for split in ("train", "validation")},
        "word_piece": task.word_piece,
        "selection_metric": task.selection_metric,
        "method": method,
        "composition": composition,
        "over": [content_hash(run.record.identity) for run in intermediates],
        "recipe": recipe.model_dump(mode="json", exclude={"tuning"}),
        "seed": seed,
        "limit": limit,
        "precision": precision,
    }
    return Job(
        task,
        method,  # type: ignore[arg-type]
        composition,
        tuple(intermediates),
        backbone,
        recipe,
        seed,
        limit,
        precision,
        mirror,
        identity,
    )
