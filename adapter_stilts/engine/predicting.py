"""Predictions of a model for encoded examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapter_stilts.engine.batches import Batch, first_position, inference_batches, pack
from adapter_stilts.engine.step import batch_logits
from adapter_stilts.engine.streams import Streams
from adapter_stilts.model.compiled import plain_layers
from adapter_stilts.model.half import rounded_to
from adapter_stilts.model.protocols import Model
from adapter_stilts.progress import say
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.tasks.kinds.contract import HeadUse

# Pieces a batch at inference: fills a CPU's caches and keeps a GPU busy without needing much memory.
INFERENCE_TOKENS = {"cpu": 1_024, "cuda": 65_536}
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
# What predictions are computed in where a run is scored in all languages. On one H100 bf16 is nine times as fast as
# float32, but moves a run's mean by up to a tenth of a point; fp16 rounds eight times as finely and moves it by a
# hundredth (`python -m benchmarks.same_scores`).
SCORING_PRECISION = {"cpu": "float32", "cuda": "fp16"}


@contextmanager
def predicting(model: Model, precision: str = "float32") -> Iterator[None]:
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
class Predicted:
    """The answer to each example, as its kind gives them, and the precision that they were computed in after all."""

    answers: list[Any]
    precision: str


def predict_answers(
    model: Model,
    use: HeadUse,
    split: EncodedSplit,
    examples: np.ndarray,
    on_batch: Callable[[int], None] | None = None,
    precision: str = "float32",
) -> Predicted:
    """Predict the answer to each given example, in the examples' order; `precision` is float32, bf16 or fp16, which
    gives way to float32 where a number grows too large for it.

    The windows of a long sentence are joined by the kind. `on_batch` hears the number of pieces of each finished batch.
    """
    if not len(examples):
        return Predicted([], precision)
    device = next(model.parameters()).device
    first = first_position(model.config)
    sequences = split.sequences_of(examples)
    batches = inference_batches(split, sequences, use.kind, INFERENCE_TOKENS[device.type])

    def decoded_of(sequences: np.ndarray) -> tuple[Batch, Mapping[str, Tensor], Tensor]:
        batch = pack(split, sequences, use, first, device)
        with torch.no_grad():  # set for each thread apart
            scores = batch_logits(model, batch)
            return batch, use.kind.decode(scores, batch), scores.isfinite().all()

    order: list[np.ndarray] = []
    parts: list[Mapping[str, Tensor]] = []
    finite: list[Tensor] = []
    with predicting(model, precision), closing(Streams(device)) as streams:
        for batch, decoded, all_finite in streams.map(decoded_of, batches):
            order.append(batch.sequences)
            parts.append(decoded)  # left where they are: fetching them would wait for the device
            finite.append(all_finite)
            if on_batch:
                on_batch(batch.tokens)
    if precision == "fp16" and finite and not torch.stack(finite).all():
        say(f"{split.source}: a number too large for fp16, predicted in float32")
        return predict_answers(model, use, split, examples)
    assert use.kind.join is not None
    return Predicted(use.kind.join(_by_unit(split, order, parts), split, examples), precision)


def _by_unit(split: EncodedSplit, order: list[np.ndarray], parts: list[Mapping[str, Tensor]]) -> dict[str, np.ndarray]:
    """What was decoded, by name, (units of the split, ...): `parts` are that of the units of the sequences of `order`.
    Units of other sequences have zeros."""
    if not parts:
        return {}
    index = split.units_of(np.concatenate(order))
    arrays = {}
    for name in parts[0]:
        values = torch.cat([part[name] for part in parts]).cpu().numpy()
        arrays[name] = np.zeros((int(split.unit_offsets[-1]), *values.shape[1:]), values.dtype)
        arrays[name][index] = values
    return arrays
