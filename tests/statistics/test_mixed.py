"""The mixed model against the analysis of variance, and against the likelihood of all observations written out."""

from __future__ import annotations

import numpy as np
import pytest

from adapter_stilts.errors import StiltsError
from adapter_stilts.statistics.mixed import Fit, Term, fit_reml

INTERMEDIATES = np.repeat(np.arange(6), 2)
SEEDS = np.tile(np.arange(2), 6)
KINDS = INTERMEDIATES // 3
FIXED = (KINDS[:, None] == np.arange(2)).astype(float)
TERMS = (
    Term("residual", np.arange(12), by_column=True),
    Term("intermediate", INTERMEDIATES, signed=True),
    Term("run", np.arange(12)),
    Term("language", np.zeros(12, dtype=int), by_column=True),
    Term("language x intermediate", INTERMEDIATES, by_column=True),
    Term("seed", SEEDS),
    Term("language x seed", SEEDS, by_column=True),
)
DIFFERENCE = np.array([1.0, -1.0])


def drawn(seed: int, columns: int = 9, intermediate: float = 1.0) -> np.ndarray:
    """Values (12 runs, columns) with noise of every term."""
    generator = np.random.default_rng(seed)
    values = KINDS[:, None] + generator.normal(0, 1.2, (12, columns))
    values = values + intermediate * generator.normal(size=(6, 1))[INTERMEDIATES] + generator.normal(0, 0.5, (12, 1))
    values = values + generator.normal(0, 0.7, (6, columns))[INTERMEDIATES] + generator.normal(0, 0.6, (1, columns))
    return values + generator.normal(0, 0.8, (2, columns))[SEEDS] + generator.normal(0, 0.4, (2, 1))[SEEDS]


def with_gaps(seed: int) -> np.ndarray:
    """A failed run (one row), a language that two runs lack, and one that a third lacks."""
    values = drawn(seed)
    values[5] = np.nan
    values[[0, 7], 3] = np.nan
    values[2, 8] = np.nan
    return values


def written_out(values: np.ndarray, fixed: np.ndarray, terms: tuple[Term, ...]) -> tuple[np.ndarray, ...]:
    """All observations one after another: values, fixed part, and the covariance that each term's variance adds."""
    row, column = np.nonzero(~np.isnan(values))
    parts = []
    for term in terms:
        same = term.codes[row][:, None] == term.codes[row]
        parts.append(same & (column[:, None] == column) if term.by_column else same)
    return values[row, column], fixed[row], np.stack(parts).astype(float)


def restricted(variances: np.ndarray, y: np.ndarray, x: np.ndarray, parts: np.ndarray) -> float:
    """The restricted log-likelihood by its formula (Searle et al. 1992, 6.6), without its constant."""
    inverse = np.linalg.inv(np.tensordot(variances, parts, 1))
    information = x.T @ inverse @ x
    residual = y - x @ np.linalg.solve(information, x.T @ inverse @ y)
    logs = -np.linalg.slogdet(inverse)[1] + np.linalg.slogdet(information)[1]
    return float(-0.5 * (logs + residual @ inverse @ residual))


def derivative(variances: np.ndarray, index: int, *data: np.ndarray) -> float:
    step = np.zeros(len(variances))
    step[index] = 1e-5
    return (restricted(variances + step, *data) - restricted(variances - step, *data)) / 2e-5


@pytest.mark.parametrize("values", [drawn(1), with_gaps(1), with_gaps(2)], ids=["balanced", "gaps", "more gaps"])
def test_the_likelihood_of_all_observations_has_its_top_there(values: np.ndarray) -> None:
    """Inside the bounds the slope is zero; at a variance of zero it points outward."""
    fit = fit_reml(values, FIXED, TERMS)
    data = written_out(values, FIXED, TERMS)
    variances = np.array([fit.components[term.name] for term in TERMS])
    assert fit.converged
    for index, variance in enumerate(variances):
        slope = derivative(variances, index, *data) if variance else derivative(variances + 1e-5, index, *data)
        assert slope == pytest.approx(0, abs=2e-4) if variance else slope < 0


@pytest.mark.parametrize("values", [drawn(1), with_gaps(1), with_gaps(2)], ids=["balanced", "gaps", "more gaps"])
def test_contrast_is_that_of_generalised_least_squares(values: np.ndarray) -> None:
    """Estimate, variance and Satterthwaite's df from matrices of all observations."""
    fit = fit_reml(values, FIXED, TERMS)
    y, x, parts = written_out(values, FIXED, TERMS)
    variances = np.array([fit.components[term.name] for term in TERMS])
    free = parts[variances != 0]

    def variance_of(components: np.ndarray) -> float:
        inverse = np.linalg.inv(np.tensordot(components, free, 1))
        return float(DIFFERENCE @ np.linalg.inv(x.T @ inverse @ x) @ DIFFERENCE)

    positive = variances[variances != 0]
    inverse = np.linalg.inv(np.tensordot(positive, free, 1))
    covariance = np.linalg.inv(x.T @ inverse @ x)
    projection = inverse - inverse @ x @ covariance @ x.T @ inverse
    products = projection @ free
    information = 0.5 * np.einsum("iab,jba->ij", products, products)
    steps = 1e-5 * np.eye(len(positive))
    gradient = np.array([(variance_of(positive + step) - variance_of(positive - step)) / 2e-5 for step in steps])
    df = 2 * variance_of(positive) ** 2 / (gradient @ np.linalg.inv(information) @ gradient)
    expected = (DIFFERENCE @ covariance @ x.T @ inverse @ y, variance_of(positive) ** 0.5, df)
    assert fit.contrast(DIFFERENCE) == pytest.approx(expected, rel=1e-5)


def test_one_way_layout_by_its_mean_squares() -> None:
    """Three groups of two, by hand: means 2, 5, 11; within mean square (2 + 2 + 8) / 3 = 4; between 2 * 42 / 2 = 42."""
    values = np.array([[1.0], [3.0], [4.0], [6.0], [9.0], [13.0]])
    terms = (Term("residual", np.arange(6), by_column=True), Term("group", np.repeat(np.arange(3), 2)))
    fit = fit_reml(values, np.ones((6, 1)), terms)
    assert fit.components == pytest.approx({"residual": 4.0, "group": 19.0}, rel=1e-6)
    assert fit.contrast(np.ones(1)) == pytest.approx((6.0, (42 / 6) ** 0.5, 2.0), rel=1e-6)


def nested(values: np.ndarray) -> tuple[float, float, float]:
    """Difference of kinds, its standard error and df by the nested analysis of variance: intermediates in kinds."""
    means = values.reshape(6, -1).mean(1).reshape(2, 3)
    square = ((means - means.mean(1, keepdims=True)) ** 2).sum() / 4
    return means[0].mean() - means[1].mean(), (2 * square / 3) ** 0.5, 4.0


@pytest.mark.parametrize("seed", range(6))
def test_balanced_contrast_is_the_nested_analysis_of_variance(seed: int) -> None:
    assert fit_reml(drawn(seed), FIXED, TERMS).contrast(DIFFERENCE) == pytest.approx(nested(drawn(seed)), rel=1e-5)


def test_so_it_is_where_intermediates_differ_less_than_chance() -> None:
    """A variance held at zero would make the interval of the analysis of variance wider than it is."""
    below = [drawn(seed, intermediate=0.0) for seed in range(12)]
    fits: list[Fit] = [fit_reml(values, FIXED, TERMS) for values in below]
    chosen = [(fit, values) for fit, values in zip(fits, below, strict=True) if fit.components["intermediate"] < 0]
    assert len(chosen) >= 3
    for fit, values in chosen:
        assert fit.contrast(DIFFERENCE) == pytest.approx(nested(values), rel=1e-5)


def test_terms_that_the_design_cannot_tell_apart_are_left_out() -> None:
    """One seed: a run is its intermediate, and a language by intermediate is the residual."""
    once = SEEDS == 0
    terms = [Term(term.name, term.codes[once], term.by_column, term.signed) for term in TERMS]
    fit = fit_reml(drawn(3)[once], FIXED[once], terms)
    assert list(fit.components) == ["residual", "intermediate", "language"]


def test_scale_of_the_values_is_that_of_the_result() -> None:
    one, other = (fit_reml(factor * with_gaps(1), FIXED, TERMS) for factor in (1.0, 1000.0))
    estimate, error, df = one.contrast(DIFFERENCE)
    assert other.contrast(DIFFERENCE) == pytest.approx((1000 * estimate, 1000 * error, df), rel=1e-6)


def test_values_without_variation_are_refused() -> None:
    with pytest.raises(StiltsError, match="no variation"):
        fit_reml(np.repeat(KINDS[:, None] + 0.1, 4, axis=1), FIXED, TERMS)
