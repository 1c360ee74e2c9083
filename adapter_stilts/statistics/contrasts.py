"""Which contrasts between kinds of intermediate tasks a grid of runs can answer, and what limits the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from adapter_stilts.statistics.observations import CELLS, GRANULARITY, KNOWLEDGE, Grid

# Weights of the four cells, in the order of CELLS. With factors coded +1/2 and -1/2, knowledge is syntactic minus
# semantic and granularity token minus sentence, each averaged over the other; the interaction is the difference of
# differences.
MAIN = {
    "knowledge": (0.5, 0.5, -0.5, -0.5),
    "granularity": (0.5, -0.5, 0.5, -0.5),
    "interaction": (1.0, -1.0, -1.0, 1.0),
}
# What two cells can say where the others are missing.
SIMPLE = {
    "knowledge of token tasks": (1.0, 0.0, -1.0, 0.0),
    "knowledge of sentence tasks": (0.0, 1.0, 0.0, -1.0),
    "granularity of syntactic tasks": (1.0, -1.0, 0.0, 0.0),
    "granularity of semantic tasks": (0.0, 0.0, 1.0, -1.0),
}


@dataclass(frozen=True)
class Question:
    """A contrast to report: its name, its target (None: the mean over all), the weights (targets, cells) of the cell
    means, and why it cannot be answered, if so."""

    name: str
    target: int | None
    weights: np.ndarray
    reason: str | None = None


def questions(grid: Grid) -> list[Question]:
    """The contrasts over all targets, then those of each target if there are several. Where cells are missing, the main
    ones carry a reason, and what pairs of cells can say stands beside them."""
    targets = range(len(grid.targets))
    scopes: list[int | None] = [None, *targets] if len(targets) > 1 else [None]
    return [question for scope in scopes for question in _questions_of(grid, scope)]


def _questions_of(grid: Grid, scope: int | None) -> list[Question]:
    targets = list(range(len(grid.targets))) if scope is None else [scope]
    cells = set.intersection(*(cells_of(grid, target) for target in targets))
    spread = np.zeros((len(grid.targets), 1))
    spread[targets] = 1 / len(targets)
    contrasts = []
    for name, weights in MAIN.items():
        reason = missing_reason(name, cells, [grid.targets[target] for target in targets])
        contrasts.append(Question(name, scope, spread * weights, reason))
    if len(cells) < len(CELLS):
        pairs = {name: weights for name, weights in SIMPLE.items() if set(np.flatnonzero(weights)) <= cells}
        contrasts += [Question(name, scope, spread * weights) for name, weights in pairs.items()]
    return contrasts


def cells_of(grid: Grid, target: int) -> set[int]:
    """The cells that have an intermediate under a target."""
    return set(np.unique(grid.cell[grid.target == target]).tolist())


def missing_reason(name: str, cells: set[int], targets: Sequence[str]) -> str | None:
    """Why a main contrast has no estimate with these cells alone; None where all are there."""
    if len(cells) == len(CELLS):
        return None
    present = [CELLS[cell] for cell in sorted(cells)]
    where = f"under {' and '.join(targets)}"
    for factor, level in ((0, KNOWLEDGE), (1, GRANULARITY)):
        absent = [value for value in level if not any(cell[factor] == value for cell in present)]
        if absent and name in ("interaction", ("knowledge", "granularity")[factor]):
            return f"no intermediate {where} is {_level(' or '.join(absent))}"
    if len(present) == 2 and present[0][0] != present[1][0] and present[0][1] != present[1][1]:
        kinds = " and ".join(
            f"all {knowledge} intermediates are {granularity} tasks" for knowledge, granularity in present
        )
        return f"knowledge is confounded with granularity: {kinds} {where}"
    absent = [f"{cell[0]} and {_level(cell[1])}" for cell in CELLS if cell not in present]
    return f"no intermediate {where} is {' or '.join(absent)}, so knowledge and granularity cannot be told apart"


def _level(word: str) -> str:
    return word.replace("token", "token-level").replace("sentence", "sentence-level")


def containment_df(grid: Grid, targets: Sequence[int]) -> int:
    """Intermediates minus cells, in the target that has the fewest: the most that contrasts between intermediates can
    have, however many languages and seeds there are."""
    return min(
        len(np.unique(grid.intermediate[grid.target == target])) - len(cells_of(grid, target)) for target in targets
    )


def limits(grid: Grid) -> list[str]:
    """What a reader must know of the design, in sentences."""
    notes = [*_confounded(grid), *_single(grid)]
    seeds = len(grid.seeds)
    if seeds == 1:
        notes.append("one seed: what a run owes to its seed is counted with its intermediate, and no ranking follows")
    elif seeds == 2:
        notes.append("two seeds: no ranking follows")
    for target, name in enumerate(grid.targets):
        columns = grid.column_language[grid.column_target == target]
        if len(columns) == 1:
            notes.append(f"{name}: one language ({grid.languages[columns[0]]}), so nothing is said of other languages")
    return notes + _missing(grid)


def _confounded(grid: Grid) -> list[str]:
    """Why knowledge has no estimate, once if it is so in all targets."""
    targets = range(len(grid.targets))
    of_target = {target: cells_of(grid, target) for target in targets}
    scopes = {
        tuple(sorted(cells)): [target for target in targets if of_target[target] == cells]
        for cells in of_target.values()
    }
    reasons = [
        missing_reason("knowledge", set(cells), [grid.targets[target] for target in scope])
        for cells, scope in scopes.items()
    ]
    return [f"knowledge is not estimated: {reason}" for reason in reasons if reason]


def _single(grid: Grid) -> list[str]:
    if containment_df(grid, range(len(grid.targets))) < 1:
        return ["no kind has two intermediates under every target: how intermediates of a kind differ is not known"]
    single: dict[str, list[str]] = {}
    for target, cell in product(range(len(grid.targets)), range(len(CELLS))):
        intermediates = grid.intermediates_of(target, cell)
        if len(intermediates) == 1:
            single.setdefault(f"{' '.join(CELLS[cell])}: one intermediate ({intermediates[0]})", []).append(
                grid.targets[target]
            )
    return [
        f"{what} under {' and '.join(where)}; its spread is taken from the others" for what, where in single.items()
    ]


def _missing(grid: Grid) -> list[str]:
    """Runs that failed or were not run, and languages that only some runs of a target were tested in."""
    present = set(zip(grid.target.tolist(), grid.intermediate.tolist(), grid.seed.tolist(), strict=True))
    planned = product(range(len(grid.targets)), range(len(grid.intermediates)), range(len(grid.seeds)))
    # A task is no intermediate of itself.
    absent = [run for run in planned if run not in present and grid.targets[run[0]] != grid.intermediates[run[1]]]
    notes = []
    if absent:
        names = [
            f"{grid.targets[run[0]]} over {grid.intermediates[run[1]]} seed {grid.seeds[run[2]]}" for run in absent
        ]
        shown = ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")
        notes.append(f"{len(absent)} of {len(absent) + len(present)} runs are missing: {shown}")
    for target, name in enumerate(grid.targets):
        part = grid.within(target)
        partly = part.column_language[~part.observed.all(axis=0)]
        if len(partly):
            notes.append(f"{name}: some runs lack {', '.join(grid.languages[language] for language in partly)}")
    return notes
