"""What a kind of task says of itself: whatever a module needs to know of it stands in one value.

A kind is a file of this package with a `Kind`; `KINDS` lists them. Nothing elsewhere knows which kinds there are. A
sequence of pieces has *units*, which the head reads, with integer *targets*; it belongs to an *example*, a row of the
data. That is enough for tags (a unit a word), classes (a unit a text), masked pieces and choices (a unit a choice, an
example all of them).

Nothing here, nor at the top of a kind's file, imports PyTorch: plans and reports read kinds too. What computes with
tensors does so inside its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from adapter_stilts.errors import DataError
from adapter_stilts.tasks.metrics import Metric

if TYPE_CHECKING:
    from torch import Tensor

    from adapter_stilts.engine.batches import Batch
    from adapter_stilts.model.backbone import Backbone
    from adapter_stilts.model.protocols import Model
    from adapter_stilts.tasks.documents.document import Document
    from adapter_stilts.tasks.encode import EncodedSplit
    from adapter_stilts.tasks.tokenizer import Tokenizer

# What a column holds in each row: a text (a number counts as one), a list of texts, or either.
ColumnType = Literal["text", "texts"]
# What is stored of a prediction, and of its gold answer: a label a unit, or a number (of a choice, counted from 0).
AnswerType = Literal["labels", "number"]
# What competes for one target, and is never divided among batches: a unit alone, or all units of a sequence or example.
Together = Literal["unit", "sequence", "example"]
# One value a row, by role.
Columns = Mapping[str, Sequence[Any]]
# Where a row, or an element of its list, stands: file and line.
LocationOf = Callable[[int, int | None], str]
# As `Kind.arrow` says.
Answer = Any
# Target of a unit that has none.
IGNORED = -100
# Name of the targets that are ids of labels.
LABEL = "label"


class Options(BaseModel):
    """Keys that a kind adds to a task's YAML, beside those that every task has."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    # The piece of a word that is read, as tables name it; empty where there are no words.
    labelling: ClassVar[str] = ""

    def identity(self) -> dict[str, Any]:
        """What of the options decides a run's result, as its name holds it: under a key that nothing else has."""
        return {"options": self.stored()} if self.stored() else {}

    def stored(self) -> dict[str, Any]:
        """The options as a bundle's manifest holds them, without the piece of a word, which has a place of its own."""
        return self.model_dump(mode="json", exclude={"word_piece"})


class WordPieceOptions(Options):
    """`word_piece`: the piece of a word whose state is read, of kinds that read words. The names of runs hold it for
    every kind that is as old as it is."""

    word_piece: Literal["first_content", "first", "mean"] = "first_content"

    @property
    def labelling(self) -> str:  # type: ignore[override]
        return self.word_piece

    def identity(self) -> dict[str, Any]:
        return {"word_piece": self.word_piece, **super().identity()}


class Inventory:
    """Ids of label names: those of a head, then, where the inventory is open, what a split shows besides."""

    def __init__(self, names: Sequence[str], open_to_others: bool, location_of: LocationOf) -> None:
        self.names, self.open, self.location_of = list(names), open_to_others, location_of
        self._ids = {name: index for index, name in enumerate(self.names)}

    def id_of(self, label: str, row: int, element: int | None = None) -> int:
        """The label's id. Raises DataError, with its location, for one that a closed inventory does not have."""
        if label not in self._ids:
            if not self.open:
                where = self.location_of(row, element)
                raise DataError(f"{where}: found the label '{label}', accepted {', '.join(self.names)}")
            self._ids[label] = len(self.names)
            self.names.append(label)
        return self._ids[label]


@dataclass(frozen=True)
class EncodedSequence:
    """One input of the encoder.

    `example`: row of the split that it belongs to (a long sentence makes several sequences, in order); `input_ids`:
    piece ids with special tokens, at most 512; `starts`, `ends`: a span of positions `[start, end)` for each unit,
    whose states are averaged, and which do not overlap; `targets`: by name a number for each unit, none where the gold
    answers are not known; `text_starts`: positions at which another text begins than the one before, where no special
    token stands between them.
    """

    example: int
    input_ids: Sequence[int]
    starts: Sequence[int]
    ends: Sequence[int]
    targets: Mapping[str, Sequence[int]] = field(default_factory=dict)
    text_starts: Sequence[int] = ()


@dataclass(frozen=True)
class HeadSpec:
    """What a head is built from: names of its labels, dropout, what `Kind.prepare` found in the training data, and
    trained weights to begin with (None: fresh ones)."""

    labels: Sequence[str]
    dropout: float
    prepared: Any = None
    weights: Mapping[str, Tensor] | None = None


def take_rows(columns: Columns, names: Mapping[str, Any], location_of: LocationOf) -> list[int]:
    """Every row."""
    return list(range(len(next(iter(columns.values()), ()))))


def unchanged(answers: Sequence[Answer]) -> Sequence[Any]:
    """The answers as they are kept."""
    return answers


def no_complaint(columns: Columns, location_of: LocationOf) -> None:
    """Nothing is refused."""


def permuted_targets(split: EncodedSplit, seed: int) -> dict[str, np.ndarray]:
    """The targets of all units permuted: the same ones as often, and nothing to learn of them."""
    return {name: np.random.default_rng(seed).permutation(values) for name, values in split.targets.items()}


@dataclass(frozen=True)
class Kind:
    """What a kind of task is made of. Shapes: U units of a batch, H hidden.

    The data. `columns` and `optional` say by role what a row's column holds. `label_role` is the column whose values
    are names out of an inventory (None: there is none), `answer_role` that of gold answers; `text_roles` are those of
    texts, which must not stand in training and test data both. `inventory(columns)` gives the names of a head's labels
    where no column does. `take(columns, names, location_of)` gives the rows that are examples and raises DataError for
    a malformed one; `names` are what the file calls the columns. `check(columns, location_of)` refuses a split as a
    whole. `read(columns, names, location_of, options, class_names)` gives the columns as the kind encodes them;
    `class_names` are those of a ClassLabel that holds the answers. `joined_roles` may be made of several columns.
    `rows` is what a row is called. `formats` can hold the kind's rows, beside JSON lines and Parquet.
    `encode(columns, tokenizer, options, inventory)` gives sequences, without targets where `inventory` is None.

    The step. `targets` are their names. `together` says what competes, and is never divided among batches.
    `add_head(model, name, spec)` puts a head on an `adapters` model; `head_type` is its type there (None: a head of
    ours with `head_weights()`, trained alone or mixed in, without answers). `loss(scores, batch)` is a sum over what
    competes, without a value on the host; `scores` are the head's output (U, ...). `prepare(split, tokenizer,
    examples)` is what head and `draw` need of the training data. `draw(batch, prepared, tokenizer, rng)` gives a batch
    with targets (and pieces) drawn anew. `pretrained(backbone)` is the checkpoint's own head, or None;
    `has_pretrained(backbone)` says so from names alone. `shuffle(split, seed)` gives targets for the control of
    shuffled labels (None: there are no labels to shuffle). `with_others`: whether several tasks may be trained
    together, this one among them.

    The answers. `decode(scores, batch)` reduces scores on the device to a few numbers a unit, by name. `join(decoded,
    split, examples)` makes an answer to each example of them on the host; `gold(split, examples)` gives the gold ones
    (None: the kind has no answers to keep). `answer` is how they are stored. `metrics` are by name; `scored(answers)`
    is what they take. `labels_of(answer)` are an answer's labels, to be counted; `floor(gold)` is the best constant
    answer to each example (None: there is no such thing). `write_official(answers, path)` writes the file that XTREME's
    scripts read. `documents(reading, path, file_format, columns)` reads a user's file for `predict`: see
    `tasks.documents`.
    """

    name: str
    options: type[Options]
    columns: Mapping[str, ColumnType]
    encode: Callable[[Columns, Tokenizer, Any, Inventory | None], Iterator[EncodedSequence]]
    add_head: Callable[[Model, str, HeadSpec], None]
    metrics: Mapping[str, Metric]
    decode: Callable[[Tensor, Batch], Mapping[str, Tensor]]
    loss: Callable[[Tensor, Batch], Tensor] | None
    optional: Mapping[str, ColumnType] = field(default_factory=dict)
    label_role: str | None = None
    answer_role: str | None = None
    text_roles: tuple[str, ...] = ()
    rows: str = "text"
    formats: tuple[str, ...] = ("tsv",)
    inventory: Callable[[Columns], tuple[str, ...]] | None = None
    take: Callable[[Columns, Mapping[str, Any], LocationOf], list[int]] = take_rows
    check: Callable[[Columns, LocationOf], None] = no_complaint
    read: Callable[..., Columns] | None = None
    joined_roles: tuple[str, ...] = ()
    targets: tuple[str, ...] = (LABEL,)
    together: Together = "unit"
    head_type: str | None = None
    prepare: Callable[[EncodedSplit, Tokenizer, np.ndarray], Any] | None = None
    draw: Callable[[Batch, Any, Tokenizer, np.random.Generator], Batch] | None = None
    pretrained: Callable[[Backbone], Mapping[str, Tensor] | None] | None = None
    has_pretrained: Callable[[Backbone], bool] | None = None
    shuffle: Callable[[EncodedSplit, int], Mapping[str, np.ndarray]] | None = permuted_targets
    with_others: bool = True
    join: Callable[[Mapping[str, np.ndarray], EncodedSplit, np.ndarray], list[Answer]] | None = None
    gold: Callable[[EncodedSplit, np.ndarray], list[Answer]] | None = None
    scored: Callable[[Sequence[Answer]], Sequence[Any]] = unchanged
    labels_of: Callable[[Answer], Iterable[Any]] | None = None
    floor: Callable[[Sequence[Answer]], list[Answer]] | None = None
    answer: AnswerType = "labels"
    write_official: Callable[[Sequence[Answer], Path], None] | None = None
    documents: Callable[..., Document] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for parts that do not go together."""
        wrong = {
            "gold: found it without join and answer_role": self.gold is not None
            and (self.join is None or self.answer_role is None),
            "head_type: found none for a kind that has answers, or is trained with others": self.head_type is None
            and (self.gold is not None or self.with_others),
            "shuffle: found the default where units compete, which leaves examples without a right one": (
                self.together != "unit" and self.shuffle is permuted_targets
            ),
        }
        for complaint, applies in wrong.items():
            if applies:
                raise ValueError(f"kind {self.name}: {complaint}")

    @property
    def roles(self) -> dict[str, ColumnType]:
        """Roles of all columns, in the order in which rows are read: required ones first."""
        return {**self.columns, **self.optional}

    @property
    def has_answers(self) -> bool:
        """Whether there are gold answers to score against, and predictions to keep."""
        return self.gold is not None

    @property
    def head_file(self) -> str:
        """The file of a head of ours in a bundle."""
        return f"{self.name}_head.safetensors"


@dataclass(frozen=True)
class HeadUse:
    """What batches are made for: the head `name` of a model, and the kind of task that it answers."""

    name: str
    kind: Kind
