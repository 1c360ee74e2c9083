"""What a user asks for, as one value: from Python, the command line and studies alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adapter_stilts.errors import UsageError
from adapter_stilts.jobs.refusals import check_control
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.composition import BOTTLENECK_NAMES
from adapter_stilts.paths import exists, user_path
from adapter_stilts.runs.record import Control
from adapter_stilts.runs.store import Run, RunStore
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import find_tasks

# What `over` may name an intermediate by.
Underneath = str | Path | Task | Run


@dataclass(frozen=True)
class Request:
    """Everything that decides a run's result, as it was asked for; `resolve` makes a job of it.

    `over` are finished runs, and requests for what is trained first. `compose` is the composition (None: the default
    for so many intermediates). `limit` is the number of training examples of each task, `match_tokens` instead that of
    its training pieces; `development_limit` the number of development examples that are scored after each epoch, also
    of a head of masked language modelling that is trained first (None: the recipe's). `languages` are those of the
    training data (None: each task's own). `settings` maps fields of the recipe to what would be typed after --set.
    `precision` is float32 or bf16.
    """

    tasks: tuple[Task, ...]
    backbone: Backbone
    precision: str
    over: tuple[Run | Request, ...] = ()
    compose: str | None = None
    method: str = "bottleneck"
    seed: int = 0
    limit: int | None = None
    development_limit: int | None = None
    match_tokens: int | None = None
    languages: tuple[str, ...] | None = None
    control: Control | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def __hash__(self) -> int:
        # Tasks, settings and records hold mappings, which have no hash: equal requests agree in this much.
        over = tuple(below if isinstance(below, Request) else below.name for below in self.over)
        names = tuple(task.name for task in self.tasks)
        return hash((names, self.method, self.compose, self.control, self.seed, self.limit, self.match_tokens, over))

    @property
    def recipe_settings(self) -> dict[str, str]:
        """`settings` with the number of development examples."""
        if self.development_limit is None:
            return dict(self.settings)
        return {**self.settings, "development_examples": str(self.development_limit)}

    def normalised(self) -> Request:
        """The request in the one form of all that mean the same: houlsby, parallel and compacter are architectures of
        bottleneck adapters, and languages are as `training_languages` has them. Raises UsageError for an architecture
        that is set otherwise than the method says."""
        request = self
        if self.languages is not None:
            request = replace(self, languages=training_languages(self.tasks, self.languages))
        if self.method not in BOTTLENECK_NAMES:
            return request
        if (adapter := self.settings.get("adapter", self.method)) != self.method:
            raise UsageError(f"--set adapter: found {adapter} with --method {self.method}, accepted: {self.method}")
        return replace(request, method="bottleneck", settings={"adapter": self.method, **self.settings})

    def for_intermediate(self, tasks: Sequence[Task], control: Control | None = None) -> Request:
        """The request for tasks that are trained first and lie underneath: with the same method, backbone, seed,
        precision and limits, where `match_tokens` goes before `limit`; the rest is the target's alone."""
        limit = self.limit if self.match_tokens is None else None
        alone = replace(self, over=(), compose=None, languages=None, settings={})
        return replace(alone, tasks=tuple(tasks), control=control, limit=limit)

    def standing_on(self, over: Sequence[Underneath], store: RunStore) -> Request:
        """The request over intermediates as a user names them, which then have its `match_tokens`.

        Raises UsageError for what is neither a run, of this store or in a folder, nor a task, and where `match_tokens`
        decide nothing.
        """
        if not over:
            return self
        below = tuple(self._intermediate(named, store) for named in over)
        if self.match_tokens is not None and all(isinstance(one, Run) for one in below):
            raise UsageError(
                f"--match-tokens: found {self.match_tokens} over finished runs alone, accepted with a task in --over, "
                "which is then trained on so many pieces"
            )
        return replace(self, over=below, match_tokens=None)

    def _intermediate(self, named: Underneath, store: RunStore) -> Run | Request:
        """One of `over`: tasks (a text with + between, and @ and a control behind), else a run of the store."""
        if isinstance(named, Run):
            return named
        if isinstance(named, Task):
            return self.for_intermediate([named])
        text = str(named)
        names, _, control = text.partition("@") if not exists(user_path(text)) else (text, "", "")
        try:
            tasks = find_tasks(names)
        except UsageError as no_task:
            if names.endswith((".yaml", ".yml")):
                raise
            try:
                return store.find(text)
            except UsageError as no_run:
                raise UsageError(f"--over {text}: neither a run nor a task ({no_run}; {no_task})") from None
        check_control(control or None, 0)
        return self.for_intermediate(tasks, control or None)  # type: ignore[arg-type]


def training_languages(tasks: Sequence[Task], languages: Sequence[str]) -> tuple[str, ...]:
    """Languages of training data, each once and in the order of the (first) task's data: in whatever way they are
    written, they are one run. What the task does not have stays, last."""
    known = list(tasks[0].data.languages)
    return tuple(sorted(dict.fromkeys(languages), key=lambda code: known.index(code) if code in known else len(known)))


def only_train_language(tasks: Sequence[Task], languages: Sequence[str] | None) -> bool:
    """Whether languages are those that the tasks train in anyway."""
    return languages is None or all(set(languages) == {task.train_language} for task in tasks)
