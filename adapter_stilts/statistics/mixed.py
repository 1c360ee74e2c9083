"""A linear mixed-effects model of runs tested in many languages: REML with Satterthwaite's degrees of freedom.

The data are a matrix of runs (rows) and languages (columns). A random term is a partition of the rows; its effects are
drawn once for each part (a run's training noise, say, shared by all its languages) or anew in each column (how a
language takes to an intermediate task). Columns are independent given the former, and columns with the same rows
present have the same covariance, so their mean and their scatter hold all that the likelihood needs (sufficiency).
Thousands of observations come down to matrices of the size of the runs, exactly, and with missing rows too: once for
each different set of rows that a column has.

REML and its information: Searle, Casella and McCulloch (1992), Variance Components, chapter 6. Degrees of freedom:
Giesbrecht and Burns (1985), Biometrics 41.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import nnls

from adapter_stilts.errors import StiltsError

ITERATIONS = 100
# Twice the gain in log-likelihood that is still worth a step.
TOLERANCE = 1e-12
# A component whose information is explained by the others to all but this share cannot be told from them.
DISTINCT = 1e-7


@dataclass(frozen=True)
class Term:
    """A random term: rows of equal `codes` (rows,) share an effect, in every column another one if `by_column`.

    The variance of a `signed` term may come out below zero, as the covariance of rows may: held at zero, it would hide
    that rows differ less than chance, and the test would no longer be that of the analysis of variance.
    """

    name: str
    codes: np.ndarray
    by_column: bool = False
    signed: bool = False


@dataclass(frozen=True)
class Fit:
    """A fitted model: `coefficients` (p,) of the fixed columns with their `covariance` (p, p), the variance of each
    term by name (a term that the data cannot tell from those before it is left out), the restricted log-likelihood of
    the standardised values up to a constant, and whether it reached its top.

    `sensitivity` (k, p, p) is how the covariance grows with each component that is not zero, `component_covariance`
    (k, k) the covariance of these components' estimates.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    components: dict[str, float]
    log_likelihood: float
    converged: bool
    sensitivity: np.ndarray
    component_covariance: np.ndarray

    def contrast(self, weights: np.ndarray) -> tuple[float, float, float]:
        """Estimate, standard error and Satterthwaite's degrees of freedom of a combination (p,) of the coefficients.

        Components that were held at zero are taken as known, as if they were not in the model.
        """
        variance = float(weights @ self.covariance @ weights)
        gradient = np.einsum("p,kpr,r->k", weights, self.sensitivity, weights)
        spread = float(gradient @ self.component_covariance @ gradient)
        return float(weights @ self.coefficients), variance**0.5, 2 * variance**2 / spread


def fit_reml(values: np.ndarray, fixed: np.ndarray, terms: Sequence[Term]) -> Fit:
    """Fit `values` (rows, columns; NaN where missing) with `fixed` (rows, p) and random terms, of which the first must
    be the residual (every row by column).

    Raises StiltsError where the values do not vary around the fixed part.
    """
    groups = _groups(values)
    scale = _scale(groups, fixed)
    model = _Model(tuple(group.scaled(scale) for group in groups), fixed, tuple(terms))
    model = model.only(model.distinct())
    variances, state, converged = _maximise(model)
    return model.result(variances, state, scale, converged)


@dataclass(frozen=True)
class _Group:
    """Columns that have the same rows: their number, mean (rows,) and scatter around it (rows, rows)."""

    rows: np.ndarray
    columns: int
    mean: np.ndarray
    scatter: np.ndarray

    def scaled(self, scale: float) -> _Group:
        return _Group(self.rows, self.columns, self.mean / scale, self.scatter / scale**2)


def _groups(values: np.ndarray) -> list[_Group]:
    patterns, member = np.unique(~np.isnan(values).T, axis=0, return_inverse=True)
    groups = []
    for index, pattern in enumerate(patterns):
        if pattern.any():
            block = values[np.ix_(pattern, member.reshape(-1) == index)]
            mean = block.mean(1)
            centred = block - mean[:, None]
            groups.append(_Group(np.flatnonzero(pattern), block.shape[1], mean, centred @ centred.T))
    return groups


def _scale(groups: Sequence[_Group], fixed: np.ndarray) -> float:
    """The standard deviation around the fixed part, by which the values are divided while the model is fitted."""
    design = np.concatenate([fixed[group.rows] for group in groups])
    means = np.concatenate([group.mean for group in groups])
    weights = np.sqrt(np.concatenate([np.full(len(group.rows), group.columns) for group in groups]))
    coefficients = np.linalg.lstsq(design * weights[:, None], means * weights, rcond=None)[0]
    squares = float(np.sum((weights * (means - design @ coefficients)) ** 2))
    squares += sum(float(np.trace(group.scatter)) for group in groups)
    size = sum(float(group.columns * group.mean @ group.mean + np.trace(group.scatter)) for group in groups)
    if squares <= 1e-20 * size or squares == 0:
        raise StiltsError("found no variation within a kind of intermediate, accepted: values that differ")
    return float(np.sqrt(squares / float(np.sum(weights**2))))


@dataclass(frozen=True)
class _State:
    """The restricted likelihood at some variances, with its score (k,) and expected information (k, k)."""

    log_likelihood: float
    score: np.ndarray
    information: np.ndarray
    coefficients: np.ndarray
    covariance: np.ndarray
    # V^-1 X (X' V^-1 X)^-1, stacked rows by p.
    leverage: np.ndarray


@dataclass(frozen=True)
class _Model:
    groups: tuple[_Group, ...]
    fixed: np.ndarray
    terms: tuple[Term, ...]

    @cached_property
    def stacked_fixed(self) -> np.ndarray:
        return np.concatenate([self.fixed[group.rows] for group in self.groups])

    @cached_property
    def stacked_means(self) -> np.ndarray:
        return np.concatenate([group.mean for group in self.groups])

    @cached_property
    def same(self) -> list[np.ndarray]:
        """For each group and each term by column, which rows share an effect: (terms by column, rows, rows)."""
        codes = np.stack([term.codes for term in self.terms if term.by_column])
        return [_equal(codes[:, group.rows]) for group in self.groups]

    @cached_property
    def of_means(self) -> np.ndarray:
        """What each term's variance adds to the covariance of the stacked means: (terms, stacked, stacked)."""
        rows = np.concatenate([group.rows for group in self.groups])
        group_of_row = np.repeat(np.arange(len(self.groups)), [len(group.rows) for group in self.groups])
        columns = np.array([group.columns for group in self.groups])[group_of_row]
        together = (group_of_row[:, None] == group_of_row) / columns
        equal = _equal(np.stack([term.codes[rows] for term in self.terms]))
        return np.where(self.by_column[:, None, None], equal * together, equal)

    @cached_property
    def by_column(self) -> np.ndarray:
        return np.array([term.by_column for term in self.terms])

    def only(self, indices: Sequence[int]) -> _Model:
        return _Model(self.groups, self.fixed, tuple(self.terms[index] for index in indices))

    def distinct(self) -> list[int]:
        """The terms that the data can tell from those before them, by the rank of the information."""
        state = self.evaluate(self.start())
        assert state is not None
        size = np.sqrt(np.maximum(np.diag(state.information), 1e-300))
        information = state.information / size[:, None] / size
        chosen: list[int] = []
        for index in range(len(self.terms)):
            across = information[index, chosen]
            explained = across @ np.linalg.solve(information[np.ix_(chosen, chosen)], across) if chosen else 0.0
            if size[index] > 1e-9 and 1 - explained > DISTINCT:
                chosen.append(index)
        return chosen

    def start(self) -> np.ndarray:
        return np.full(len(self.terms), 1 / len(self.terms))

    def evaluate(self, variances: np.ndarray) -> _State | None:
        """The state at these variances; None where they make no covariance."""
        try:
            likelihood, score, information = self._scatter_part(variances)
            chol = np.linalg.cholesky(np.tensordot(variances, self.of_means, 1))
        except np.linalg.LinAlgError:
            return None
        design, means = self.stacked_fixed, self.stacked_means
        inverse = cho_solve((chol, True), np.eye(len(chol)))
        covariance = np.linalg.inv(design.T @ inverse @ design)
        leverage = inverse @ design @ covariance
        projection = inverse - leverage @ design.T @ inverse
        residual = projection @ means
        products = projection @ self.of_means
        flat, turned = products.reshape(len(products), -1), products.transpose(0, 2, 1).reshape(len(products), -1)
        likelihood -= float(np.log(np.diag(chol)).sum()) - 0.5 * float(np.linalg.slogdet(covariance)[1])
        likelihood -= 0.5 * float(means @ residual)
        score += 0.5 * (residual @ self.of_means @ residual - np.trace(products, axis1=1, axis2=2))
        information += 0.5 * flat @ turned.T
        return _State(likelihood, score, information, leverage.T @ means, covariance, leverage)

    def _scatter_part(self, variances: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """What the scatter of the columns around their means says: it knows the terms by column alone."""
        likelihood, score, information = 0.0, np.zeros(len(variances)), np.zeros((len(variances), len(variances)))
        by_column = np.flatnonzero(self.by_column)
        for group, same in zip(self.groups, self.same, strict=True):
            covariance = np.tensordot(variances[by_column], same, 1)
            chol = np.linalg.cholesky(covariance)
            inverse = cho_solve((chol, True), np.eye(len(chol)))
            free = group.columns - 1
            products = inverse @ same
            flat, turned = products.reshape(len(same), -1), products.transpose(0, 2, 1).reshape(len(same), -1)
            seen = inverse @ group.scatter
            likelihood -= free * float(np.log(np.diag(chol)).sum()) + 0.5 * float(np.trace(seen))
            traces = np.trace(products, axis1=1, axis2=2)
            score[by_column] += 0.5 * (flat @ seen.T.reshape(-1) - free * traces)
            information[np.ix_(by_column, by_column)] += 0.5 * free * flat @ turned.T
        return likelihood, score, information

    def result(self, variances: np.ndarray, state: _State, scale: float, converged: bool) -> Fit:
        free = np.flatnonzero(variances != 0)
        sensitivity = state.leverage.T @ self.of_means[free] @ state.leverage
        return Fit(
            coefficients=state.coefficients * scale,
            covariance=state.covariance * scale**2,
            components={
                term.name: float(variance) * scale**2 for term, variance in zip(self.terms, variances, strict=True)
            },
            log_likelihood=state.log_likelihood,
            converged=converged,
            sensitivity=sensitivity,
            component_covariance=np.linalg.inv(state.information[np.ix_(free, free)]) * scale**4,
        )


def _equal(codes: np.ndarray) -> np.ndarray:
    """Which rows have the same code: (terms, rows) to (terms, rows, rows)."""
    return (codes[:, :, None] == codes[:, None, :]).astype(np.float64)


def _maximise(model: _Model) -> tuple[np.ndarray, _State, bool]:
    """Fisher scoring within the bounds: each step goes towards the top of the quadratic that score and information
    make, as far as the likelihood rises."""
    variances = model.start()
    state = model.evaluate(variances)
    assert state is not None
    for _ in range(ITERATIONS):
        step = _quadratic_top(model, variances, state) - variances
        gain = float(state.score @ step)
        if gain < TOLERANCE:
            return variances, state, True
        for share in 0.5 ** np.arange(30):
            moved = variances + share * step
            # What should be zero is zero, not a rounding error.
            moved[np.abs(moved) < 1e-12] = 0.0
            moved_state = model.evaluate(moved)
            if moved_state is not None and moved_state.log_likelihood > state.log_likelihood + 1e-4 * share * gain:
                break
        else:
            return variances, state, gain < 1e-8
        variances, state = moved, moved_state
    return variances, state, False


def _quadratic_top(model: _Model, variances: np.ndarray, state: _State) -> np.ndarray:
    """The variances that maximise the local quadratic, at least zero unless signed: a nonnegative least squares problem
    in which a signed term has a column for either sign."""
    chol = np.linalg.cholesky(state.information)
    aim = solve_triangular(chol, state.score, lower=True) + chol.T @ variances
    signed = [index for index, term in enumerate(model.terms) if term.signed]
    solution, _ = nnls(np.concatenate([chol.T, -chol.T[:, signed]], axis=1), aim)
    top = solution[: len(variances)]
    top[signed] -= solution[len(variances) :]
    return top
