"""A run before it runs: everything that decides its result, and the name that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_stilts.model.arrangement import Arrangement, arrange
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.composition import Composition, Method
from adapter_stilts.runs.manifest import read_manifest
from adapter_stilts.runs.record import Control
from adapter_stilts.runs.store import Run, bundle_of, content_hash
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
    """Masked language modelling that is mixed in: its text, the languages that are there, and where its head comes
    from (a `head` run; None: the checkpoint's own)."""

    task: Task
    languages: tuple[str, ...]
    head_run: Run | None


@dataclass(frozen=True)
class Job:
    """One training run, resolved.

    `tasks` are trained together, with one adapter and a head each; `intermediates` are finished runs; `limit` is the
    number of training examples of each task, `match_tokens` the number of pieces; `languages` those of the training
    data (None: each task's own); `variant` what sets the run apart from others of its method and composition.
    """

    tasks: tuple[Task, ...]
    method: Method
    composition: Composition
    intermediates: tuple[Run, ...]
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

    @property
    def name(self) -> str:
        """Readable parts, then the hash of the identity, which alone decides."""
        over = "".join(f"-over-{run.record.task.name}" for run in self.intermediates)
        control = f"-{self.control}" if self.control else ""
        parts = f"{self.title[:_LONGEST_TITLE]}-{self.method}-{self.composition}{control}{over[:_LONGEST_TITLE]}"
        return f"{parts}-s{self.seed}-{content_hash(self.identity)}"

    @property
    def adapter(self) -> str:
        """Name of the adapter that trains."""
        return adapter_name(self.title)

    @property
    def underneath(self) -> list[tuple[Run, str, str]]:
        """(run, adapter in its bundle, name in this model) of every adapter that is loaded, in order.

        A run that is itself a stack brings all its adapters. Names are made unique: a task may stand on itself.
        """
        if self.method in ("full", "head"):
            return []
        taken = {self.adapter, MERGED, NULL}
        placed = []
        for run in self.intermediates:
            for adapter in read_manifest(bundle_of(run)).adapters:
                name, number = adapter, 2
                while name in taken:
                    name, number = f"{adapter}_{number}", number + 1
                taken.add(name)
                placed.append((run, adapter, name))
        return placed

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
