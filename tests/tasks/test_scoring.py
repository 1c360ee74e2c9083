"""Scores, counts and the majority class of both forms of labels, counted by hand."""

import pytest

from adapter_stilts.errors import UsageError
from adapter_stilts.tasks.scoring import example_counts, majority_score, score

TAGS, OTHER_TAGS = [["A", "B"], ["B", "B", "C"]], [["A", "A"], ["B", "B", "C"]]
CLASSES, OTHER_CLASSES = [["yes"], ["no"], ["yes"]], [["yes"], ["yes"], ["yes"]]


def test_scores_and_counts_of_words_and_of_texts() -> None:
    # 4 of 5 words. Spans of equal tags, those in B single: gold A, B | B, B, C; predicted AA | B, B, C; three in both.
    assert score("tagging", ["accuracy", "official_tag_f1"], OTHER_TAGS, TAGS) == {
        "accuracy": 80.0,
        "f1": pytest.approx(100 * 2 * 3 / 9, abs=1e-9),
    }
    assert example_counts("tagging", "accuracy", OTHER_TAGS, TAGS).tolist() == [[1, 2], [3, 3]]
    assert example_counts("tagging", "official_tag_f1", OTHER_TAGS, TAGS).tolist() == [[0, 1, 2], [3, 3, 3]]
    assert score("classification", ["accuracy"], OTHER_CLASSES, CLASSES) == {"accuracy": pytest.approx(200 / 3)}
    assert example_counts("classification", "accuracy", OTHER_CLASSES, CLASSES).tolist() == [[1, 1], [0, 1], [1, 1]]


def test_the_majority_class_is_scored_by_the_same_metrics() -> None:
    # B is 3 of 5 words, and 3 of the 5 spans that B everywhere makes are gold's, which has 5 too.
    assert majority_score("tagging", ["accuracy", "official_tag_f1"], TAGS) == {"accuracy": 60.0, "f1": 60.0}
    assert majority_score("classification", ["accuracy"], CLASSES) == {"accuracy": pytest.approx(200 / 3)}


@pytest.mark.parametrize(
    ("kind", "metric", "message"),
    [
        ("tagging", "bleu", "unknown metric 'bleu': known are accuracy, span_f1, official_tag_f1"),
        ("classification", "span_f1", "metric 'span_f1' does not score classification; accepted is accuracy"),
        ("parsing", "accuracy", "kind: found 'parsing', accepted: tagging, classification, multiple_choice, masked_lm"),
    ],
)
def test_what_cannot_be_counted_is_named(kind: str, metric: str, message: str) -> None:
    with pytest.raises(UsageError) as failure:
        example_counts(kind, metric, CLASSES, CLASSES)
    assert str(failure.value) == message
