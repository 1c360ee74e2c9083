"""Strict models of study YAML: a grid of runs that answers one question.

A cell of the grid is one target task, trained by one method under one composition over one intermediate (or a group of
them), with one seed. `none` has no intermediate; `fuse`, `merge` and `bake` stand on a group, the others on one. What
the package cannot build (fusing full models, say) is no cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr

from adapter_stilts.schema import Names, SplitName, Strict, _as_tuple, _layers_text, setting_text

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


class Intermediate(Strict):
    """An intermediate that is more than a task: trained in `languages` of its own (translated data), on `match_tokens`
    training pieces of each task in place of the study's, or with fields of the recipe `set` otherwise (`mlm_share`
    mixes masked language modelling in).

    `task` is a task, or several with + between, which train together. Selectors, groups and reports know it by its
    `name`; without one by task and what is special, such as `xnli (in de+es)`.
    """

    task: str
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] | None = None
    languages: Annotated[tuple[str, ...], List, Field(min_length=1)] | None = None
    match_tokens: Count | None = None
    set: dict[str, Value | list[Value]] = Field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.task, self.name, self.languages, self.match_tokens, *self.set))

    @property
    def label(self) -> str:
        """What the study knows it by; of a bare task, that task as the study names it."""
        return self.name or self.titled(self.task)

    def titled(self, task: str) -> str:
        """The name; without one the task in these words, with what is special behind it."""
        about = _assigned(self.set)
        about += [f"in {'+'.join(self.languages)}"] if self.languages else []
        about += [f"{self.match_tokens} tokens"] if self.match_tokens else []
        return self.name or task + (f" ({', '.join(about)})" if about else "")


class Arrangement(Strict):
    """A composition with fields of the target's recipe `set` otherwise, such as full fusion beside the light one.

    Selectors know it by its `name`, without one by composition and fields, such as `fuse (fusion=full)`; the
    composition's own name selects every arrangement of it.
    """

    composition: StudyComposition
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] | None = None
    set: dict[str, Value | list[Value]] = Field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.composition, self.name, *self.set))

    @property
    def label(self) -> str:
        """What the study knows it by."""
        about = _assigned(self.set)
        return self.name or self.composition + (f" ({', '.join(about)})" if about else "")


def _assigned(settings: dict[str, Any]) -> list[str]:
    return [f"{key}={setting_text(value)}" for key, value in settings.items()]


class Exclusion(Strict):
    """Cells that are left out: those that agree with every field given here."""

    target: Annotated[Names, Some] | None = None
    intermediate: Annotated[Names, Some] | None = None
    group: Annotated[Names, Some] | None = None
    method: Annotated[tuple[StudyMethod, ...], Some] | None = None
    composition: Annotated[Names, Some] | None = None
    control: Annotated[tuple[StudyControl, ...], Some] | None = None
    layers: Annotated[tuple[Layers, ...], Some] | None = None
    seed: Annotated[tuple[Seed, ...], Some] | None = None


class Override(Strict):
    """Fields of the recipe that are replaced in the runs that agree with every selector given here.

    `intermediate` selects the training of an intermediate; `target` and `composition` that of a target; `method` alone,
    or nothing, both. A field is set where it decides something; what an intermediate or a composition sets itself goes
    before.
    """

    target: Annotated[Names, Some] | None = None
    intermediate: Annotated[Names, Some] | None = None
    method: Annotated[tuple[StudyMethod, ...], Some] | None = None
    composition: Annotated[Names, Some] | None = None
    set: dict[str, Value | list[Value]] = Field(min_length=1)


class Study(Strict):
    """A study as its YAML says; `include` names files whose keys stand where this one has none.

    Tasks are names, paths of task YAML (relative to the study's file), or several with + between; an intermediate may
    be a mapping (`Intermediate`), as may a composition (`Arrangement`). `groups` are what fuse, merge and bake stand on
    (default: one of all intermediates). `layers` is a grid over the recipe's field, for
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
    intermediates: Annotated[tuple[Intermediate | str, ...], List] = ()
    groups: dict[str, Names] = Field(default_factory=dict)
    methods: Annotated[tuple[StudyMethod, ...], List, Field(min_length=1)] = ("bottleneck",)
    compositions: Annotated[tuple[Arrangement | StudyComposition, ...], List, Field(min_length=1)] = ("none", "stack")
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
    _files: dict[str, Path] = PrivateAttr(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file that the study was read from."""
        return self._path

    def file_of(self, key: str) -> Path:
        """The file that a key's value stands in: the study's own, or one that it includes."""
        return self._files.get(key, self._path)

    @property
    def by_label(self) -> Mapping[str, Intermediate]:
        """The intermediates by what the study knows them by."""
        return _intermediates(self.intermediates)

    @property
    def arrangements(self) -> Mapping[str, Arrangement]:
        """The compositions by what the study knows them by."""
        return _arrangements(self.compositions)


@lru_cache(maxsize=64)
def _intermediates(entries: tuple[Intermediate | str, ...]) -> Mapping[str, Intermediate]:
    every = (one if isinstance(one, Intermediate) else Intermediate(task=one) for one in entries)
    return MappingProxyType({one.label: one for one in every})


@lru_cache(maxsize=64)
def _arrangements(entries: tuple[Arrangement | StudyComposition, ...]) -> Mapping[str, Arrangement]:
    every = (one if isinstance(one, Arrangement) else Arrangement(composition=one) for one in entries)
    return MappingProxyType({one.label: one for one in every})
