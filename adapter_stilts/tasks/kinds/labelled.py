"""What kinds with an inventory of labels share: a class for each unit, an answer that is the names of an example's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from adapter_stilts.errors import StiltsError

if TYPE_CHECKING:
    from torch import Tensor

    from adapter_stilts.engine.batches import Batch
    from adapter_stilts.tasks.encode import EncodedSplit

Names = list[str]


def loss(scores: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of all units: scores (U, labels)."""
    from adapter_stilts.tasks.kinds.losses import class_loss

    return class_loss(scores, batch.targets["label"])


def decode(scores: Tensor, batch: Batch) -> Mapping[str, Tensor]:
    """The best label of each unit, (U,)."""
    return {"label": scores.argmax(dim=1)}


def join(decoded: Mapping[str, np.ndarray], split: EncodedSplit, examples: np.ndarray) -> list[Names]:
    """The label names of each example's units, in order, over all its sequences."""
    return names_of_units(decoded["label"], split, examples)


def gold(split: EncodedSplit, examples: np.ndarray) -> list[Names]:
    """The gold label names of each example's units, in order."""
    return names_of_units(split.targets["label"], split, examples)


def names_of_units(labels: np.ndarray, split: EncodedSplit, examples: np.ndarray) -> list[Names]:
    """Names of `labels`, an id for each unit of the split, by example."""
    # Whole arrays to lists at once: taking a NumPy number out of its array costs more than everything else here.
    inventory = np.array(split.label_names, dtype=object)
    sequences = split.sequences_of(examples)
    units = np.diff(split.unit_offsets)[sequences]
    names = inventory[labels[split.units_of(sequences)]].tolist() if len(inventory) else []
    named: dict[int, Names] = {example: [] for example in examples.tolist()}
    begin = 0
    for example, end in zip(split.example[sequences].tolist(), np.cumsum(units).tolist(), strict=True):
        named[example] += names[begin:end]
        begin = end
    return [named[example] for example in examples.tolist()]


def labels_of(answer: Names) -> Iterable[str]:
    """An answer's labels."""
    return answer


def majority(answers: Sequence[Names]) -> list[Names]:
    """Every unit given the label that is most frequent in `answers`; no constant answer has a higher accuracy.

    Raises StiltsError where there is no label."""
    counts = Counter(label for labels in answers for label in labels)
    if not counts:
        raise StiltsError(f"nothing to score: {len(answers)} examples without a label")
    label = counts.most_common(1)[0][0]
    return [[label] * len(labels) for labels in answers]


def only_labels(kind: str, answers: Sequence[Sequence[str]]) -> list[str]:
    """The one label of each example. Raises StiltsError for an example with several, or none."""
    for labels in answers:
        if len(labels) != 1:
            raise StiltsError(f"an example of {kind}: found {len(labels)} labels, accepted one")
    return [label for (label,) in answers]
