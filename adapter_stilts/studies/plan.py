"""A study as a graph of runs: each training once, however many cells stand on it, named before anything trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from adapter_stilts.engine.device import default_device, default_precision
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.evaluation.scored_task import check_languages, evaluation_name, language_identities
from adapter_stilts.evaluation.scores import SCORES
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.remembered import Remembered
from adapter_stilts.jobs.request import check_request, make_job, present_languages
from adapter_stilts.model.backbone import Backbone, find_backbone, has_masked_lm_head
from adapter_stilts.model.composition import BOTTLENECK_NAMES
from adapter_stilts.paths import mirror_dir
from adapter_stilts.runs.manifest import stored_backbone
from adapter_stilts.runs.record import RECORD, Record, StoredPart, StoredTask, read_record
from adapter_stilts.runs.store import BUNDLE, EVALUATIONS, Run, RunStore
from adapter_stilts.runs.tidy import tidy
from adapter_stilts.schema import Task
from adapter_stilts.studies.grid import (
    Cell,
    Training,
    expand,
    intermediate_of,
    intermediate_title,
    tasks_of,
    training_of,
)
from adapter_stilts.study_schema import Study
from adapter_stilts.tasks.catalog import all_tasks, find_task

State = Literal["done", "to do", "not needed"]


@dataclass(frozen=True)
class Node:
    """One run: `name` is what `train` will call it, `over` the names of the runs whose weights it reads (those
    underneath, then the one that trained its head of masked language modelling, if any), `cells` the cells of the grid
    that it answers (none: not scored)."""

    name: str
    training: Training
    over: tuple[str, ...]
    cells: tuple[Cell, ...]
    job: Job = field(repr=False, compare=False)

    @property
    def target(self) -> str | None:
        """The task that the run is scored on, as the study names it; None for an intermediate."""
        return self.cells[0].target if self.cells else None


@dataclass(frozen=True)
class Plan:
    """A study's runs, those underneath before those that stand on them, and where they are trained."""

    study: Study
    nodes: Mapping[str, Node]
    store: RunStore
    backbone: Backbone
    mirror: Path | None
    device: str
    evaluations: Mapping[str, Mapping[str, str]] = field(repr=False)

    def dependants(self) -> dict[str, list[str]]:
        """Name of a run -> those that stand directly on it."""
        above: dict[str, list[str]] = {name: [] for name in self.nodes}
        for name, node in self.nodes.items():
            for own in node.over:
                above[own].append(name)
        return above


@dataclass(frozen=True)
class StudyRun:
    """A cell of a study, its run's name, and the run and its evaluation's folder, once it is trained and scored."""

    cell: Cell
    name: str
    run: Run | None
    evaluation: Path | None


def make_plan(
    study: Study,
    store: RunStore | Path | str | None = None,
    *,
    backbone: str | Backbone | None = None,
    mirror: Path | str | None = None,
    device: str | None = None,
) -> Plan:
    """The study's runs; loads no weights, and rows of no data. `backbone` stands in for the study's.

    Raises UsageError for a cell that cannot be trained as it is asked for, StiltsError for data that are not there.
    """
    mirror = mirror_dir(mirror)
    base = backbone if isinstance(backbone, Backbone) else find_backbone(backbone or study.backbone, mirror=mirror)
    device = device or default_device()
    store = store if isinstance(store, RunStore) else RunStore(store)
    tidy(store)
    maker = _Maker(study, store, base, mirror, default_precision(device))
    cells: dict[str, list[Cell]] = {}
    for cell in expand(study):
        cells.setdefault(maker.name(training_of(study, cell), cell), []).append(cell)
    order = TopologicalSorter({name: over for name, (_, over, _) in maker.made.items()}).static_order()
    nodes = {}
    for name in order:
        training, over, job = maker.made[name]
        nodes[name] = Node(name, training, over, tuple(cells.get(name, ())), job)
        _refuse_two_targets(study, nodes[name])
    evaluations = {target: _test_identities(study, target, mirror) for target in study.targets}
    return Plan(study, nodes, store, base, mirror, device, evaluations)


def _refuse_two_targets(study: Study, node: Node) -> None:
    """Raise UsageError where a run answers cells of two targets: of one name and with equal training data, they are one
    run, and a row of a table has one set of test data."""
    targets = list(dict.fromkeys(cell.target for cell in node.cells))
    if len(targets) > 1:
        raise UsageError(
            f"{study.path}: targets: found {' and '.join(targets)}, which train one run ({node.name}), accepted one of "
            "them (the other in a study of its own, or with `evaluate --task`)"
        )


class _Maker:
    """Makes the jobs of trainings, each once, over stand-ins for the runs that do not exist yet."""

    def __init__(self, study: Study, store: RunStore, backbone: Backbone, mirror: Path | None, precision: str) -> None:
        self.study, self.store, self.backbone, self.mirror, self.precision = study, store, backbone, mirror, precision
        self.made: dict[str, tuple[Training, tuple[str, ...], Job]] = {}
        self._names: dict[Training, str] = {}
        self._runs: dict[str, Run] = {}
        self._known = Remembered()

    def name(self, training: Training, cell: Cell) -> str:
        """The name of a training's run. Raises UsageError, naming the cell, where it cannot be trained so."""
        found = self._names.get(training)
        if found is None:
            try:
                found = self._make(training, cell)
            except UsageError as error:
                raise UsageError(f"{self.study.path}: {cell.label}: {error}") from None
            self._names[training] = found
        return found

    def _make(self, training: Training, cell: Cell) -> str:
        over = tuple(self.name(own, cell) for own in training.over)
        method, settings = training.method, dict(training.settings)
        if method in BOTTLENECK_NAMES:
            method, settings = "bottleneck", {"adapter": method, **settings}
        tasks = tasks_of(training.task)
        amount = (training.limit, training.match_tokens)
        request = (tasks, method, training.composition, len(over), settings, self.backbone, *amount, training.control)
        _, recipe = self._known(check_request, *request)
        masked_lm = find_task(recipe.mlm_task) if recipe.mlm_share else None
        heads = self._masked_lm_heads(masked_lm, training, cell)
        job = make_job(
            tasks,
            intermediates=[self._stand_in(own) for own in over],
            compose=training.composition,
            method=method,
            backbone=self.backbone,
            seed=training.seed,
            limit=training.limit,
            match_tokens=training.match_tokens,
            languages=training.languages,
            control=training.control,  # type: ignore[arg-type]
            settings=settings,
            masked_lm_head=self._stand_in(heads[0]) if heads else None,
            masked_lm_task=masked_lm,
            precision=self.precision,
            mirror=self.mirror,
            remembered=self._known,
        )
        name = job.name
        self.made.setdefault(name, (training, (*over, *heads), job))
        return name

    def _masked_lm_heads(self, masked_lm: Task | None, training: Training, cell: Cell) -> tuple[str, ...]:
        """The run that trains a head on the text of masked language modelling, as `train` asks for it; none where there
        is no such text, or the checkpoint has a head."""
        if masked_lm is None:
            return ()
        if self._known(has_masked_lm_head, self.backbone):
            return ()
        languages = self._known(present_languages, masked_lm, self.mirror)
        name = masked_lm.name if masked_lm in all_tasks() else str(masked_lm.path)
        amount = (training.seed, training.limit, training.match_tokens)
        return (self.name(Training(name, "head", "none", (), None, *amount, (), languages), cell),)

    def _stand_in(self, name: str) -> Run:
        """What `make_job` asks of a run underneath, before there is one."""
        if name not in self._runs:
            _, _, job = self.made[name]
            parts = [] if job.method in ("full", "head") else [f"adapter {job.adapter}"]
            record = Record.model_construct(
                name=name,
                identity=dict(job.identity),
                task=StoredTask.model_construct(name=job.title),
                method=job.method,
                composition=job.composition,
                control=job.control,
                over=(),
                backbone=stored_backbone(self.backbone),
                recipe=job.recipe,
                parts=tuple(StoredPart(name=own, trains=True, tensors=0, parameters=0) for own in parts),
                scores={},
            )
            self._runs[name] = Run(self.store.folder / name, record)
        return self._runs[name]


def _test_identities(study: Study, target: str, mirror: Path | None) -> dict[str, str]:
    (task,) = tasks_of(target)
    codes = check_languages(task, study.test_languages)
    identities, missing = language_identities(task, codes, study.split, mirror)
    if not identities:
        reason = next(iter(missing.values()))
        raise StiltsError(f"{task.name}: no {study.split} data in any language; first: {reason}")
    return identities


# --- what is done -----------------------------------------------------------------------------------------------------


def states(plan: Plan) -> dict[str, State]:
    """What is done, to do, or not needed (an intermediate on which nothing waits). Reads records alone.

    A target is done once it is trained and scored; an intermediate once its run is there, and its weights as well where
    a run that is to do stands on it.
    """
    found: dict[str, State] = {}
    above = plan.dependants()
    there = present(plan.store)
    for name in reversed(list(plan.nodes)):
        node = plan.nodes[name]
        waited_for = any(found[own] == "to do" for own in above[name])
        scored = not node.cells or (name in there and evaluation_of(plan, node) is not None)
        if name in there and scored and (not waited_for or (plan.store.folder / name / BUNDLE).is_dir()):
            found[name] = "done"
        else:
            found[name] = "to do" if waited_for or node.cells else "not needed"
    return {name: found[name] for name in plan.nodes}


def present(store: RunStore) -> set[str]:
    """Names of the finished runs."""
    return set(store.names())


def evaluation_of(plan: Plan, node: Node) -> Path | None:
    """The folder of a target's evaluation as the study asks for it; None where it is not scored, or its record is
    damaged."""
    folder = plan.store.folder / node.name
    try:
        record = read_record(folder)
    except StiltsError:
        return None
    name = _evaluation_name(plan, node, Run(folder, record))
    whole = name in record.scores and (folder / EVALUATIONS / name / SCORES).is_file()
    return folder / EVALUATIONS / name if whole else None


def _evaluation_name(plan: Plan, node: Node, run: Run) -> str:
    assert node.target is not None
    (task,) = tasks_of(node.target)
    study = plan.study
    return evaluation_name(run, task.metrics, study.split, study.test_limit, plan.evaluations[node.target])


def study_runs(
    study: Study,
    store: RunStore | Path | str | None = None,
    *,
    backbone: str | Backbone | None = None,
    mirror: Path | str | None = None,
    device: str | None = None,
) -> list[StudyRun]:
    """Every cell of a study, in its order, with its run where that is finished: what an analysis reads."""
    return list(runs_of(make_plan(study, store, backbone=backbone, mirror=mirror, device=device)))


def runs_of(plan: Plan) -> Iterator[StudyRun]:
    """As `study_runs`, of a plan."""
    place = {cell: number for number, cell in enumerate(expand(plan.study))}
    pairs = [(cell, node) for node in plan.nodes.values() for cell in node.cells]
    for cell, node in sorted(pairs, key=lambda pair: place[pair[0]]):
        folder = plan.store.folder / node.name
        evaluation = evaluation_of(plan, node) if (folder / RECORD).is_file() else None
        run = Run(folder, read_record(folder)) if evaluation is not None else None
        yield StudyRun(cell, node.name, run, evaluation)


def titles_of(plan: Plan) -> dict[str, str]:
    """What each run trains, in a reader's words: two intermediates of one task are told apart."""
    known = {
        intermediate_of(plan.study, cell, label): intermediate_title(one)
        for node in plan.nodes.values()
        for cell in node.cells
        for label, one in zip(cell.over, cell.intermediates, strict=True)
    }
    return {name: known.get(node.training, node.job.title) for name, node in plan.nodes.items()}


def as_dot(plan: Plan) -> str:
    """The graph in Graphviz' language, what is done filled."""
    lines = ["digraph study {", "  rankdir=LR;", "  node [shape=box, fontname=Helvetica];"]
    now, titles = states(plan), titles_of(plan)
    for name, node in plan.nodes.items():
        style = ' style=filled fillcolor="gray85"' if now[name] == "done" else ""
        lines.append(f'  "{name}" [label="{_dot_label(node, titles[name])}"{style}];')
        lines += [f'  "{own}" -> "{name}";' for own in node.over]
    return "\n".join([*lines, "}"])


def _dot_label(node: Node, title: str) -> str:
    job: Any = node.job
    how = node.cells[0].how if node.cells else job.composition
    about = " ".join(own for own in (job.method, how, job.control or "") if own)
    return f"{title}\\n{about}\\nseed {job.seed}"
