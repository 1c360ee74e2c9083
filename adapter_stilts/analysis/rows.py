"""What makes a row of a table: its key, its label, its order, and the rows that it may stand against."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import get_args

from adapter_stilts.model.composition import PEFT_METHODS, SHAPE, Composition, unused_fields
from adapter_stilts.runs.record import Record
from adapter_stilts.schema import Recipe

# A linear probe (head) and full fine-tuning are no adapters.
ADAPTERS = ("bottleneck", *PEFT_METHODS)
_METHODS = ("head", *ADAPTERS, "full")
_COMPOSITIONS = get_args(Composition)


@dataclass(frozen=True)
class RowKey:
    """What runs of one row share: method, composition, variant (with the run's own control, if it is one) and the
    labels of what lies underneath. `control` is that of any of these runs; the labels say it too, so it decides no
    equality."""

    method: str
    composition: str
    variant: str = ""
    over: tuple[str, ...] = ()
    control: str | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """Such as `bottleneck fuse over ud_deprel + pmb_semtag (light fusion)`; `lora stack over ud_deprel (target
        rank=4)`, where a bare `(rank=4)` would be the intermediate's."""
        over = f" over {' + '.join(self.over)}" if self.over else ""
        whose = "target " if self.over and self.composition not in ("fuse", "merge") else ""
        return f"{self.method} {self.composition}{over}" + (f" ({whose}{self.variant})" if self.variant else "")

    @property
    def sort_key(self) -> tuple:
        """Where the row stands: by method, controls last in it, then by composition and what lies underneath."""
        method, composition = _METHODS.index(self.method), _COMPOSITIONS.index(self.composition)
        return method, self.control is not None, composition, len(self.over), self.over, self.variant


def row_key(record: Record) -> RowKey:
    """The row that a run belongs to."""
    variant = ", ".join(part for part in (record.control, record.variant) if part)
    control = record.control or next((under.control for under in record.over if under.control), None)
    return RowKey(record.method, record.composition, variant, tuple(under.label for under in record.over), control)


def none_references(key: RowKey) -> list[RowKey]:
    """Rows of the same method without an intermediate that a row may stand against, the nearest first: the one whose
    variant is the row's own shape (`adapter=houlsby`, `rank=4`), then the one without a variant."""
    shape = [part for part in key.variant.split(", ") if _is_shape(part, key.method)]
    return [RowKey(key.method, "none", ", ".join(shape)), RowKey(key.method, "none")]


def full_references(key: RowKey, keys: Collection[RowKey]) -> list[RowKey]:
    """Rows of full STILTs over the same intermediates: none over none, `continue` over the same label, and over several
    `continue` over the run on all their tasks. The shape of an intermediate's adapter is nothing that full fine-tuning
    has, so labels are compared without it."""
    if not key.over:
        return [RowKey("full", "none")]
    tasks = _tasks_of([_without_shape(label, key.method) for label in key.over])
    plain = [other for other in keys if (other.method, other.composition, other.variant) == ("full", "continue", "")]
    return sorted((row for row in plain if tasks and _tasks_of(row.over) == tasks), key=lambda row: row.sort_key)


def first_difference(one: Record, other: Record) -> str:
    """The first field of the recipe, or else of what decides a run, in which two runs of one row and seed differ."""
    if difference := _recipe_fields(one, other):
        return difference
    for under, other_under in zip(one.over, other.over, strict=True):
        if under.run != other_under.run:
            return f"over: {under.run} and {other_under.run}"
    if one.precision != other.precision:
        return f"precision: {one.precision} and {other.precision}"
    keys = [key for key in {**one.identity, **other.identity} if one.identity.get(key) != other.identity.get(key)]
    return keys[0] if keys else "none in what decides a run"


def recipe_difference(one: Record, other: Record) -> str:
    """The first thing besides seeds in which two runs of one row were trained in different ways; empty where in
    nothing."""
    if difference := _recipe_fields(one, other):
        return difference
    if one.precision != other.precision:
        return f"precision: {one.precision} and {other.precision}"
    version, other_version = one.identity.get("training"), other.identity.get("training")
    return "" if version == other_version else f"version of training: {version} and {other_version}"


def _recipe_fields(one: Record, other: Record) -> str:
    unused = {"tuning", *unused_fields(one.method, one.composition)}
    for name in Recipe.model_fields:
        value, other_value = getattr(one.recipe, name), getattr(other.recipe, name)
        if name not in unused and value != other_value:
            return f"{name}: {value} and {other_value}"
    return ""


def _is_shape(part: str, method: str) -> bool:
    return part.partition("=")[0] in SHAPE.get(method, ())


def _without_shape(label: str, method: str) -> str:
    """`a (rank=4, shuffled)` as `a (shuffled)`."""
    task, about = _split(label)
    parts = [part for part in about.split(", ") if part and not _is_shape(part, method)]
    return task + (f" ({', '.join(parts)})" if parts else "")


def _split(label: str) -> tuple[str, str]:
    """The task of a label, and what stands in brackets after it."""
    task, _, about = label.partition(" (")
    return task, about.removesuffix(")")


def _tasks_of(labels: Sequence[str]) -> tuple[list[str], str] | None:
    """All tasks of the labels with what is said of each; None where that is not the same of all."""
    split = [_split(label) for label in labels]
    about = {details for _, details in split}
    return (sorted(name for task, _ in split for name in task.split("+")), about.pop()) if len(about) == 1 else None
