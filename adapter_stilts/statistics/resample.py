"""A second opinion on the contrasts: a bootstrap that resamples intermediates, seeds and languages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapter_stilts.statistics.contrasts import Question
from adapter_stilts.statistics.observations import CELLS, Grid

RESAMPLES = 2_000
BOOTSTRAP_SEED = 0


def crossed_bootstrap(
    grid: Grid, asked: Sequence[Question], resamples: int = RESAMPLES, seed: int = BOOTSTRAP_SEED
) -> np.ndarray:
    """The 2.5 and 97.5 percentiles (questions, 2) of the contrasts of cell means over resampled units.

    A resample draws intermediates within each cell, seeds, and languages (the same in all targets), with replacement
    and one fewer than there are, so that the variance comes out right with two units (Rao and Wu 1988, JASA 83); a
    single unit is kept. Percentiles know no small-sample correction: with two intermediates a cell the interval is too
    narrow, and the t interval is the one to report. Targets are not resampled.
    """
    generator = np.random.default_rng(seed)
    seeds = _draws(generator, len(grid.seeds), resamples)
    languages = _draws(generator, len(grid.languages), resamples)
    intermediates = np.zeros((resamples, len(grid.intermediates)))
    for cell in np.unique(grid.cell):
        members = np.unique(grid.intermediate[grid.cell == cell])
        intermediates[:, members] = _draws(generator, len(members), resamples)
    means = np.stack(
        [_cell_means(grid.within(target), intermediates, seeds, languages) for target in range(len(grid.targets))],
        axis=1,
    )
    percentiles = np.empty((len(asked), 2))
    for index, question in enumerate(asked):
        used = question.weights != 0
        contrast = means[:, used] @ question.weights[used]
        percentiles[index] = np.nanpercentile(contrast, [2.5, 97.5])
    return percentiles


def _draws(generator: np.random.Generator, units: int, resamples: int) -> np.ndarray:
    """How often each unit is drawn, (resamples, units)."""
    return generator.multinomial(max(units - 1, 1), np.full(units, 1 / units), size=resamples).astype(np.float64)


def _cell_means(part: Grid, intermediates: np.ndarray, seeds: np.ndarray, languages: np.ndarray) -> np.ndarray:
    """Cell means of one target, (resamples, cells): of intermediates, each of which is a mean over seeds and languages;
    NaN where none of a cell was drawn."""
    weights = languages[:, part.column_language]
    sums = (weights @ np.nan_to_num(part.values).T) * seeds[:, part.seed]
    counts = (weights @ part.observed.T.astype(np.float64)) * seeds[:, part.seed]
    member = (part.intermediate[:, None] == np.arange(intermediates.shape[1])).astype(np.float64)
    sums, counts = sums @ member, counts @ member
    drawn = intermediates * (counts > 0)
    means = sums / np.where(counts > 0, counts, 1.0)
    cell = np.full(intermediates.shape[1], -1)
    cell[part.intermediate] = part.cell
    in_cell = (cell[:, None] == np.arange(len(CELLS))).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return ((drawn * means) @ in_cell) / (drawn @ in_cell)
