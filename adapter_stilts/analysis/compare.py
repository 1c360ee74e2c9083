"""Runs beside each other: deltas against no intermediate task and against full STILTs, paired by seed and language.

A table holds runs that may be compared (`adapter_stilts.analysis.comparable`). A row is a method with a composition
over intermediates in one variant, averaged over its seeds; which rows it stands against is decided in
`adapter_stilts.analysis.rows`. A delta of rows that share three seeds or more has an interval over seeds and test
sentences; under three there is none, unless that over test sentences alone is asked for.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adapter_stilts.analysis.comparable import Group, choose_evaluations, comparable_groups, left_out_note
from adapter_stilts.analysis.learnt import unlearnt
from adapter_stilts.analysis.rows import (
    ADAPTERS,
    RowKey,
    first_difference,
    full_references,
    none_references,
    recipe_difference,
    row_key,
)
from adapter_stilts.analysis.scored import Scored, scored_evaluations
from adapter_stilts.analysis.table import Delta, Over, Row, Table, without
from adapter_stilts.errors import UsageError
from adapter_stilts.languages import language
from adapter_stilts.runs.store import Run, RunStore
from adapter_stilts.runs.tidy import tidy
from adapter_stilts.statistics.bootstrap import SEEDS, Interval, resampled_difference, seed_interval, sentence_interval

if TYPE_CHECKING:
    from rich.table import Table as RichTable

# The runs of each row, by seed.
Rows = Mapping[RowKey, Mapping[int, Scored]]


@dataclass(frozen=True)
class Comparison:
    """All tables of the compared runs."""

    tables_: tuple[Table, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {"tables": [asdict(table) for table in self.tables_]}

    def tables(self, width: int | None = None) -> list[RichTable]:
        """Rich tables: a summary, families and languages for each target; in parts where one is wider than `width`
        characters."""
        from adapter_stilts.analysis.render import rich_tables

        return [part for table in self.tables_ for part in rich_tables(table, width)]

    def markdown(self) -> str:
        """The same tables as Markdown."""
        from adapter_stilts.analysis.render import markdown

        return "\n".join(markdown(table) for table in self.tables_)


def compare_runs(
    store: RunStore,
    runs: Sequence[Run] | None = None,
    split: str = "test",
    limit: int | None = None,
    sentence_intervals: bool = False,
) -> Comparison:
    """Compare the given runs, or all scored target runs of the store.

    `limit` picks evaluations with so many sentences a language; of several evaluations of a run the one counts that
    most runs can be compared on (`choose_evaluations`). `sentence_intervals` asks for intervals over test sentences
    alone, whatever the number of seeds. Raises UsageError where nothing is scored.
    """
    tidy(store)
    every = store.runs() if runs is None else runs
    candidates = [evaluations for run in every if (evaluations := list(scored_evaluations(run, split, limit)))]
    if not candidates:
        what = f"{split} scores" + (f" with --limit {limit}" if limit else "")
        raise UsageError(f"{store.folder}: no run with {what}; score one with: adapter-stilts evaluate RUN")
    chosen, left = choose_evaluations(candidates)
    return compare_scored(chosen, sentence_intervals, left)


def compare_scored(
    scored: Iterable[Scored],
    sentence_intervals: bool = False,
    left: Mapping[str, Sequence[Scored]] | None = None,
) -> Comparison:
    """The tables of runs with the evaluation that counts; `left` holds the others by the name of their run."""
    groups = comparable_groups(scored)
    return Comparison(tuple(_Tabulated(group, sentence_intervals).table(left or {}) for group in groups))


class _Tabulated:
    """The table of one group of comparable evaluations, as it is made."""

    def __init__(self, group: Group, sentence_intervals: bool) -> None:
        self.group, self.sentence_intervals = group, sentence_intervals
        self.by_row = rows_of(group.runs)
        keys = sorted(self.by_row, key=lambda key: key.sort_key)
        self.rows = {key: _row(key, self.by_row, sentence_intervals) for key in keys}

    def table(self, left: Mapping[str, Sequence[Scored]]) -> Table:
        (chosen, chosen_full), (oracle, oracle_full) = (
            [_choose(self.rows, methods, score) for methods in (ADAPTERS, ("full",))] for score in (_development, _mean)
        )
        named = {"chosen": chosen, "chosen_full": chosen_full, "oracle": oracle, "oracle_full": oracle_full}
        first = self.group.runs[0]
        codes, trained = tuple(first.scores.languages), first.trained_languages
        majority, record = first.majority, first.run.record
        where = without(codes, trained)
        return Table(
            target=record.task.name,
            metric=first.metric,
            split=first.scores.split,
            backbone=record.backbone.id,
            labelling=first.scores.labelling,
            precisions=tuple(sorted({evaluation.scores.precision for evaluation in self.group.runs})),
            train_examples=record.data[0].examples,
            test_examples=first.scores.limit,
            seeds=tuple(sorted({evaluation.run.record.seed for evaluation in self.group.runs})),
            trained_languages=trained,
            languages=codes,
            missing=first.scores.missing,
            majority=majority,
            rows=tuple(self.rows.values()),
            **{name: keys[0].label if keys else None for name, keys in named.items()},  # type: ignore[arg-type]
            chosen_delta=self._between(chosen, chosen_full),
            oracle_delta=self._between(oracle, oracle_full),
            ties={name: tuple(key.label for key in keys[1:]) for name, keys in named.items() if len(keys) > 1},
            sentence_intervals=self.sentence_intervals,
            notes=(*self._notes(left),),
            unlearnt=tuple(
                line for row in self.rows.values() for line in unlearnt(row, majority, first.zero_shot, where)
            ),
        )

    def _between(self, adapters: Sequence[RowKey], full: Sequence[RowKey]) -> Delta | None:
        return _delta(adapters[0], full[:1], self.by_row, self.sentence_intervals) if adapters and full else None

    def _notes(self, left: Mapping[str, Sequence[Scored]]) -> list[str]:
        mixed = [f"{key.label}: {difference}" for key, seeds in self.by_row.items() if (difference := _mixed(seeds))]
        others = left_out_note(self.group, left)
        return [*self.group.notes, *([others] if others else []), *mixed, *_unseen(self.group.runs)]


def _mixed(seeds: Mapping[int, Scored]) -> str:
    """In what the runs of a row differ besides their seed; empty where in nothing."""
    first, *others = (seeds[seed] for seed in sorted(seeds))
    for other in others:
        if difference := recipe_difference(first.run.record, other.run.record):
            return f"its seeds were trained in different ways ({difference} under seeds {_two(first, other)})"
    return ""


def _unseen(scored: Sequence[Scored]) -> list[str]:
    """A line for the gold labels that no run could give, where there are any: they count as wrong in every row."""
    counts: dict[str, float] = {}
    for evaluation in scored:
        for code, scores in evaluation.scores.languages.items():
            counts[code] = max(counts.get(code, 0.0), scores.get("unseen_gold", 0.0))
    named = [f"{code} ({count:.0f})" for code, count in counts.items() if count]
    return [f"gold labels that training never showed count as wrong in {', '.join(named)}"] if named else []


def _two(first: Scored, other: Scored) -> str:
    return f"{first.run.record.seed} and {other.run.record.seed}"


def rows_of(group: Iterable[Scored]) -> Rows:
    """The runs of one table by row and seed. Raises UsageError for two of one row and seed."""
    by_row: dict[RowKey, dict[int, Scored]] = defaultdict(dict)
    for evaluation in group:
        seeds, record = by_row[row_key(evaluation.run.record)], evaluation.run.record
        if record.seed in seeds:
            other = seeds[record.seed].run
            raise UsageError(
                f"{evaluation.run.name} and {other.name} are the same row and seed with different recipes "
                f"({first_difference(record, other.record)}): name the runs to compare"
            )
        seeds[record.seed] = evaluation
    return dict(by_row)


def _development(row: Row) -> float:
    return row.development


def _mean(row: Row) -> float:
    return row.mean_zero_shot


def _choose(rows: Mapping[RowKey, Row], methods: Sequence[str], score: Callable[[Row], float]) -> list[RowKey]:
    """The rows of these methods with the highest score, controls left out: the one that trains the fewest parameters
    first, then as in the table."""
    candidates = [key for key in rows if key.method in methods and key.control is None]
    top = max((score(rows[key]) for key in candidates), default=0.0)
    equal = [key for key in candidates if math.isclose(score(rows[key]), top, rel_tol=0.0, abs_tol=1e-9)]
    return sorted(equal, key=lambda key: rows[key].trainable_parameters)


def _row(key: RowKey, by_row: Rows, sentence_intervals: bool) -> Row:
    seeds = by_row[key]
    scored = [seeds[seed] for seed in sorted(seeds)]
    records = [evaluation.run.record for evaluation in scored]
    languages = _languages(scored)
    means = [evaluation.mean_zero_shot for evaluation in scored]
    return Row(
        label=key.label,
        method=key.method,
        composition=key.composition,
        variant=key.variant,
        over=key.over,
        control=key.control,
        runs=tuple(evaluation.run.name for evaluation in scored),
        seeds=tuple(sorted(seeds)),
        development=float(np.mean([record.development for record in records])),
        intermediate_development=tuple(
            float(np.mean([record.over[index].development for record in records])) for index in range(len(key.over))
        ),
        trainable_parameters=records[0].trainable_parameters,
        total_parameters=records[0].total_parameters,
        seconds=float(np.mean([record.cost.seconds for record in records])),
        bundle_bytes=max(record.cost.bundle_bytes for record in records),
        mean=float(np.mean(list(languages.values()))),
        mean_zero_shot=float(np.mean(means)),
        means=tuple(means),
        only_labels={
            evaluation.run.record.seed: label for evaluation in scored if (label := evaluation.only_label) is not None
        },
        spread=float(np.ptp(means)) if len(means) > 1 else None,
        languages=languages,
        families=_by_family(languages, scored[0].zero_shot),
        delta_none=_delta(key, none_references(key), by_row, sentence_intervals) if key.over else None,
        delta_full=_delta(key, full_references(key, by_row), by_row, sentence_intervals)
        if key.method != "full"
        else None,
    )


def _languages(scored: Sequence[Scored]) -> dict[str, float]:
    return {code: float(np.mean([evaluation.languages[code] for evaluation in scored])) for code in scored[0].languages}


def _by_family(languages: Mapping[str, float], zero_shot: Sequence[str]) -> dict[str, float]:
    """Mean by language family over the zero-shot languages."""
    families: dict[str, list[float]] = defaultdict(list)
    for code in zero_shot:
        families[language(code).family].append(languages[code])
    return {family: float(np.mean(values)) for family, values in sorted(families.items())}


def _delta(key: RowKey, references: Iterable[RowKey], by_row: Rows, sentence_intervals: bool) -> Delta | None:
    """The row against the first of the references that has a seed in common with it, on all such seeds."""
    for reference in references:
        if both := sorted(set(by_row[key]) & set(by_row.get(reference, {}))):
            runs, reference_runs = ([by_row[row][seed] for seed in both] for row in (key, reference))
            return _difference(reference.label, both, runs, reference_runs, sentence_intervals)
    return None


def _difference(
    against: str,
    seeds: Sequence[int],
    runs: Sequence[Scored],
    reference_runs: Sequence[Scored],
    sentence_intervals: bool,
) -> Delta:
    scores, reference_scores = _languages(runs), _languages(reference_runs)
    languages = {code: scores[code] - reference_scores[code] for code in scores}
    zero_shot = runs[0].zero_shot
    interval, over = _interval(runs, reference_runs, zero_shot, sentence_intervals)
    return Delta(against, tuple(seeds), interval, over, languages, _by_family(languages, zero_shot))


def _interval(
    runs: Sequence[Scored], reference_runs: Sequence[Scored], zero_shot: Sequence[str], sentence_intervals: bool
) -> tuple[Interval, Over | None]:
    """The difference of the means of paired seeds with its interval, and what that is over."""
    differences = [one.mean_zero_shot - other.mean_zero_shot for one, other in zip(runs, reference_runs, strict=True)]
    if len(differences) < SEEDS and not sentence_intervals:
        return Interval(float(np.mean(differences))), None
    counts = [one.counts for one in runs], [other.counts for other in reference_runs]
    ratio = runs[0].ratio
    if sentence_intervals:
        return sentence_interval(*counts, zero_shot, ratio), "test sentences"
    variance = float(np.var(resampled_difference(*counts, zero_shot, ratio), ddof=1))
    return seed_interval(differences, variance), "seeds and test sentences"
