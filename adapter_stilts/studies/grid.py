"""From a study to its cells, and from a cell to the request that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from adapter_stilts.jobs.request import Request
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.composition import BOTTLENECK_NAMES, COMPOSITIONS, unused_fields
from adapter_stilts.schema import Task, setting_text
from adapter_stilts.study_schema import ALL_LAYERS, DEFAULT_GROUP, Exclusion, Override, Study
from adapter_stilts.tasks.catalog import find_tasks

# Compositions that stand on a group of intermediates; the others stand on one.
GROUPED = ("fuse", "merge", "bake")
_MIXING = ("mixing", "mixing_cap", "mixing_temperature")


@dataclass(frozen=True)
class Cell:
    """One target, trained in one way with one seed.

    `over` are the intermediates as the study names them, `group` the group that they are (empty for a single one);
    `control` is what is done to all of them.
    """

    target: str
    method: str
    composition: str
    over: tuple[str, ...]
    group: str
    control: str | None
    layers: str
    seed: int

    @property
    def label(self) -> str:
        """Such as `udpos bottleneck stack over ud_deprel (shuffled), seed 0`."""
        over = f" over {self.group or ' + '.join(map(title_of, self.over))}" if self.over else ""
        control = f" ({self.control})" if self.control else ""
        layers = "" if self.layers == ALL_LAYERS else f", layers {self.layers}"
        return f"{title_of(self.target)} {self.method} {self.composition}{over}{control}{layers}, seed {self.seed}"


@lru_cache(maxsize=1024)
def tasks_of(name: str) -> tuple[Task, ...]:
    """The tasks that a name in a study stands for. Raises UsageError."""
    return tuple(find_tasks(name))


def title_of(name: str) -> str:
    """The names of the tasks, with + between."""
    return "+".join(task.name for task in tasks_of(name))


def expand(study: Study, whole: bool = False) -> Iterator[Cell]:
    """The study's cells, in the order of its lists; `whole`: the excluded ones too."""
    for target in study.targets:
        for method in study.methods:
            for layers in _layers_of(study, method):
                for composition, over, group, control in _arrangements(study, target, method):
                    for seed in study.seeds:
                        cell = Cell(target, method, composition, over, group, control, layers, seed)
                        if whole or not any(selects_cell(own, cell) for own in study.exclude):
                            yield cell


def _layers_of(study: Study, method: str) -> tuple[str, ...]:
    """Full fine-tuning and a bare head have no adapters to place."""
    return (ALL_LAYERS,) if method in ("full", "head") else study.layers


def _arrangements(study: Study, target: str, method: str) -> Iterator[tuple[str, tuple[str, ...], str, str | None]]:
    """(composition, intermediates, group, control) under a target and method; a task is no intermediate of itself."""
    rules = COMPOSITIONS[_own_method(method)]  # type: ignore[index]
    for composition in study.compositions:
        if composition not in rules:
            continue
        if composition == "none":
            yield "none", (), "", None
            continue
        for over, group in _underneath(study, target, composition):
            if rules[composition].takes(len(over)):
                for control in study.controls:
                    yield composition, over, group, None if control == "none" else control


def _underneath(study: Study, target: str, composition: str) -> Iterator[tuple[tuple[str, ...], str]]:
    if composition not in GROUPED:
        yield from (((own,), "") for own in study.intermediates if own != target)
        return
    for group, names in (study.groups or {DEFAULT_GROUP: study.intermediates}).items():
        yield tuple(own for own in names if own != target), group


def selects_cell(own: Exclusion, cell: Cell) -> bool:
    """Whether a cell agrees with every field that is given. A group is selected by an intermediate in it."""
    pairs: list[tuple[Sequence[Any] | None, Any]] = [
        (own.target, cell.target),
        (own.group, cell.group),
        (own.method, cell.method),
        (own.composition, cell.composition),
        (own.control, cell.control or "none"),
        (own.layers, cell.layers),
        (own.seed, cell.seed),
    ]
    if any(accepted is not None and value not in accepted for accepted, value in pairs):
        return False
    if own.control is not None and not cell.over:
        return False
    return own.intermediate is None or bool(set(own.intermediate) & set(cell.over))


# --- what a cell trains ---------------------------------------------------------------------------------------------


def request_of(study: Study, cell: Cell, backbone: Backbone, precision: str) -> Request:
    """The request for a cell's target, over those for its intermediates."""
    return Request(
        tasks=tasks_of(cell.target),
        backbone=backbone,
        precision=precision,
        over=tuple(_intermediate_of(study, cell, name, backbone, precision) for name in cell.over),
        compose=cell.composition,
        method=cell.method,
        seed=cell.seed,
        limit=study.limit,
        settings=_settings(study, cell.method, cell.composition, cell.layers, target=cell.target),
    )


def _intermediate_of(study: Study, cell: Cell, intermediate: str, backbone: Backbone, precision: str) -> Request:
    """The request for one of a cell's intermediates: the same for every cell with its method, layers and seed."""
    return Request(
        tasks=tasks_of(intermediate),
        backbone=backbone,
        precision=precision,
        method=cell.method,
        seed=cell.seed if study.intermediate_seeds == "own" else study.intermediate_seeds,
        limit=None if study.match_tokens else study.limit,
        match_tokens=study.match_tokens,
        control=cell.control,  # type: ignore[arg-type]
        settings=_settings(study, cell.method, "none", cell.layers, intermediate=intermediate),
    )


def _settings(
    study: Study, method: str, composition: str, layers: str, target: str | None = None, intermediate: str | None = None
) -> dict[str, str]:
    """Fields of the recipe that a training of a target, or of an intermediate, sets."""
    chosen: dict[str, str] = {}
    if study.development_examples is not None:
        chosen["development_examples"] = str(study.development_examples)
    if layers != ALL_LAYERS:
        chosen["layers"] = layers
    for own in study.overrides:
        if _selects_training(own, method, composition, target, intermediate):
            used = {key for key in own.set if key not in _unused(target or intermediate or "", method, composition)}
            chosen |= {key: setting_text(value) for key, value in own.set.items() if key in used}
    return dict(sorted(chosen.items()))


def _selects_training(
    own: Override, method: str, composition: str, target: str | None, intermediate: str | None
) -> bool:
    if own.method is not None and method not in own.method:
        return False
    if target is None:
        elsewhere = own.target is not None or own.composition is not None
        return not elsewhere and (own.intermediate is None or intermediate in own.intermediate)
    if own.intermediate is not None or (own.target is not None and target not in own.target):
        return False
    return own.composition is None or composition in own.composition


@lru_cache(maxsize=4096)
def _unused(name: str, method: str, composition: str) -> frozenset[str]:
    """Fields of the recipe that decide nothing in such a training."""
    mixed = () if len(tasks_of(name)) > 1 else _MIXING
    return frozenset({*unused_fields(_own_method(method), composition), *mixed})


def override_uses(study: Study, own: Override, cells: Sequence[Cell]) -> bool:
    """Whether an override sets each of its fields in some training of the cells."""
    left = set(own.set)
    for cell in cells:
        wanted = [(cell.composition, cell.target, None), *(("none", None, name) for name in cell.over)]
        for composition, target, intermediate in wanted:
            if _selects_training(own, cell.method, composition, target, intermediate):
                left &= _unused(target or intermediate or "", cell.method, composition)
        if not left:
            return True
    return False


def _own_method(method: str) -> str:
    """The method of which a name such as houlsby is an architecture."""
    return "bottleneck" if method in BOTTLENECK_NAMES else method
