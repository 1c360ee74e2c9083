"""Do syntactic and semantic, token- and sentence-level intermediate tasks differ? Contrasts with intervals that hold
for intermediates, languages and seeds that were not tried.

Fixed effects are knowledge x granularity x target. Random are the intermediate (alone and by target), the run, the seed
(alone and by target), and within a target the language and what it makes of a kind, of an intermediate and of a seed.
Runs of one seed share their reference: its noise is in the terms of the seed (language x seed, too), which contrasts
between intermediates cancel where no run is missing. That a seed favours a kind is not modelled.

Contrasts over all targets come from the joint model. Those of a target come from a model of its own, since targets
differ in how far intermediates move them, and a common variance would make one interval too narrow, another too wide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from adapter_stilts.errors import StiltsError
from adapter_stilts.statistics.contrasts import Question, containment_df, limits, questions
from adapter_stilts.statistics.mixed import Fit, Term, fit_reml
from adapter_stilts.statistics.observations import CELLS, Grid, Observation, grid_of
from adapter_stilts.statistics.resample import RESAMPLES, crossed_bootstrap
from adapter_stilts.statistics.small_samples import holm, smallest_difference, t_interval, t_p_value

NO_SPREAD = "no kind of intermediate task has two members, so there is no measure of chance"


@dataclass(frozen=True)
class Contrast:
    """A difference between kinds of intermediate tasks, in points.

    `target` is None for the mean over all targets. `low` and `high` bound the 95% t interval; `df` are Satterthwaite's,
    at most intermediates minus kinds; `holm_p` is corrected over all contrasts of the result; `smallest_difference` is
    the true effect that this design would have seen (alpha .05, uncorrected) four times in five. What cannot be said is
    None, and `reason` says why.
    """

    name: str
    target: str | None
    estimate: float | None
    standard_error: float | None = None
    df: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    holm_p: float | None = None
    smallest_difference: float | None = None
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Component:
    """The variance of a random term, in squared points; `target` is None in the joint model. That of the intermediate
    may be below zero: intermediates of a kind then differ less than the noise of their runs would make them."""

    name: str
    target: str | None
    variance: float


@dataclass(frozen=True)
class Counts:
    """What the result rests on: observations, runs, names of seeds, intermediates by kind, languages by target."""

    observations: int
    runs: int
    seeds: tuple[int, ...]
    intermediates: dict[str, tuple[str, ...]]
    languages: dict[str, int]


@dataclass(frozen=True)
class Effects:
    """Contrasts of one method and composition against one reference, with what they rest on and what limits them."""

    method: str
    composition: str
    reference: str
    targets: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    components: tuple[Component, ...]
    counts: Counts
    limits: tuple[str, ...]

    def contrast(self, name: str, target: str | None = None) -> Contrast:
        """A contrast by name, such as knowledge, over all targets or of one; StiltsError where there is none."""
        matches = [contrast for contrast in self.contrasts if (contrast.name, contrast.target) == (name, target)]
        if not matches:
            known = ", ".join(dict.fromkeys(contrast.name for contrast in self.contrasts))
            raise StiltsError(f"contrast: found {name} of {target or 'all targets'}, accepted: {known}")
        return matches[0]


def fit_effects(observations: Iterable[Observation], reference: str = "none", resamples: int = RESAMPLES) -> Effects:
    """Fit the observations of one method and composition; languages trained on are left out.

    `reference` names what the differences are to; `resamples` of 0 leaves the bootstrap out. Raises UsageError for
    observations that cannot be fitted together.
    """
    every = list(observations)
    grid = grid_of(every)
    asked = questions(grid)
    models = {scope: _model(grid, scope) for scope in {question.target: None for question in asked}}
    contrasts = _corrected([_contrast(grid, question, models[question.target]) for question in asked])
    if resamples:
        contrasts = _seconded(grid, asked, contrasts, resamples)
    unsettled = [_name(grid, scope) for scope, model in models.items() if model.fit and not model.fit.converged]
    settled = [f"the model of {scope or 'all targets'} did not reach its likelihood's top" for scope in unsettled]
    return Effects(
        method=every[0].method,
        composition=every[0].composition,
        reference=reference,
        targets=grid.targets,
        contrasts=tuple(contrasts),
        components=tuple(part for scope, model in models.items() for part in _components(_name(grid, scope), model)),
        counts=_counts(grid),
        limits=(*limits(grid), *settled),
    )


@dataclass(frozen=True)
class _Scope:
    """The model of one target or of all, where there is one; cell means by (target, cell), and which of these are the
    columns of the fixed part."""

    grid: Grid
    columns: list[tuple[int, int]]
    df: int
    fit: Fit | None
    reason: str | None


def _model(grid: Grid, target: int | None) -> _Scope:
    part = grid if target is None else grid.within(target)
    columns = sorted(set(zip(part.target.tolist(), part.cell.tolist(), strict=True)))
    df = containment_df(part, np.unique(part.target).tolist())
    if df < 1:
        return _Scope(part, columns, df, None, NO_SPREAD)
    fixed = np.array(
        [[float(pair == column) for column in columns] for pair in zip(part.target, part.cell, strict=True)]
    )
    try:
        return _Scope(part, columns, df, fit_reml(part.values, fixed, _terms(part)), None)
    except StiltsError as error:
        return _Scope(part, columns, df, None, str(error))


def _terms(grid: Grid) -> list[Term]:
    """The random terms; of those that a design cannot tell apart, the first is kept (one seed: the run is part of the
    intermediate by target)."""
    runs = np.arange(len(grid.target))
    by_target = grid.target * len(grid.intermediates) + grid.intermediate
    return [
        Term("residual", runs, by_column=True),
        Term("intermediate", grid.intermediate, signed=True),
        Term("intermediate x target", by_target, signed=True),
        Term("run", runs),
        Term("language", grid.target, by_column=True),
        Term("language x intermediate", by_target, by_column=True),
        Term("language x kind", grid.target * len(CELLS) + grid.cell, by_column=True),
        Term("seed", grid.seed),
        Term("seed x target", grid.target * len(grid.seeds) + grid.seed),
        Term("language x seed", grid.target * len(grid.seeds) + grid.seed, by_column=True),
    ]


def _contrast(grid: Grid, question: Question, model: _Scope) -> Contrast:
    target = _name(grid, question.target)
    if question.reason is not None:
        return Contrast(question.name, target, None, reason=question.reason)
    weights = np.array([question.weights[column] for column in model.columns])
    if model.fit is None:
        return Contrast(question.name, target, float(weights @ _plain_means(model)), reason=model.reason)
    estimate, error, satterthwaite = model.fit.contrast(weights)
    df = min(satterthwaite, float(model.df))
    low, high = t_interval(estimate, error, df)
    return Contrast(
        name=question.name,
        target=target,
        estimate=estimate,
        standard_error=error,
        df=df,
        low=low,
        high=high,
        p=t_p_value(estimate, error, df),
        smallest_difference=smallest_difference(error, df),
    )


def _plain_means(model: _Scope) -> np.ndarray:
    """Cell means of means of intermediates, for a grid that has no model."""
    grid = model.grid
    means = []
    for target, cell in model.columns:
        rows = (grid.target == target) & (grid.cell == cell)
        intermediate_means = [
            np.nanmean(grid.values[rows & (grid.intermediate == intermediate)])
            for intermediate in np.unique(grid.intermediate[rows])
        ]
        means.append(float(np.mean(intermediate_means)))
    return np.array(means)


def _corrected(contrasts: Sequence[Contrast]) -> list[Contrast]:
    adjusted = iter(holm([contrast.p for contrast in contrasts if contrast.p is not None]))
    return [contrast if contrast.p is None else replace(contrast, holm_p=next(adjusted)) for contrast in contrasts]


def _seconded(grid: Grid, asked: Sequence[Question], contrasts: Sequence[Contrast], resamples: int) -> list[Contrast]:
    """The contrasts that have an interval, with that of the bootstrap beside it."""
    intervals = crossed_bootstrap(grid, asked, resamples)
    return [
        contrast if contrast.p is None else replace(contrast, bootstrap_low=float(low), bootstrap_high=float(high))
        for contrast, (low, high) in zip(contrasts, intervals, strict=True)
    ]


def _components(target: str | None, model: _Scope) -> list[Component]:
    return [Component(name, target, variance) for name, variance in (model.fit.components if model.fit else {}).items()]


def _name(grid: Grid, target: int | None) -> str | None:
    return None if target is None else grid.targets[target]


def _counts(grid: Grid) -> Counts:
    of_cell = {cell: np.unique(grid.intermediate[grid.cell == cell]) for cell in range(len(CELLS))}
    return Counts(
        observations=int(grid.observed.sum()),
        runs=len(grid.target),
        seeds=grid.seeds,
        intermediates={
            " ".join(CELLS[cell]): tuple(grid.intermediates[intermediate] for intermediate in members)
            for cell, members in of_cell.items()
        },
        languages={name: int((grid.column_target == target).sum()) for target, name in enumerate(grid.targets)},
    )
