"""Intervals are those of their formulas."""

import math

import numpy as np
import pytest
from scipy import stats

from adapter_stilts.statistics.bootstrap import (
    resampled_difference,
    seed_interval,
    sentence_interval,
)
from adapter_stilts.tasks.metrics import TAG_METRICS

accuracy, f1 = TAG_METRICS["accuracy"].ratio, TAG_METRICS["official_tag_f1"].ratio


def test_equal_runs_differ_by_nothing() -> None:
    counts = {"de": np.array([[1.0, 3.0], [2.0, 2.0]])}
    interval = sentence_interval([counts], [counts], ["de"], accuracy)
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_interval_is_that_of_the_normal_approximation() -> None:
    """One-word sentences: the difference of two accuracies on 400 of them has the standard error of a mean of paired
    differences, which the percentile interval must meet within a tenth of its width."""
    generator = np.random.default_rng(3)
    first, second = generator.random(400) < 0.8, generator.random(400) < 0.7
    mine, other = ({"de": np.stack([right, np.ones(400)], axis=1)} for right in (first, second))
    interval = sentence_interval([mine], [other], ["de"], accuracy)
    differences = 100.0 * (first.astype(float) - second.astype(float))
    error = 1.96 * differences.std() / math.sqrt(400)
    assert interval.value == pytest.approx(differences.mean(), abs=1e-9)
    assert interval.low == pytest.approx(interval.value - error, abs=0.2 * error)
    assert interval.high == pytest.approx(interval.value + error, abs=0.2 * error)


def test_mean_over_languages_and_seeds() -> None:
    """Two seeds, two languages, ten equal sentences each: differences 10 and 30 points, and 20 and 40, average to 25;
    equal sentences leave no noise."""

    def counts(share: float) -> np.ndarray:
        return np.tile([share * 10, 10, 10], (10, 1))

    first = [{"de": counts(0.6), "fr": counts(0.8)}, {"de": counts(0.7), "fr": counts(0.9)}]
    second = [{"de": counts(0.5), "fr": counts(0.5)}] * 2
    interval = sentence_interval(first, second, ["de", "fr"], f1)
    assert (interval.value, interval.low, interval.high) == pytest.approx((25.0, 25.0, 25.0))


def test_seeds_and_sentences_by_the_formula() -> None:
    """d = 1, 2, 6: mean 3, variance 7, a = 7/3; b = 1: df = (10/3)^2 / ((7/3)^2 / 2) = 200/49 = 4.0816. The quantile
    lies between those of tables at 4 (2.7764) and 5 (2.5706) degrees of freedom."""
    interval = seed_interval([1.0, 2.0, 6.0], 1.0)
    half = (interval.high or 0) - interval.value
    assert interval.value == pytest.approx(3.0)
    assert interval.value - (interval.low or 0) == pytest.approx(half)
    assert half / math.sqrt(10 / 3) == pytest.approx(float(stats.t.ppf(0.975, 200 / 49)), abs=1e-9)
    assert 2.5706 < half / math.sqrt(10 / 3) < 2.7764


def test_without_noise_of_sentences_it_is_the_t_interval_of_the_seeds() -> None:
    """Tables: t(.975, 2) = 4.3027."""
    interval = seed_interval([1.0, 2.0, 6.0], 0.0)
    assert interval.high == pytest.approx(3.0 + 4.302653 * math.sqrt(7 / 3), abs=1e-5)


def test_without_noise_of_seeds_it_is_the_normal_interval_of_the_sentences() -> None:
    interval = seed_interval([2.0, 2.0, 2.0], 0.25)
    assert (interval.low, interval.high) == pytest.approx((2.0 - 1.959964 * 0.5, 2.0 + 1.959964 * 0.5), abs=1e-5)
    assert seed_interval([2.0, 2.0, 2.0], 0.0).high == 2.0


def one_study(generator: np.random.Generator, seeds: int, spread: float, sentences: int) -> tuple[float, ...]:
    """Sentences of ten words: each has a difference of its own (5 points), each seed one (`spread`), and the true one
    is 1 point. Returns the ends of both intervals."""
    of_sentence = generator.normal(0, 0.5, sentences)
    first, second = [], []
    for shift in generator.normal(0, spread / 10, seeds):
        right = 5 + 0.1 + of_sentence + shift
        first.append({"de": np.stack([right, np.full(sentences, 10.0)], axis=1)})
        second.append({"de": np.tile([5.0, 10.0], (sentences, 1))})
    narrow = sentence_interval(first, second, ["de"], accuracy)
    differences = [100 * float((seed_counts["de"][:, 0] - 5).mean()) / 10 for seed_counts in first]
    wide = seed_interval(differences, float(np.var(resampled_difference(first, second, ["de"], accuracy), ddof=1)))
    return narrow.low or 0, narrow.high or 0, wide.low or 0, wide.high or 0


@pytest.mark.parametrize(("spread", "narrow_covers"), [(1.0, (0.7, 0.85)), (0.1, (0.88, 1.0))])
def test_coverage_of_both_intervals(spread: float, narrow_covers: tuple[float, float]) -> None:
    """600 simulated studies of three seeds and 100 sentences: intervals over seeds and sentences cover the truth in 92
    to 95 of a hundred whatever the noise of training, those over sentences alone only where there is next to none."""
    generator = np.random.default_rng(0)
    ends = np.array([one_study(generator, 3, spread, 100) for _ in range(600)])
    narrow, wide = ((ends[:, low] <= 1.0) & (ends[:, low + 1] >= 1.0) for low in (0, 2))
    assert 0.9 <= wide.mean() <= 0.975
    assert narrow_covers[0] <= narrow.mean() <= narrow_covers[1]
