"""A run before it runs: everything that decides its result, and the name that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from adapter_stilts.errors import StiltsError
from adapter_stilts.model.arrangement import Arrangement, arrange
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.composition import Composition, Method
from adapter_stilts.runs.manifest import StoredBackbone, read_manifest, stored_backbone
from adapter_stilts.runs.record import Control
from adapter_stilts.runs.store import Run, content_hash
from adapter_stilts.schema import Recipe, Task
from adapter_stilts.tasks.kinds import MIXED_IN

# Name of the head of what a recipe mixes in.
MIXED_IN_HEAD = MIXED_IN.name
MERGED = "merged"
NULL = "nothing"
# Characters of the tasks in a run's name: the hash behind them decides, and a file's name is at most 255 long.
_LONGEST_TITLE = 60


@dataclass(frozen=True)
class MixedIn:
    """A task that is mixed in: the languages that are there, and where its head comes from (a `head` run; None: the
    checkpoint's own)."""

    task: Task
    languages: tuple[str, ...]
    head: Intermediate | None

    @property
    def head_run(self) -> Run | None:
        """The finished run of the head. Raises StiltsError where it has yet to be trained."""
        return None if self.head is None else self.head.run


@dataclass(frozen=True)
class Intermediate:
    """What a job must know of a run underneath: a finished one, or a job that has yet to run.

    `identity_hash` stands for it in the identity of what stands on it; `title` is the names of its tasks; `adapters`
    are those of its bundle, in order.
    """

    name: str
    identity_hash: str
    title: str
    method: Method
    composition: Composition
    backbone: StoredBackbone
    recipe: Recipe
    adapters: tuple[str, ...]
    source: Run | Job = field(repr=False, compare=False)

    @classmethod
    def of_run(cls, run: Run) -> Intermediate:
        """A finished run. Raises StiltsError where its bundle's manifest is damaged."""
        record = run.record
        if run.has_weights:
            adapters = read_manifest(run.bundle).adapters
        else:  # nothing can be built on it: their number alone is asked for
            parts = (part.name.partition(" ") for part in record.parts)
            adapters = tuple(name for kind, _, name in parts if kind == "adapter")
        return cls(
            record.name,
            content_hash(record.identity),
            record.task.name,
            record.method,
            record.composition,
            record.backbone,
            record.recipe,
            adapters,
            run,
        )

    @classmethod
    def of_job(cls, job: Job) -> Intermediate:
        """A job that is yet to run, as its run will be."""
        return cls(
            job.name,
            job.identity_hash,
            job.title,
            job.method,
            job.composition,
            stored_backbone(job.backbone),
            job.recipe,
            job.arrangement.adapters,
            job,
        )

    @property
    def run(self) -> Run:
        """The finished run. Raises StiltsError where it has yet to be trained."""
        if isinstance(self.source, Run):
            return self.source
        raise StiltsError(f"{self.name}: has yet to be trained")


@dataclass(frozen=True)
class Job:
    """One training run, resolved.

    `tasks` are trained together, with one adapter and a head each; `intermediates` lie underneath, and are finished
    once this job runs; `limit` is the number of training examples of each task, `match_tokens` the number of pieces;
    `languages` those of the training data (None: each task's own); `variant` what sets the run apart from others of its
    method and composition.
    """

    tasks: tuple[Task, ...]
    method: Method
    composition: Composition
    intermediates: tuple[Intermediate, ...]
    backbone: Backbone
    recipe: Recipe
    seed: int
    limit: int | None
    match_tokens: int | None
    languages: tuple[str, ...] | None
    control: Control | None
    mixed_in: MixedIn | None
    variant: str
    precision: str
    mirror: Path | None
    identity: Mapping[str, Any]

    @property
    def task(self) -> Task:
        """The only task, or the first."""
        return self.tasks[0]

    @property
    def title(self) -> str:
        """The tasks' names."""
        return "+".join(task.name for task in self.tasks)

    @cached_property
    def identity_hash(self) -> str:
        """What alone decides the name."""
        return content_hash(self.identity)

    @property
    def name(self) -> str:
        """Readable parts, then the hash of the identity, which alone decides."""
        over = "".join(f"-over-{intermediate.title}" for intermediate in self.intermediates)
        control = f"-{self.control}" if self.control else ""
        parts = f"{self.title[:_LONGEST_TITLE]}-{self.method}-{self.composition}{control}{over[:_LONGEST_TITLE]}"
        return f"{parts}-s{self.seed}-{self.identity_hash}"

    @property
    def adapter(self) -> str:
        """Name of the adapter that trains."""
        return adapter_name(self.title)

    @property
    def below(self) -> tuple[Intermediate, ...]:
        """The intermediates, and the run of the head of masked language modelling where that is trained first."""
        head = self.mixed_in.head if self.mixed_in is not None else None
        return self.intermediates if head is None else (*self.intermediates, head)

    @property
    def runs(self) -> tuple[Run, ...]:
        """The finished runs of the intermediates. Raises StiltsError for one that has yet to be trained."""
        return tuple(intermediate.run for intermediate in self.intermediates)

    @property
    def underneath(self) -> list[tuple[Intermediate, str, str]]:
        """(intermediate, adapter in its bundle, name in this model) of every adapter that is loaded, in order.

        A run that is itself a stack brings all its adapters. Names are made unique: a task may stand on itself.
        """
        if self.method in ("full", "head"):
            return []
        names = {self.adapter, MERGED, NULL}
        loaded = []
        for intermediate in self.intermediates:
            for adapter in intermediate.adapters:
                name, number = adapter, 2
                while name in names:
                    name, number = f"{adapter}_{number}", number + 1
                names.add(name)
                loaded.append((intermediate, adapter, name))
        return loaded

    @property
    def arrangement(self) -> Arrangement:
        """What is active and what trains."""
        names = [name for _, _, name in self.underneath]
        if self.composition == "continue":
            names = []
        elif self.composition == "merge":
            names = [MERGED] if self.recipe.merge_then == "stack" else []
        elif self.composition == "fuse" and self.recipe.fusion_null:
            names = [*names, NULL]
        heads = [adapter_name(task.name) for task in self.tasks]
        frozen = [MIXED_IN_HEAD] if self.mixed_in is not None else []
        return arrange(self.method, self.composition, self.adapter, names, heads, frozen)


def adapter_name(title: str) -> str:
    """Name of an adapter or head in a model; a module's name holds no dot."""
    return title.replace(".", "_").replace("+", "_and_")
