"""A study as a graph of runs: each training once, however many cells stand on it, named before anything trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Literal

from adapter_stilts.engine.device import default_device, default_precision
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.evaluation.scored_task import check_languages, evaluation_name, language_identities
from adapter_stilts.evaluation.scores import SCORES
from adapter_stilts.jobs.job import Intermediate, Job
from adapter_stilts.jobs.remembered import Remembered
from adapter_stilts.jobs.request import Request
from adapter_stilts.jobs.resolve import resolve
from adapter_stilts.model.backbone import Backbone, find_backbone
from adapter_stilts.paths import mirror_dir
from adapter_stilts.runs.record import RECORD, read_record
from adapter_stilts.runs.store import BUNDLE, EVALUATIONS, Run, RunStore
from adapter_stilts.runs.tidy import tidy
from adapter_stilts.studies.grid import Cell, expand, intermediate_title, request_of, tasks_of
from adapter_stilts.study_schema import Study

State = Literal["done", "to do", "not needed"]


@dataclass(frozen=True)
class Node:
    """One run: `name` is what `train` will call it, `over` the names of the runs whose weights it reads (those
    underneath, then the one that trained its head of masked language modelling, if any), `cells` the cells of the grid
    that it answers (none: not scored)."""

    name: str
    request: Request
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
            for below in node.over:
                above[below].append(name)
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
    precision, maker = default_precision(device), _Maker(study, mirror)
    cells: dict[str, list[Cell]] = {}
    for cell in expand(study):
        cells.setdefault(maker.name(request_of(study, cell, base, precision), cell), []).append(cell)
    made = maker.made
    over = {name: tuple(below.name for below in job.below) for name, (_, job) in made.items()}
    nodes = {}
    for name in TopologicalSorter(over).static_order():
        request, job = made[name]
        nodes[name] = Node(name, request, over[name], tuple(cells.get(name, ())), job)
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
    """Resolves requests, each once, over jobs that have yet to run."""

    def __init__(self, study: Study, mirror: Path | None) -> None:
        self.study, self.mirror = study, mirror
        self.made: dict[str, tuple[Request, Job]] = {}
        self._names: dict[Request, str] = {}
        self._intermediates: dict[str, Intermediate] = {}
        self._known = Remembered()

    def name(self, request: Request, cell: Cell) -> str:
        """The name of a request's run. Raises UsageError, naming the cell, where it cannot be trained so."""
        try:
            return self._name(request)
        except UsageError as error:
            raise UsageError(f"{self.study.path}: {cell.label}: {error}") from None

    def _name(self, request: Request) -> str:
        name = self._names.get(request)
        if name is None:
            job = resolve(request, self.mirror, self._intermediate, self._known)
            self._names[request] = name = job.name
            self.made.setdefault(name, (request, job))
        return name

    def _intermediate(self, request: Request) -> Intermediate:
        """What a job over the request's run must know of it."""
        name = self._name(request)
        if name not in self._intermediates:
            _, job = self.made[name]
            self._intermediates[name] = Intermediate.of_job(job)
        return self._intermediates[name]


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
    state_of: dict[str, State] = {}
    above = plan.dependants()
    trained = present(plan.store)
    for name in reversed(list(plan.nodes)):
        node = plan.nodes[name]
        waited_for = any(state_of[dependant] == "to do" for dependant in above[name])
        scored = not node.cells or (name in trained and evaluation_of(plan, node) is not None)
        if name in trained and scored and (not waited_for or (plan.store.folder / name / BUNDLE).is_dir()):
            state_of[name] = "done"
        else:
            state_of[name] = "to do" if waited_for or node.cells else "not needed"
    return {name: state_of[name] for name in plan.nodes}


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
    position = {cell: number for number, cell in enumerate(expand(plan.study))}
    pairs = [(cell, node) for node in plan.nodes.values() for cell in node.cells]
    for cell, node in sorted(pairs, key=lambda pair: position[pair[0]]):
        folder = plan.store.folder / node.name
        evaluation = evaluation_of(plan, node) if (folder / RECORD).is_file() else None
        run = Run(folder, read_record(folder)) if evaluation is not None else None
        yield StudyRun(cell, node.name, run, evaluation)


def titles_of(plan: Plan) -> dict[str, str]:
    """What each run trains, in a reader's words: two intermediates of one task are told apart."""
    known = {
        name: intermediate_title(intermediate)
        for node in plan.nodes.values()
        for cell in node.cells
        for name, intermediate in zip(node.over, cell.intermediates, strict=False)
    }
    return {name: known.get(name, node.job.title) for name, node in plan.nodes.items()}


def as_dot(plan: Plan) -> str:
    """The graph in Graphviz' language, what is done filled."""
    lines = ["digraph study {", "  rankdir=LR;", "  node [shape=box, fontname=Helvetica];"]
    now, titles = states(plan), titles_of(plan)
    for name, node in plan.nodes.items():
        style = ' style=filled fillcolor="gray85"' if now[name] == "done" else ""
        lines.append(f'  "{name}" [label="{_dot_label(node, titles[name])}"{style}];')
        lines += [f'  "{below}" -> "{name}";' for below in node.over]
    return "\n".join([*lines, "}"])


def _dot_label(node: Node, title: str) -> str:
    job = node.job
    how = node.cells[0].how if node.cells else job.composition
    about = " ".join(part for part in (job.method, how, job.control or "") if part)
    return f"{title}\\n{about}\\nseed {job.seed}"
