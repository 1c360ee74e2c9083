"""Strict models of study YAML: a grid of runs that answers one question.

A cell of the grid is one target task, trained by one method under one composition over one intermediate (or a group of
them), with one seed. `none` has no intermediate; `fuse`, `merge` and `bake` stand on a group, the others on one. What
the package cannot build (fusing full models, say) is no cell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PrivateAttr

from adapter_stilts.schema import Names, SplitName, Strict, _as_tuple, _layers_text

StudyMethod = Literal["bottleneck", "lora", "dora", "ia3", "full", "head", "houlsby", "parallel", "compacter"]
StudyComposition = Literal["none", "stack", "fuse", "continue", "merge", "bake"]
StudyControl = Literal["none", "random", "shuffled"]
KeepName = Literal["scores", "adapters", "all"]
# In `layers`: adapters in every layer.
ALL_LAYERS = "all"
DEFAULT_GROUP = "all"


def _one_or_many(value: object) -> object:
    """A selector may name one value or several."""
    return _as_tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _layers(value: object) -> object:
    return value if value == ALL_LAYERS else _layers_text(value)


Layers = Annotated[str, BeforeValidator(_layers)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Value = str | int | float | bool | None
Some = BeforeValidator(_one_or_many)
List = BeforeValidator(_as_tuple)


class Exclusion(Strict):
    """Cells that are left out: those that agree with every field given here."""

    target: Annotated[Names, Some] | None = None
    intermediate: Annotated[Names, Some] | None = None
    group: Annotated[Names, Some] | None = None
    method: Annotated[tuple[StudyMethod, ...], Some] | None = None
    composition: Annotated[tuple[StudyComposition, ...], Some] | None = None
    control: Annotated[tuple[StudyControl, ...], Some] | None = None
    layers: Annotated[tuple[Layers, ...], Some] | None = None
    seed: Annotated[tuple[Seed, ...], Some] | None = None


class Override(Strict):
    """Fields of the recipe that are replaced in the runs that agree with every selector given here.

    `intermediate` selects the training of an intermediate; `target` and `composition` that of a target; `method` alone,
    or nothing, both. A field is set where it decides something.
    """

    target: Annotated[Names, Some] | None = None
    intermediate: Annotated[Names, Some] | None = None
    method: Annotated[tuple[StudyMethod, ...], Some] | None = None
    composition: Annotated[tuple[StudyComposition, ...], Some] | None = None
    set: dict[str, Value | list[Value]] = Field(min_length=1)


class Study(Strict):
    """A study as its YAML says; `include` names files whose keys stand where this one has none.

    Tasks are names, paths of task YAML (relative to the study's file), or several with + between. `groups` are what
    fuse, merge and bake stand on (default: one of all intermediates). `layers` is a grid over the recipe's field, for
    target and intermediate alike; `controls` over what is done to the intermediates. `intermediate_seeds`: each cell's
    own seed, or one for all. `limit` is the number of English training examples, `match_tokens` the number of training
    pieces of each intermediate (in place of `limit`), `test_limit` the number of test sentences a language,
    `development_examples` the number scored after each epoch. `keep` is what stays of the weights of a run once nothing
    waits for it: scores (none), adapters (not those of full runs), all.
    """

    include: Annotated[Names, Some] | None = None
    name: str = Field(default="", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    question: str = ""
    backbone: str = "FacebookAI/xlm-roberta-large"
    targets: Annotated[tuple[str, ...], List] = ()
    intermediates: Annotated[tuple[str, ...], List] = ()
    groups: dict[str, Names] = Field(default_factory=dict)
    methods: Annotated[tuple[StudyMethod, ...], List, Field(min_length=1)] = ("bottleneck",)
    compositions: Annotated[tuple[StudyComposition, ...], List, Field(min_length=1)] = ("none", "stack")
    layers: Annotated[tuple[Layers, ...], List, Field(min_length=1)] = (ALL_LAYERS,)
    controls: Annotated[tuple[StudyControl, ...], List, Field(min_length=1)] = ("none",)
    seeds: Annotated[tuple[Seed, ...], List, Field(min_length=1)] = (0,)
    intermediate_seeds: Literal["own"] | Seed = "own"
    limit: Count | None = None
    match_tokens: Count | None = None
    test_limit: Count | None = None
    development_examples: Count | None = None
    split: SplitName = "test"
    test_languages: Names | None = None
    exclude: Annotated[tuple[Exclusion, ...], List] = ()
    overrides: Annotated[tuple[Override, ...], List] = ()
    keep: KeepName = "adapters"
    _path: Path = PrivateAttr(default=Path())
    _places: dict[str, Path] = PrivateAttr(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file that the study was read from."""
        return self._path

    def file_of(self, key: str) -> Path:
        """The file that a key's value stands in: the study's own, or one that it includes."""
        return self._places.get(key, self._path)
