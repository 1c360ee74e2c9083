"""What a run says of itself: everything that decided it, what it cost, and what came out."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapter_stilts.languages import LANGUAGES
from adapter_stilts.model.composition import Composition
from adapter_stilts.runs.leaks import Leak
from adapter_stilts.runs.manifest import MULTI_TASK, StoredBackbone
from adapter_stilts.runs.stored import Sealed, Stored, first_problem, read_stored, write_sealed
from adapter_stilts.schema import MethodName, Recipe
from adapter_stilts.tasks.kinds import KINDS
from adapter_stilts.tasks.metrics import Metric
from adapter_stilts.trust import Amount, Count, Name, Percent, Sha256, TaskName, TextLanguage, check_tree

Control = Literal["random", "shuffled"]
RECORD = "record.json"
PACKAGES = (
    "adapter-stilts",
    "adapters",
    "datasets",
    "evaluate",
    "numpy",
    "peft",
    "tokenizers",
    "torch",
    "transformers",
)


class Loose(BaseModel):
    """Base of what is looked at as far as it is read, whatever else stands there."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class StoredTask(Stored):
    """The task of a run, as far as it decides or describes the run. `config` is the name of a shipped task, or the path
    of the YAML file, with which the run was last asked for: it decides nothing, and says what is scored by default.
    `metrics` are those of the development scores."""

    config: str
    name: TaskName
    version: Count
    kind: str
    role: str
    knowledge: str
    granularity: str
    metrics: tuple[str, ...]
    selection_metric: str
    licence: str


class StoredPart(Stored):
    """One part of the model (backbone, adapter, fusion, head): whether it trained, its tensors and parameters."""

    name: str
    trains: bool
    tensors: Count
    parameters: Count


class StoredData(Stored):
    """One split that a run read: identity by content, where it came from, how much of it was used.

    `language` is codes with + between where several were read together. `examples` were used of the `available`;
    `tokens` are pieces with special tokens; `units` are words (or texts).
    """

    task: str
    language: str
    split: str
    sha256: str
    source: str
    revision: str | None
    available: Count
    examples: Count
    tokens: Count
    units: Count


class Underneath(Stored):
    """A run whose weights this one stands on. `label` is its task with what a table must say of it besides, such as
    `ud_deprel (shuffled)`; `control` is its own, or that of a run that it stands on itself."""

    run: Name
    task: TaskName
    label: str
    control: Control | None
    knowledge: str
    granularity: str
    development: Percent


class EpochScore(Stored):
    """Mean training loss of an epoch, and the development scores after it, in percent (of several tasks: those of each
    as `task.metric`, and their mean as the selection metric). `labels` is the number of distinct labels predicted on
    development data, of several tasks the smallest (None: masked language modelling, or an older record)."""

    epoch: Count
    loss: float
    scores: dict[str, Percent]
    labels: Count | None = None


class Cost(Stored):
    """What a run cost. `tokens_per_second` counts real pieces in training; `train_seconds` leaves evaluation out;
    `peak_memory_bytes` is the device's on a GPU, the process's on a CPU; `bundle_bytes` is the bundle's size."""

    train_seconds: Amount
    seconds: Amount
    steps: Count
    tokens_per_second: Amount
    peak_memory_bytes: Count
    bundle_bytes: Count


StepKind = Literal["eager", "captured", "unrecorded"]


class Executed(Stored):
    """How a run was computed, which decides nothing of what it is. `step`: operation by operation (eager), as recorded
    CUDA graphs (captured), or what those record run as it is (unrecorded); `compiled`: the layers were compiled;
    `checkpointing`: each layer was computed twice, instead of keeping what is inside it."""

    step: StepKind
    compiled: bool
    checkpointing: bool


class _Source(Loose):
    """Where training read the rows of a language, or of all: format, columns by role, and rules for rows."""

    format: str | None = None
    columns: dict[str, str | int | list[str]] | None = None
    filter: dict[str, list[Any]] | None = None
    exclude: dict[str, list[Any]] | None = None


class _Reading(Loose):
    data: _Source
    language: _Source
    label_until: str | None = None

    @model_validator(mode="after")
    def _has_columns(self) -> _Reading:
        if not (self.language.columns or self.data.columns):
            raise ValueError("data.columns: found none, accepted names of columns by role")
        return self


class _Rows(Loose):
    data: str
    reading: _Reading


class _IdentityTask(Loose):
    name: TaskName
    train: Annotated[dict[TextLanguage, _Rows], Field(min_length=1)]
    development: dict[TextLanguage, _Rows]


class _Identity(Loose):
    """What is read of a record's identity, besides its hash; the earliest records have no tasks in it."""

    tasks: Annotated[list[_IdentityTask], Field(min_length=1)] = Field(default_factory=list)


def known_metrics(kind: str) -> Mapping[str, Metric]:
    """The metrics that a run's task may have, by name. Raises ValueError for an unknown kind."""
    if kind == MULTI_TASK:
        return {name: metric for described in KINDS.values() for name, metric in described.metrics.items()}
    if kind not in KINDS:
        raise ValueError(f"task.kind: found {kind[:80]!r}, accepted {', '.join([*KINDS, MULTI_TASK])}")
    return KINDS[kind].metrics


def _has_labels(kind: str) -> bool:
    """Whether results of a kind are told by language; texts without labels may be in any language."""
    return kind == MULTI_TASK or KINDS[kind].has_answers


def _checked_identity(identity: dict[str, Any]) -> dict[str, Any]:
    try:
        _Identity.model_validate(identity, strict=True)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None
    return identity


class Record(Sealed):
    """record.json: written once when a run is done; `scores` grow with each evaluation of the whole task.

    `limit` is the number of training examples asked for (None: all); `over` the runs underneath, in the order
    in which the states pass them; `languages` those of the training data; `control` what makes the run one (`random`:
    never trained, `shuffled`: trained on shuffled labels); `match_tokens` the number of training pieces asked for;
    `variant` what sets the run apart from others of its method and composition; `parts` are those of the model;
    `selected_epoch` the epoch whose weights were kept, under the recipe's `selection`;
    `development` its score in the task's selection metric, `development_majority` what the majority class would score
    there, `development_labels` the number of distinct labels predicted there, of several tasks the smallest (both None:
    masked language modelling, or a record from before they were written down); `leaks` what the run trained on of its
    task's own development and test data (None: not looked for); `executed` how it was computed (None: not trained, or a
    record from before it was written down). `scores` maps the name of an evaluation (a folder
    beside this file) to its split, number of test sentences a language, hashes of the test data and means;
    `trained_on` is the SHA-256 of the file of that name beside this one (None: a record from before it was written
    down).
    """

    sealed_format: ClassVar[int] = 3
    format: Literal[2, 3] = 2
    name: Name
    identity: Annotated[dict[str, Any], AfterValidator(_checked_identity)]
    task: StoredTask
    method: MethodName
    composition: Composition
    variant: str
    control: Control | None
    languages: tuple[TextLanguage, ...]
    match_tokens: Count | None
    over: tuple[Underneath, ...]
    backbone: StoredBackbone
    seed: int
    limit: Count | None
    recipe: Recipe
    word_piece: str
    labels: tuple[str, ...]
    data: Annotated[tuple[StoredData, ...], Field(min_length=1)]
    parts: tuple[StoredPart, ...]
    trainable_parameters: Count
    total_parameters: Count
    history: tuple[EpochScore, ...]
    selected_epoch: Count
    development: Percent
    development_majority: Percent | None = None
    development_labels: Count | None = None
    leaks: tuple[Leak, ...] | None = None
    cost: Cost
    executed: Executed | None = None
    device: str
    threads: Count
    precision: str
    packages: dict[str, str]
    python: str
    created: str
    scores: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    trained_on: Sha256 | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Record:
        known = known_metrics(self.task.kind)
        for name in self.task.metrics:
            if name not in known:
                raise ValueError(f"task.metrics: found {name[:80]!r}, accepted {', '.join(known)}")
        results = list(dict.fromkeys(known[name].result for name in self.task.metrics))
        if self.task.selection_metric not in results:
            metric = self.task.selection_metric[:80]
            raise ValueError(f"task.selection_metric: found {metric!r}, accepted {', '.join(results)}")
        for number, code in enumerate(self.languages if _has_labels(self.task.kind) else ()):
            if code not in LANGUAGES:
                raise ValueError(f"languages.{number}: found {code!r}, accepted the code of a language, such as en")
        if self.selected_epoch > len(self.history):
            raise ValueError(f"selected_epoch: found {self.selected_epoch}, accepted up to {len(self.history)}")
        if self.total_parameters < 1:
            raise ValueError(f"total_parameters: found {self.total_parameters}, accepted 1 or more")
        return self


def package_versions() -> tuple[dict[str, str], str]:
    """Versions of the packages that a result may depend on, and Python's."""
    return {name: version(name) for name in PACKAGES}, platform.python_version()


def write_record(folder: Path, record: Record) -> Record:
    """Write (or replace, as a whole) the record in a run's folder, sealed; returns it so."""
    return write_sealed(folder / RECORD, record)


def read_record(folder: Path) -> Record:
    """The record in a run's folder. Raises StiltsError where it is missing or damaged, with file and key, and where the
    folder holds links."""
    check_tree(folder)
    return read_stored(folder / RECORD, Record)
