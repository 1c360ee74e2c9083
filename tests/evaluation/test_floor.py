"""What is said of predictions that a constant answer would equal."""

from adapter_stilts.evaluation.floor import nothing_learnt, nothing_learnt_in_development


def test_single_labels_and_scores_at_the_floor_are_named() -> None:
    scores, majority = {"en": 80.0, "de": 31.0, "fr": 12.5}, {"en": 30.0, "de": 31.0, "fr": 20.0}
    assert nothing_learnt("accuracy", scores, majority, {"en": 5, "de": 1, "fr": 3}) == (
        "nothing learnt shows here: predictions of a single label (de); accuracy at or under the majority class "
        "(de 31.00, majority class 31.00; fr 12.50, majority class 20.00)"
    )
    assert nothing_learnt("f1", {"en": 0.0}, {"en": 0.0}, {"en": 2}) == (
        "nothing learnt shows here: f1 at or under the majority class (en 0.00, majority class 0.00)"
    )


def test_what_is_above_or_not_known_is_not_named() -> None:
    assert nothing_learnt("accuracy", {"en": 30.1, "de": 0.0}, {"en": 30.0}, {"en": 2}) == ""
    assert nothing_learnt_in_development("accuracy", 0.0, None, None) == ""
    assert nothing_learnt_in_development("accuracy", 40.0, 30.0, 1).endswith(
        "predictions of a single label (development)"
    )
