"""Intervals of a difference: over the test sentences alone, or over seeds and test sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from adapter_stilts.statistics.small_samples import t_interval

RESAMPLES = 1_000
BOOTSTRAP_SEED = 0
Array = NDArray[np.float64]
# Counts (sentences, k) of a metric for each language, and what makes percent of their sums: see `Metric`.
CountsByLanguage = Mapping[str, Array]
Ratio = Callable[[Array], Array]

# Seeds that two rows must share before an interval can hold what another seed would do.
SEEDS = 3


@dataclass(frozen=True)
class Interval:
    """A difference in points of percent, with the ends of its 95% interval where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


def sentence_interval(
    counts: Sequence[CountsByLanguage],
    reference_counts: Sequence[CountsByLanguage],
    languages: Sequence[str],
    ratio: Ratio,
) -> Interval:
    """Difference of the mean over languages, with its interval over resampled test sentences alone.

    `counts` and `reference_counts` hold the counts for each seed, paired in order; `ratio` is that of their metric.
    The ends are the 2.5 and 97.5 percentiles of a paired bootstrap. They say how far the result depends on which
    sentences were tested, and nothing of seeds, languages or intermediates that were not tried: training noise is often
    larger.
    """
    value = float(
        np.mean([_mean_difference(*pair, languages, ratio) for pair in zip(counts, reference_counts, strict=True)])
    )
    low, high = np.percentile(resampled_difference(counts, reference_counts, languages, ratio), [2.5, 97.5])
    return Interval(value, float(low), float(high))


def seed_interval(differences: Sequence[float], sentence_variance: float) -> Interval:
    """Mean of the differences d_s of n paired seeds, with its 95% interval over seeds and test sentences.

    a = s_d^2 / n is the variance of the mean over seeds (s_d^2 with n - 1 below), b = `sentence_variance` that of the
    mean over resampled test sentences; every seed is scored on the same sentences, so b does not shrink with n. The
    interval is mean +- t(.975, df) sqrt(a + b) with Satterthwaite's degrees of freedom (1946, Biometrics Bulletin
    2:110), those of b being taken for infinite: df = (a + b)^2 / (a^2 / (n - 1)). What a seed makes of single sentences
    is in both parts, which errs on the wide side; that a is itself estimated, on the narrow one: simulated with normal
    noise, it covers in 92% (training noise alone) to 95% (sentences alone) with three seeds, in 94 to 95% with five.
    Takes two seeds or more; under `SEEDS` the quantile is so large that nothing is said.
    """
    count, value = len(differences), float(np.mean(differences))
    seeds = float(np.var(differences, ddof=1)) / count
    total = seeds + sentence_variance
    df = (total / seeds) ** 2 * (count - 1) if seeds else np.inf
    low, high = t_interval(value, float(np.sqrt(total)), df)
    return Interval(value, low, high)


def resampled_difference(
    counts: Sequence[CountsByLanguage],
    reference_counts: Sequence[CountsByLanguage],
    languages: Sequence[str],
    ratio: Ratio,
) -> Array:
    """The difference of the mean over languages and seeds in each resample, (RESAMPLES,). A resample draws the same
    sentences for both sides and all seeds, within each language."""
    resampled = np.zeros(RESAMPLES)
    drawn = _draw(tuple(len(counts[0][language]) for language in languages))
    for language, weights in zip(languages, drawn, strict=True):
        for one, other in zip(counts, reference_counts, strict=True):
            resampled += ratio(weights @ one[language]) - ratio(weights @ other[language])
    return resampled / (len(counts) * len(languages))


def _mean_difference(
    counts: CountsByLanguage, reference_counts: CountsByLanguage, languages: Sequence[str], ratio: Ratio
) -> float:
    return float(np.mean([ratio(counts[code].sum(0)) - ratio(reference_counts[code].sum(0)) for code in languages]))


@lru_cache(maxsize=2)
def _draw(sizes: tuple[int, ...]) -> list[np.ndarray]:
    """How often each resample takes each sentence, (RESAMPLES, sentences) for each size: the same for all rows of a
    table, and most of what an interval costs."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    return [generator.multinomial(size, np.full(size, 1 / size), size=RESAMPLES).astype(np.uint16) for size in sizes]
