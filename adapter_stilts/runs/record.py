"""What a run says of itself: everything that decided it, what it cost, and what came out."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from adapter_stilts.files import atomic_write_text
from adapter_stilts.model.composition import Composition
from adapter_stilts.runs.bundle import StoredBackbone
from adapter_stilts.runs.leaks import Leak
from adapter_stilts.runs.stored import Stored, read_stored
from adapter_stilts.schema import MethodName, Recipe

Control = Literal["random", "shuffled"]
RECORD = "record.json"
# Kind of a run on several tasks.
MULTI_TASK = "multi_task"
PACKAGES = (
    "adapter-stilts",
    "adapters",
    "datasets",
    "evaluate",
    "numpy",
    "peft",
    "seqeval",
    "tokenizers",
    "torch",
    "transformers",
)


class StoredTask(Stored):
    """The task of a run, as far as it decides or describes the run. `config` is the name of a shipped task, or the path
    of the YAML file, with which the run was last asked for: it decides nothing, and says what is scored by default.
    `metrics` are those of the development scores."""

    config: str
    name: str
    version: int
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
    tensors: int
    parameters: int


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
    available: int
    examples: int
    tokens: int
    units: int


class Underneath(Stored):
    """A run whose weights this one stands on. `label` is its task with what a table must say of it besides, such as
    `ud_deprel (shuffled)`; `control` is its own, or that of a run that it stands on itself."""

    run: str
    task: str
    label: str
    control: Control | None
    knowledge: str
    granularity: str
    development: float


class EpochScore(Stored):
    """Mean training loss of an epoch, and the development scores after it, in percent (of several tasks: those of each
    as `task.metric`, and their mean as the selection metric). `labels` is the number of distinct labels predicted on
    development data, of several tasks the smallest (None: masked language modelling, or an older record)."""

    epoch: int
    loss: float
    scores: dict[str, float]
    labels: int | None = None


class Cost(Stored):
    """What a run cost. `tokens_per_second` counts real pieces in training; `train_seconds` leaves evaluation out;
    `peak_memory_bytes` is the device's on a GPU, the process's on a CPU; `bundle_bytes` is the bundle's size."""

    train_seconds: float
    seconds: float
    steps: int
    tokens_per_second: float
    peak_memory_bytes: int
    bundle_bytes: int


class Record(Stored):
    """record.json: written once when a run is done; `scores` grow with each evaluation of the whole task.

    `limit` is the number of training examples asked for (None: all); `over` the runs underneath, in the order
    in which the states pass them; `languages` those of the training data; `control` what makes the run one (`random`:
    never trained, `shuffled`: trained on shuffled labels); `match_tokens` the number of training pieces asked for;
    `variant` what sets the run apart from others of its method and composition; `parts` are those of the model;
    `selected_epoch` the epoch whose weights were kept, under the recipe's `selection`;
    `development` its score in the task's selection metric, `development_majority` what the majority class would score
    there, `development_labels` the number of distinct labels predicted there, of several tasks the smallest (both None:
    masked language modelling, or a record from before they were written down); `leaks` what the run trained on of its
    task's own development and test data (None: not looked for). `scores` maps the name of an evaluation (a folder
    beside this file) to its split, number of test sentences a language, hashes of the test data and means.
    """

    format: Literal[2] = 2
    name: str
    identity: dict[str, Any]
    task: StoredTask
    method: MethodName
    composition: Composition
    variant: str
    control: Control | None
    languages: tuple[str, ...]
    match_tokens: int | None
    over: tuple[Underneath, ...]
    backbone: StoredBackbone
    seed: int
    limit: int | None
    recipe: Recipe
    word_piece: str
    labels: tuple[str, ...]
    data: tuple[StoredData, ...]
    parts: tuple[StoredPart, ...]
    trainable_parameters: int
    total_parameters: int
    history: tuple[EpochScore, ...]
    selected_epoch: int
    development: float
    development_majority: float | None = None
    development_labels: int | None = None
    leaks: tuple[Leak, ...] | None = None
    cost: Cost
    device: str
    threads: int
    precision: str
    packages: dict[str, str]
    python: str
    created: str
    scores: dict[str, dict[str, Any]] = Field(default_factory=dict)


def package_versions() -> tuple[dict[str, str], str]:
    """Versions of the packages that a result may depend on, and Python's."""
    return {name: version(name) for name in PACKAGES}, platform.python_version()


def write_record(folder: Path, record: Record) -> None:
    """Write (or replace, as a whole) the record in a run's folder."""
    atomic_write_text(folder / RECORD, record.model_dump_json(indent=2) + "\n")


def read_record(folder: Path) -> Record:
    """The record in a run's folder. Raises StiltsError where it is missing or damaged, with file and key."""
    return read_stored(folder / RECORD, Record)
