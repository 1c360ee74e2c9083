"""What the statistics of a study are fitted to: differences of runs to a reference, as a grid of runs and languages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from adapter_stilts.errors import UsageError

KNOWLEDGE = ("syntactic", "semantic")
GRANULARITY = ("token", "sentence")
CELLS = tuple((knowledge, granularity) for knowledge in KNOWLEDGE for granularity in GRANULARITY)


@dataclass(frozen=True)
class Observation:
    """One target run over one intermediate, in one language: `delta` is its score minus that of the reference's run of
    the same seed in the same language, in points of percent. `zero_shot`: neither of the two was trained on the
    language."""

    target: str
    method: str
    composition: str
    intermediate: str
    knowledge: str
    granularity: str
    language: str
    seed: int
    delta: float
    zero_shot: bool = True


@dataclass(frozen=True)
class Grid:
    """Differences (runs, columns); a column is a language of a target, NaN where a run has no score in it.

    A run is an intermediate under a target with a seed. `target`, `intermediate`, `seed`, `cell` (runs,) and
    `column_target`, `column_language` (columns,) are indices into `targets`, `intermediates`, `seeds`, `CELLS` and
    `languages`.
    """

    values: np.ndarray
    targets: tuple[str, ...]
    intermediates: tuple[str, ...]
    seeds: tuple[int, ...]
    languages: tuple[str, ...]
    target: np.ndarray
    intermediate: np.ndarray
    seed: np.ndarray
    cell: np.ndarray
    column_target: np.ndarray
    column_language: np.ndarray

    @property
    def observed(self) -> np.ndarray:
        """Which differences there are, (runs, columns)."""
        return ~np.isnan(self.values)

    def within(self, target: int) -> Grid:
        """The part of one target; indices keep their meaning."""
        rows, columns = self.target == target, self.column_target == target
        return Grid(
            self.values[np.ix_(rows, columns)],
            self.targets,
            self.intermediates,
            self.seeds,
            self.languages,
            self.target[rows],
            self.intermediate[rows],
            self.seed[rows],
            self.cell[rows],
            self.column_target[columns],
            self.column_language[columns],
        )

    def intermediates_of(self, target: int, cell: int) -> list[str]:
        """Intermediates of a cell (knowledge and granularity) that have runs under a target."""
        indices = np.unique(self.intermediate[(self.target == target) & (self.cell == cell)])
        return [self.intermediates[index] for index in indices]


def grid_of(observations: Iterable[Observation]) -> Grid:
    """The grid of observations of one method and composition; the languages that the targets were trained on are left
    out.

    Raises UsageError for methods or compositions beside each other, two differences of one run in one language, an
    intermediate of two kinds, an unknown kind, a difference that is not finite, and where nothing is left.
    """
    every = list(observations)
    zero_shot = [one for one in every if one.zero_shot]
    if not zero_shot:
        trained = ", ".join(sorted({one.language for one in every}))
        raise UsageError(
            f"observations: found none outside the languages trained on ({trained}), accepted: one or more"
        )
    _check_together(zero_shot)
    kinds = _kinds(zero_shot)
    targets, target = _indexed([one.target for one in zero_shot])
    intermediates, intermediate = _indexed([one.intermediate for one in zero_shot])
    seeds, seed = _indexed([one.seed for one in zero_shot])
    languages, language = _indexed([one.language for one in zero_shot])
    sizes = (len(targets), len(intermediates), len(seeds))
    runs, row = np.unique(np.ravel_multi_index((target, intermediate, seed), sizes), return_inverse=True)
    columns, column = np.unique(target * len(languages) + language, return_inverse=True)
    values = np.full((len(runs), len(columns)), np.nan)
    values[row, column] = [one.delta for one in zero_shot]
    if np.count_nonzero(~np.isnan(values)) < len(zero_shot):
        raise UsageError(f"{_twice(zero_shot)}: found two differences, accepted: one")
    run_target, run_intermediate, run_seed = np.unravel_index(runs, sizes)
    cells = np.array([CELLS.index(kinds[name]) for name in intermediates])
    return Grid(
        values,
        tuple(targets),
        tuple(intermediates),
        tuple(seeds),
        tuple(languages),
        run_target,
        run_intermediate,
        run_seed,
        cells[run_intermediate],
        columns // len(languages),
        columns % len(languages),
    )


def _check_together(observations: Sequence[Observation]) -> None:
    rows = sorted({(one.method, one.composition) for one in observations})
    if len(rows) > 1:
        listed = " and ".join(" ".join(row) for row in rows)
        raise UsageError(f"observations: found {listed}, accepted: one method and composition in a model")
    finite = np.isfinite([one.delta for one in observations])
    if not finite.all():
        first = observations[int(np.argmin(finite))]
        raise UsageError(f"{_named(first)}: found a difference of {first.delta}, accepted: a finite number")


def _kinds(observations: Sequence[Observation]) -> dict[str, tuple[str, str]]:
    """The knowledge and granularity of each intermediate."""
    kinds: dict[str, tuple[str, str]] = {}
    for name, *kind in sorted({(one.intermediate, one.knowledge, one.granularity) for one in observations}):
        knowledge, granularity = kind
        if (knowledge, granularity) not in CELLS:
            accepted = f"{' or '.join(KNOWLEDGE)}, {' or '.join(GRANULARITY)}"
            raise UsageError(f"{name}: found {knowledge}, {granularity}, accepted: {accepted}")
        if name in kinds:
            raise UsageError(f"{name}: found {' '.join(kinds[name])} and {' '.join(kind)}, accepted: one kind")
        kinds[name] = (knowledge, granularity)
    return kinds


def _indexed(names: Sequence) -> tuple[list, np.ndarray]:
    """The names in order, and the index of each."""
    order = sorted(set(names))
    index = {name: number for number, name in enumerate(order)}
    return order, np.array([index[name] for name in names])


def _named(one: Observation) -> str:
    return f"{one.target} over {one.intermediate}, seed {one.seed}, {one.language}"


def _twice(observations: Sequence[Observation]) -> str:
    return Counter(map(_named, observations)).most_common(1)[0][0]
