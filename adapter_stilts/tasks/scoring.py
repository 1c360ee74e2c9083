"""Scores of a kind's predictions, their counts by example, and what the majority class would score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from adapter_stilts.errors import StiltsError
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.metrics import Array, compute, find_metric

# Labels of the units of each example, as predictions and gold are kept for every kind.
Units = Sequence[Sequence[str]]


def score(kind: str, metrics: Sequence[str], predictions: Units, gold: Units) -> dict[str, float]:
    """Scores in percent by the metrics' result names, for labels of the units of each example. Raises what `compute`
    raises."""
    return compute(metrics, _labels(kind, predictions), _labels(kind, gold))


def example_counts(kind: str, metric: str, predictions: Units, gold: Units) -> Array:
    """Counts (examples, k) of which the metric is a ratio, so that a resample of examples needs no second scoring; see
    `Metric`. Raises `UsageError` for a metric that the kind does not have, and what `Metric.counts` raises."""
    counts = find_metric(metric, find_kind(kind).metrics, kind).counts
    return counts(_labels(kind, predictions), _labels(kind, gold))


def majority_score(kind: str, metrics: Sequence[str], gold: Units) -> dict[str, float]:
    """Scores in percent of giving every unit the label that is most frequent in `gold`. No constant answer has a higher
    accuracy. Raises StiltsError where there is no label, and what `compute` raises."""
    counts = Counter(label for labels in gold for label in labels)
    if not counts:
        raise StiltsError(f"nothing to score: {len(gold)} examples without a label")
    label = counts.most_common(1)[0][0]
    return score(kind, metrics, [[label] * len(labels) for labels in gold], gold)


def _labels(kind: str, units: Units) -> Sequence[Any]:
    """Labels as the kind's metrics take them: a list an example, or its one label."""
    if find_kind(kind).per_word:
        return units
    for labels in units:
        if len(labels) != 1:
            raise StiltsError(f"an example of {kind}: found {len(labels)} labels, accepted one")
    return [label for (label,) in units]
