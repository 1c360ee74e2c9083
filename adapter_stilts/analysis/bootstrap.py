"""Noise of the test sentences: paired bootstrap intervals from stored predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from seqeval.metrics.sequence_labeling import get_entities

from adapter_stilts.errors import StiltsError
from adapter_stilts.evaluation.metrics import official_spans
from adapter_stilts.evaluation.predictions import Predictions

RESAMPLES = 1_000
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Interval:
    """A difference in points of percent, with the 2.5 and 97.5 percentiles of its paired bootstrap."""

    value: float
    low: float
    high: float


def sentence_counts(metric: str, predictions: Predictions) -> np.ndarray:
    """Counts (sentences, 3) that the metric is a ratio of: right, predicted, gold (words or spans).

    Accuracy and F1 are both `200 * right / (predicted + gold)` of their sums, which is why sentences can be resampled
    without scoring them again.
    """
    counts = []
    for predicted, gold in zip(predictions.predicted, predictions.gold, strict=True):
        ours, theirs = _items(metric, predicted), _items(metric, gold)
        counts.append((len(ours & theirs), len(ours), len(theirs)))
    return np.array(counts, dtype=np.float64).reshape(-1, 3)


def _items(metric: str, labels: Sequence[str]) -> set:
    if metric == "accuracy":
        return set(enumerate(labels))
    if metric == "span_f1":
        return set(get_entities(list(labels)))
    if metric == "official_tag_f1":
        return official_spans([list(labels)])
    raise StiltsError(f"metric {metric!r}: no counts by sentence, accepted: accuracy, span_f1, official_tag_f1")


def ratio(sums: np.ndarray) -> np.ndarray:
    """The metric in percent, of summed counts (..., 3); 0 where there is neither a predicted nor a gold item."""
    denominator = sums[..., 1] + sums[..., 2]
    return 200.0 * sums[..., 0] / np.where(denominator == 0, 1.0, denominator)


def mean_difference(
    ours: Sequence[Mapping[str, np.ndarray]], theirs: Sequence[Mapping[str, np.ndarray]], languages: Sequence[str]
) -> Interval:
    """Difference of the mean over languages, with its interval over resampled test sentences.

    `ours` and `theirs` hold one mapping of language to counts (sentences, 3) for each seed, paired in order. A resample
    draws the same sentences for both sides and all seeds, within each language. The interval says how far the result
    depends on which sentences were tested; it says nothing of seeds, languages or intermediates that were not tried.
    """
    pairs = len(ours)
    value, resampled = 0.0, np.zeros(RESAMPLES)
    drawn = _draw(tuple(len(ours[0][language]) for language in languages))
    for language, weights in zip(languages, drawn, strict=True):
        for own, other in zip(ours, theirs, strict=True):
            value += float(ratio(own[language].sum(0)) - ratio(other[language].sum(0)))
            resampled += ratio(weights @ own[language]) - ratio(weights @ other[language])
    scale = pairs * len(languages)
    low, high = np.percentile(resampled / scale, [2.5, 97.5])
    return Interval(value / scale, float(low), float(high))


@lru_cache(maxsize=2)
def _draw(sizes: tuple[int, ...]) -> list[np.ndarray]:
    """How often each resample takes each sentence, (RESAMPLES, sentences) for each size: the same for all rows of a
    table, and most of what an interval costs."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return [generator.multinomial(size, np.full(size, 1 / size), size=RESAMPLES).astype(np.uint16) for size in sizes]
