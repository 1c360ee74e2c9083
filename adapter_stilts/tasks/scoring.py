"""Scores of a kind's answers, their counts by example, and what the best constant answer would score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapter_stilts.errors import StiltsError
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.metrics import Array, find_metric, scores_of

# Answers of examples, as predictions and gold are kept: see `Kind.answer`.
Answers = Sequence[Any]


def score(kind: str, metrics: Sequence[str], predictions: Answers, gold: Answers) -> dict[str, float]:
    """Scores in percent by the metrics' result names, for an answer an example. Raises what `scores_of` raises."""
    described = find_kind(kind)
    return scores_of(metrics, described.metrics, kind, described.scored(predictions), described.scored(gold))


def example_counts(kind: str, metric: str, predictions: Answers, gold: Answers) -> Array:
    """Counts (examples, k) of which the metric is a ratio, so that a resample of examples needs no second scoring; see
    `Metric`. Raises `UsageError` for a metric that the kind does not have, and what `Metric.counts` raises."""
    described = find_kind(kind)
    counts = find_metric(metric, described.metrics, kind).counts
    return counts(described.scored(predictions), described.scored(gold))


def has_floor(kind: str) -> bool:
    """Whether a constant answer can be scored for this kind."""
    return find_kind(kind).floor is not None


def majority_score(kind: str, metrics: Sequence[str], gold: Answers) -> dict[str, float]:
    """Scores in percent of the best constant answer, such as the label that is most frequent in `gold` for every unit.
    Raises StiltsError where there is none, and what `scores_of` raises."""
    floor = find_kind(kind).floor
    if floor is None:
        raise StiltsError(f"kind {kind}: has no constant answer to score")
    return score(kind, metrics, floor(gold), gold)


def distinct_labels(kind: str, answers: Answers) -> int | None:
    """How many different labels the answers hold; None for a kind without labels."""
    labels_of = find_kind(kind).labels_of
    return None if labels_of is None else len({label for answer in answers for label in labels_of(answer)})


def unseen_labels(kind: str, known: Sequence[str], gold: Answers) -> int:
    """How many gold labels a head of the known ones cannot give; 0 for a kind without an inventory of labels."""
    described, names = find_kind(kind), set(known)
    if described.label_role is None or described.labels_of is None:
        return 0
    return sum(label not in names for answer in gold for label in described.labels_of(answer))
