"""Predictions of a model for encoded examples, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch

from adapter_stilts.evaluation.metrics import compute
from adapter_stilts.model.compiled import plain_layers
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.training.batches import Batch, first_position, inference_batches, pack
from adapter_stilts.training.step import batch_logits
from adapter_stilts.training.streams import Streams

# Pieces a batch at inference: fills a CPU's caches and keeps a GPU busy without needing much memory.
INFERENCE_TOKENS = {"cpu": 1_024, "cuda": 65_536}


@contextmanager
def predicting(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients for the time of the block, and without compiled layers."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), plain_layers(model):
            yield
    finally:
        model.train(training)


def predict_labels(
    model: Any, head: str, split: EncodedSplit, examples: np.ndarray, on_batch: Callable[[int], None] | None = None
) -> list[list[str]]:
    """Predicted label names of the units of each given example, in the examples' order; computed in float32.

    A sentence that was split into windows gets its words' labels in order, one each. `on_batch` hears the number of
    pieces of each finished batch.
    """
    device = next(model.parameters()).device
    first = first_position(model.config)
    predicted: dict[int, np.ndarray] = {}
    batches = inference_batches(split, split.sequences_of(examples), INFERENCE_TOKENS[device.type])

    def labels_of(sequences: np.ndarray) -> tuple[Batch, np.ndarray]:
        batch = pack(split, sequences, head, first, device)
        with torch.no_grad():  # each thread has its own
            return batch, batch_logits(model, batch).argmax(dim=1).cpu().numpy()

    with predicting(model), closing(Streams(device)) as streams:
        for batch, labels in streams.map(labels_of, batches):
            ends = np.cumsum(np.diff(split.unit_offsets)[batch.sequences])
            for sequence, own in zip(batch.sequences, np.split(labels, ends[:-1]), strict=True):
                predicted[int(sequence)] = own
            if on_batch:
                on_batch(batch.tokens)
    units: dict[int, list[str]] = {int(example): [] for example in examples}
    for sequence in split.sequences_of(examples):
        units[int(split.example[sequence])].extend(split.label_names[label] for label in predicted[int(sequence)])
    return [units[int(example)] for example in examples]


def score(
    kind: str, metrics: Sequence[str], predictions: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Scores in percent by the metrics' result names, for units as `predict_labels` and `EncodedSplit.gold` give."""
    if find_kind(kind).per_word:
        return compute(metrics, predictions, gold)
    return compute(metrics, [label for (label,) in predictions], [label for (label,) in gold])
