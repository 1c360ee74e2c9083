"""From a study to its cells, and from a cell to the request that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from adapter_stilts.jobs.request import Request
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.composition import BOTTLENECK_NAMES, COMPOSITIONS, unused_fields
from adapter_stilts.schema import Task, setting_text
from adapter_stilts.study_schema import (
    ALL_LAYERS,
    DEFAULT_GROUP,
    Arrangement,
    Exclusion,
    Intermediate,
    Override,
    Study,
)
from adapter_stilts.tasks.catalog import find_tasks

# Compositions that stand on a group of intermediates; the others stand on one.
GROUPED = ("fuse", "merge", "bake")
_MIXING = ("mixing", "mixing_cap", "mixing_temperature")


@dataclass(frozen=True)
class Cell:
    """One target, trained in one way with one seed.

    `over` are the intermediates by their labels in the study, `group` the group that they are (empty for a single one);
    `control` is what is done to all of them. `arrangement` is the composition's entry in the study, where that is more
    than the composition; `intermediates` are the entries of what it stands on.
    """

    target: str
    method: str
    composition: str
    over: tuple[str, ...]
    group: str
    control: str | None
    layers: str
    seed: int
    arrangement: Arrangement | None = None
    intermediates: tuple[Intermediate, ...] = field(default=(), compare=False)

    @property
    def label(self) -> str:
        """Such as `udpos bottleneck stack over ud_deprel (shuffled), seed 0`."""
        titles = map(intermediate_title, self.intermediates) if self.intermediates else map(title_of, self.over)
        over = f" over {self.group or ' + '.join(titles)}" if self.over else ""
        control = f" ({self.control})" if self.control else ""
        layers = "" if self.layers == ALL_LAYERS else f", layers {self.layers}"
        return f"{title_of(self.target)} {self.method} {self.how}{over}{control}{layers}, seed {self.seed}"

    @property
    def how(self) -> str:
        """The composition, as the study knows it."""
        return self.arrangement.label if self.arrangement else self.composition


@lru_cache(maxsize=1024)
def tasks_of(name: str) -> tuple[Task, ...]:
    """The tasks that a name in a study stands for. Raises UsageError."""
    return tuple(find_tasks(name))


def title_of(name: str) -> str:
    """The names of the tasks, with + between."""
    return "+".join(task.name for task in tasks_of(name))


def intermediate_title(one: Intermediate) -> str:
    """An intermediate in a reader's words."""
    return one.titled(title_of(one.task))


def expand(study: Study, whole: bool = False) -> Iterator[Cell]:
    """The study's cells, in the order of its lists; `whole`: the excluded ones too."""
    known = study.by_label
    for target in study.targets:
        for method in study.methods:
            for layers in _layers_of(study, method):
                for arrangement, over, group, control in _arrangements(study, known, target, method):
                    plain = not arrangement.set and arrangement.label == arrangement.composition
                    entry = None if plain else arrangement
                    about = (target, method, arrangement.composition, over, group, control, layers)
                    for seed in study.seeds:
                        cell = Cell(*about, seed, entry, tuple(known[label] for label in over))
                        if whole or not any(selects_cell(selector, cell) for selector in study.exclude):
                            yield cell


def _layers_of(study: Study, method: str) -> tuple[str, ...]:
    """Full fine-tuning and a bare head have no adapters to place."""
    return (ALL_LAYERS,) if method in ("full", "head") else study.layers


def _arrangements(
    study: Study, known: Mapping[str, Intermediate], target: str, method: str
) -> Iterator[tuple[Arrangement, tuple[str, ...], str, str | None]]:
    """(composition, intermediates, group, control) under a target and method; a task is no intermediate of itself."""
    rules = COMPOSITIONS[_method_family(method)]  # type: ignore[index]
    for arrangement in study.arrangements.values():
        composition = arrangement.composition
        if composition not in rules:
            continue
        if composition == "none":
            yield arrangement, (), "", None
            continue
        for over, group in _underneath(study, known, target, composition):
            if rules[composition].takes(len(over)):
                for control in study.controls:
                    yield arrangement, over, group, None if control == "none" else control


def _underneath(
    study: Study, known: Mapping[str, Intermediate], target: str, composition: str
) -> Iterator[tuple[tuple[str, ...], str]]:
    if composition not in GROUPED:
        yield from (((label,), "") for label, one in known.items() if one.task != target)
        return
    for group, labels in (study.groups or {DEFAULT_GROUP: tuple(known)}).items():
        yield tuple(label for label in labels if known[label].task != target), group


def selects_cell(exclusion: Exclusion, cell: Cell) -> bool:
    """Whether a cell agrees with every field that is given. A group is selected by an intermediate in it."""
    pairs: list[tuple[Sequence[Any] | None, Any]] = [
        (exclusion.target, cell.target),
        (exclusion.group, cell.group),
        (exclusion.method, cell.method),
        (exclusion.control, cell.control or "none"),
        (exclusion.layers, cell.layers),
        (exclusion.seed, cell.seed),
    ]
    if any(accepted is not None and value not in accepted for accepted, value in pairs):
        return False
    if exclusion.control is not None and not cell.over:
        return False
    if exclusion.composition is not None and not {cell.composition, cell.how} & set(exclusion.composition):
        return False
    return exclusion.intermediate is None or bool(set(exclusion.intermediate) & set(cell.over))


# --- what a cell trains ---------------------------------------------------------------------------------------------


def request_of(study: Study, cell: Cell, backbone: Backbone, precision: str) -> Request:
    """The request for a cell's target, over those for its intermediates."""
    settings = _settings(study, cell, cell.composition, cell.target, target=cell.target)
    return Request(
        tasks=tasks_of(cell.target),
        backbone=backbone,
        precision=precision,
        over=tuple(intermediate_of(study, cell, label, backbone, precision) for label in cell.over),
        compose=cell.composition,
        method=cell.method,
        seed=cell.seed,
        limit=study.limit,
        development_limit=_development_limit(study, settings),
        settings=settings,
    )


def intermediate_of(study: Study, cell: Cell, label: str, backbone: Backbone, precision: str) -> Request:
    """The request for one of a cell's intermediates: the same for every cell with its method, layers and seed."""
    intermediate = study.by_label[label]
    match_tokens = intermediate.match_tokens or study.match_tokens
    settings = _settings(study, cell, "none", intermediate.task, intermediate=label)
    return Request(
        tasks=tasks_of(intermediate.task),
        backbone=backbone,
        precision=precision,
        method=cell.method,
        seed=cell.seed if study.intermediate_seeds == "own" else study.intermediate_seeds,
        limit=None if match_tokens else study.limit,
        development_limit=_development_limit(study, settings),
        match_tokens=match_tokens,
        languages=intermediate.languages,
        control=cell.control,  # type: ignore[arg-type]
        settings=settings,
    )


def _development_limit(study: Study, settings: Mapping[str, str]) -> int | None:
    """The study's number of development examples, which is also that of what a training needs first; what an override
    or an entry sets goes before."""
    return None if "development_examples" in settings else study.development_examples


def _settings(
    study: Study, cell: Cell, composition: str, task: str, target: str | None = None, intermediate: str | None = None
) -> dict[str, str]:
    """The recipe fields of a cell's target, or of one of its intermediates, on `task`."""
    chosen: dict[str, str] = {}
    if cell.layers != ALL_LAYERS:
        chosen["layers"] = cell.layers
    unused = _unused(task, cell.method, composition)
    given = [each.set for each in study.overrides if _selects_training(each, cell, target, intermediate)]
    if intermediate is not None:
        given.append(study.by_label[intermediate].set)
    elif cell.arrangement is not None:
        given.append(cell.arrangement.set)
    for fields in given:
        chosen |= {key: setting_text(value) for key, value in fields.items() if key not in unused}
    return dict(sorted(chosen.items()))


def _selects_training(override: Override, cell: Cell, target: str | None, intermediate: str | None) -> bool:
    """Whether an override is about the training of a cell's target, or of that intermediate of it."""
    if override.method is not None and cell.method not in override.method:
        return False
    if target is None:
        elsewhere = override.target is not None or override.composition is not None
        return not elsewhere and (override.intermediate is None or intermediate in override.intermediate)
    if override.intermediate is not None or (override.target is not None and target not in override.target):
        return False
    return override.composition is None or bool({cell.composition, cell.how} & set(override.composition))


@lru_cache(maxsize=4096)
def _unused(name: str, method: str, composition: str) -> frozenset[str]:
    """Fields of the recipe that decide nothing in such a training."""
    mixed = () if len(tasks_of(name)) > 1 else _MIXING
    return frozenset({*unused_fields(_method_family(method), composition), *mixed})


def override_uses(study: Study, override: Override, cells: Sequence[Cell]) -> bool:
    """Whether an override sets each of its fields in some training of the cells."""
    known, left = study.by_label, set(override.set)
    for cell in cells:
        if _selects_training(override, cell, cell.target, None):
            left &= _unused(cell.target, cell.method, cell.composition)
        for label in cell.over:
            if _selects_training(override, cell, None, label):
                left &= _unused(known[label].task, cell.method, "none")
        if not left:
            return True
    return False


def intermediate_uses(one: Intermediate, cells: Sequence[Cell]) -> bool:
    """Whether what an intermediate sets decides something in some training of the cells; so it is where none has it."""
    methods = {cell.method for cell in cells if one.label in cell.over}
    return not methods or any(set(one.set) - _unused(one.task, method, "none") for method in methods)


def arrangement_uses(one: Arrangement, cells: Sequence[Cell]) -> bool:
    """Whether what a composition sets decides something in some training of the cells; so it is where none has it."""
    pairs = {(cell.target, cell.method) for cell in cells if cell.arrangement == one}
    return not pairs or any(set(one.set) - _unused(target, method, one.composition) for target, method in pairs)


def _method_family(method: str) -> str:
    """The method of which a name such as houlsby is an architecture."""
    return "bottleneck" if method in BOTTLENECK_NAMES else method
