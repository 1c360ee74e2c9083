"""Predictions of a model for encoded examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapter_stilts.engine.batches import Batch, first_position, inference_batches, pack, ranges
from adapter_stilts.engine.step import batch_logits
from adapter_stilts.engine.streams import Streams
from adapter_stilts.model.compiled import plain_layers
from adapter_stilts.model.half import rounded_to
from adapter_stilts.progress import say
from adapter_stilts.tasks.encode import EncodedSplit

# Pieces a batch at inference: fills a CPU's caches and keeps a GPU busy without needing much memory.
INFERENCE_TOKENS = {"cpu": 1_024, "cuda": 65_536}
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
# What predictions are computed in where a run is scored in all languages. On one H100 bf16 is nine times as fast as
# float32, but moves a run's mean by up to a tenth of a point; fp16 rounds eight times as finely and moves it by a
# hundredth (`python -m benchmarks.same_scores`).
SCORING_PRECISION = {"cpu": "float32", "cuda": "fp16"}


@contextmanager
def predicting(model: Any, precision: str = "float32") -> Iterator[None]:
    """Evaluation mode without gradients for the time of the block, and without compiled layers."""
    # Not by `eval` and `train`, which set every module, right or not: 9 ms each for XLM-R Large with adapters.
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    half = rounded_to(model, HALF[precision]) if precision in HALF else nullcontext()
    try:
        with torch.no_grad(), plain_layers(model), half:
            yield
    finally:
        for module in training:
            module.training = True


@dataclass(frozen=True)
class Labelled:
    """Predicted label names of each example's units, and the precision that they were computed in after all."""

    labels: list[list[str]]
    precision: str


def predict_labels(
    model: Any,
    head: str,
    split: EncodedSplit,
    examples: np.ndarray,
    on_batch: Callable[[int], None] | None = None,
    precision: str = "float32",
) -> Labelled:
    """Predict the labels of the units of each given example, in the examples' order; `precision` is float32, bf16 or
    fp16, which gives way to float32 where a number grows too large for it.

    A sentence that was split into windows gets its words' labels in order, one each. `on_batch` hears the number of
    pieces of each finished batch.
    """
    device = next(model.parameters()).device
    first = first_position(model.config)
    sequences = split.sequences_of(examples)
    batches = inference_batches(split, sequences, INFERENCE_TOKENS[device.type])

    def labels_of(own: np.ndarray) -> tuple[Batch, Tensor, Tensor]:
        batch = pack(split, own, head, first, device)
        with torch.no_grad():  # each thread has its own
            logits = batch_logits(model, batch)
            return batch, logits.argmax(dim=1), logits.isfinite().all()

    order: list[np.ndarray] = []
    found: list[Tensor] = []
    finite: list[Tensor] = []
    with predicting(model, precision), closing(Streams(device)) as streams:
        for batch, labels, whole in streams.map(labels_of, batches):
            order.append(batch.sequences)
            found.append(labels)  # left where they are: fetching them would wait for the device
            finite.append(whole)
            if on_batch:
                on_batch(batch.tokens)
    if precision == "fp16" and finite and not torch.stack(finite).all():
        say(f"{split.source}: a number too large for fp16, predicted in float32")
        return predict_labels(model, head, split, examples)
    return Labelled(_names_of_units(split, examples, sequences, order, found), precision)


def _names_of_units(
    split: EncodedSplit, examples: np.ndarray, sequences: np.ndarray, order: list[np.ndarray], found: list[Tensor]
) -> list[list[str]]:
    """The label names of each example's units; `found` are the labels of the units of the sequences of `order`."""
    labels = np.zeros(split.unit_offsets[-1], dtype=np.int64)
    units = np.diff(split.unit_offsets)
    if found:
        place = np.concatenate(order)
        labels[ranges(split.unit_offsets[place], units[place])] = torch.cat(found).cpu().numpy()
    # Whole arrays to lists at once: taking a NumPy number out of its array costs more than everything else here.
    inventory = np.array(split.label_names, dtype=object)
    names = inventory[labels[ranges(split.unit_offsets[sequences], units[sequences])]].tolist()
    named: dict[int, list[str]] = {example: [] for example in examples.tolist()}
    begin = 0
    for example, end in zip(split.example[sequences].tolist(), np.cumsum(units[sequences]).tolist(), strict=True):
        named[example] += names[begin:end]
        begin = end
    return [named[example] for example in examples.tolist()]
