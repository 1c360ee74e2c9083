"""Counts by sentence give the metrics back, and the interval is that of the formula."""

import math

import numpy as np
import pytest

from adapter_stilts.analysis.bootstrap import ratio, sentence_counts, sentence_interval
from adapter_stilts.errors import StiltsError
from adapter_stilts.evaluation.metrics import compute
from adapter_stilts.evaluation.predictions import Predictions

GOLD = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"], ["B-ORG", "I-ORG"]]
PREDICTED = [["B-PER", "I-PER", "O", "B-ORG"], ["O", "B-LOC"], ["B-ORG", "I-ORG"]]
TAGS = [["NOUN", "NOUN", "VERB"], ["SCONJ", "SYM"], ["PRON"]]
OTHER_TAGS = [["NOUN", "VERB", "VERB"], ["SCONJ", "SCONJ"], ["PRON"]]


def predictions(predicted: list[list[str]], gold: list[list[str]]) -> Predictions:
    return Predictions("de", range(len(gold)), predicted, gold)


@pytest.mark.parametrize(
    ("metric", "predicted", "gold"),
    [
        ("accuracy", OTHER_TAGS, TAGS),
        ("official_tag_f1", OTHER_TAGS, TAGS),
        ("span_f1", PREDICTED, GOLD),
        ("accuracy", PREDICTED, GOLD),
    ],
)
def test_summed_counts_are_the_metric(metric: str, predicted: list[list[str]], gold: list[list[str]]) -> None:
    counts = sentence_counts(metric, predictions(predicted, gold))
    (expected,) = compute([metric], predicted, gold).values()
    assert float(ratio(counts.sum(0))) == pytest.approx(expected, abs=1e-12)


def test_span_counts_by_hand() -> None:
    # Sentence 1: spans PER and LOC, found PER right, ORG wrong. Sentence 2: none, one invented. 3: one, right.
    assert sentence_counts("span_f1", predictions(PREDICTED, GOLD)).tolist() == [[1, 2, 2], [0, 1, 0], [1, 1, 1]]


def test_unknown_metric_is_named() -> None:
    with pytest.raises(StiltsError, match="'bleu'"):
        sentence_counts("bleu", predictions(TAGS, TAGS))


def test_no_items_score_zero_as_in_seqeval() -> None:
    assert float(ratio(np.zeros(3))) == 0.0


def test_equal_runs_differ_by_nothing() -> None:
    counts = {"de": sentence_counts("accuracy", predictions(OTHER_TAGS, TAGS))}
    interval = sentence_interval([counts], [counts], ["de"])
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_interval_is_that_of_the_normal_approximation() -> None:
    """One-word sentences: the difference of two accuracies on 400 of them has the standard error of a mean of paired
    differences, which the percentile interval must meet within a tenth of its width."""
    generator = np.random.default_rng(3)
    ours, theirs = generator.random(400) < 0.8, generator.random(400) < 0.7
    mine, other = ({"de": np.stack([right, np.ones(400), np.ones(400)], axis=1)} for right in (ours, theirs))
    interval = sentence_interval([mine], [other], ["de"])
    differences = 100.0 * (ours.astype(float) - theirs.astype(float))
    error = 1.96 * differences.std() / math.sqrt(400)
    assert interval.value == pytest.approx(differences.mean(), abs=1e-9)
    assert interval.low == pytest.approx(interval.value - error, abs=0.2 * error)
    assert interval.high == pytest.approx(interval.value + error, abs=0.2 * error)


def test_mean_over_languages_and_seeds() -> None:
    """Two seeds, two languages, ten equal sentences each: differences 10 and 30 points, and 20 and 40, average to 25;
    equal sentences leave no noise."""

    def counts(share: float) -> np.ndarray:
        return np.tile([share * 10, 10, 10], (10, 1))

    ours = [{"de": counts(0.6), "fr": counts(0.8)}, {"de": counts(0.7), "fr": counts(0.9)}]
    theirs = [{"de": counts(0.5), "fr": counts(0.5)}] * 2
    interval = sentence_interval(ours, theirs, ["de", "fr"])
    assert (interval.value, interval.low, interval.high) == pytest.approx((25.0, 25.0, 25.0))
