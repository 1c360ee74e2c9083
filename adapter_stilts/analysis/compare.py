"""Runs beside each other: deltas against no intermediate task and against full STILTs, paired by seed and language.

A table holds runs that may be compared: one target, backbone, labelling, number of training examples, test split and
test sentences. A row is a method with a composition over intermediates in one variant, averaged over its seeds; which
rows it stands against is decided in `adapter_stilts.analysis.rows`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from adapter_stilts.analysis.bootstrap import mean_difference, sentence_counts
from adapter_stilts.analysis.rows import ADAPTERS, RowKey, first_difference, full_references, none_references, row_key
from adapter_stilts.analysis.table import Delta, Row, Table
from adapter_stilts.errors import UsageError
from adapter_stilts.evaluation.predictions import read_predictions
from adapter_stilts.evaluation.zero_shot import Scores, read_scores
from adapter_stilts.languages import language
from adapter_stilts.runs.store import EVALUATIONS, Run, RunStore


@dataclass(frozen=True)
class Scored:
    """A run with one of its evaluations."""

    run: Run
    scores: Scores
    folder: Any

    @cached_property
    def counts(self) -> dict[str, np.ndarray]:
        """Counts by sentence of the primary metric, by language."""
        predictions = read_predictions(self.folder, self.scores.predictions)
        return {code: sentence_counts(self.metric_name, own) for code, own in predictions.items()}

    @property
    def metric(self) -> str:
        """The result that the table compares: what the task selects by."""
        return self.run.record.task.selection_metric

    @property
    def metric_name(self) -> str:
        """The metric that gives this result, by its full name."""
        return next(name for name in self.scores.metrics if ("f1" in name) == (self.metric == "f1"))


# The runs of each row, by seed.
Rows = Mapping[RowKey, Mapping[int, Scored]]


@dataclass(frozen=True)
class Comparison:
    """All tables of the compared runs."""

    tables_: tuple[Table, ...]

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {"tables": [asdict(table) for table in self.tables_]}

    def tables(self) -> list[Any]:
        """Rich tables: a summary, families and languages for each target."""
        from adapter_stilts.analysis.render import rich_tables

        return [own for table in self.tables_ for own in rich_tables(table)]

    def markdown(self) -> str:
        """The same tables as Markdown."""
        from adapter_stilts.analysis.render import markdown

        return "\n".join(markdown(table) for table in self.tables_)


def compare_runs(
    store: RunStore, runs: Sequence[Run] | None = None, split: str = "test", limit: int | None = None
) -> Comparison:
    """Compare the given runs, or all scored target runs of the store.

    `limit` picks evaluations with so many sentences a language; without it each run's evaluation with the most
    sentences and languages counts. Raises UsageError where nothing is scored.
    """
    chosen = [own for run in (store.runs() if runs is None else runs) for own in _scored(run, split, limit)]
    if not chosen:
        what = f"{split} scores" + (f" with --limit {limit}" if limit else "")
        raise UsageError(f"{store.folder}: no run with {what}; score one with: adapter-stilts evaluate RUN")
    return compare_scored(chosen)


def compare_scored(scored: Iterable[Scored]) -> Comparison:
    """The tables of runs with the evaluation that counts."""
    return Comparison(tuple(_table(group) for group in comparable_groups(scored)))


def comparable_groups(scored: Iterable[Scored]) -> list[list[Scored]]:
    """The runs of each table."""
    groups: dict[tuple, list[Scored]] = defaultdict(list)
    for own in scored:
        groups[_comparable(own)].append(own)
    return [groups[key] for key in sorted(groups, key=str)]


def _scored(run: Run, split: str, limit: int | None) -> Iterable[Scored]:
    """The evaluation of a run that counts, if it has one."""
    found = []
    for folder in sorted((run.folder / EVALUATIONS).glob("*")):
        scores = read_scores(folder, run)
        if scores.split == split and (limit is None or scores.limit == limit):
            found.append(Scored(run, scores, folder))
    return [max(found, key=lambda own: (len(own.scores.languages), own.scores.limit or np.inf))] if found else []


def _comparable(own: Scored) -> tuple:
    record, scores = own.run.record, own.scores
    train = record.data[0]
    return (
        record.task.name,
        record.backbone.sha256,
        record.word_piece,
        record.limit,
        record.match_tokens,
        train.available,
        scores.split,
        scores.limit,
        tuple(sorted(scores.languages)),
    )


def _table(group: list[Scored]) -> Table:
    by_row = rows_of(group)
    rows = {key: _row(key, by_row) for key in sorted(by_row, key=lambda key: key.place)}
    chosen, chosen_full = (_choose(rows, own, lambda row: row.development) for own in (ADAPTERS, ("full",)))
    oracle, oracle_full = (_choose(rows, own, lambda row: row.mean_zero_shot) for own in (ADAPTERS, ("full",)))
    first = group[0]
    return Table(
        target=first.run.record.task.name,
        metric=first.metric,
        split=first.scores.split,
        backbone=first.run.record.backbone.id,
        labelling=first.scores.labelling,
        precisions=tuple(sorted({own.scores.precision for own in group})),
        train_examples=first.run.record.data[0].examples,
        test_examples=first.scores.limit,
        seeds=tuple(sorted({own.run.record.seed for own in group})),
        languages=tuple(first.scores.languages),
        missing=first.scores.missing,
        rows=tuple(rows.values()),
        chosen=chosen.label if chosen else None,
        chosen_full=chosen_full.label if chosen_full else None,
        chosen_delta=_delta(chosen, [chosen_full], by_row) if chosen and chosen_full else None,
        oracle=oracle.label if oracle else None,
        oracle_full=oracle_full.label if oracle_full else None,
        oracle_delta=_delta(oracle, [oracle_full], by_row) if oracle and oracle_full else None,
    )


def rows_of(group: Iterable[Scored]) -> Rows:
    """The runs of one table by row and seed. Raises UsageError for two of one row and seed."""
    by_row: dict[RowKey, dict[int, Scored]] = defaultdict(dict)
    for own in group:
        seeds, record = by_row[row_key(own.run.record)], own.run.record
        if record.seed in seeds:
            other = seeds[record.seed].run
            raise UsageError(
                f"{own.run.name} and {other.name} are the same row and seed with different recipes "
                f"({first_difference(record, other.record)}): name the runs to compare"
            )
        seeds[record.seed] = own
    return dict(by_row)


def _choose(rows: Mapping[RowKey, Row], methods: Sequence[str], score: Callable[[Row], float]) -> RowKey | None:
    """The row of these methods with the highest score, controls left out."""
    candidates = [key for key in rows if key.method in methods and key.control is None]
    return max(candidates, key=lambda key: score(rows[key]), default=None)


def _row(key: RowKey, by_row: Rows) -> Row:
    seeds = by_row[key]
    scored = [seeds[seed] for seed in sorted(seeds)]
    records = [own.run.record for own in scored]
    languages = _languages(scored)
    means = [own.scores.mean_zero_shot or own.scores.mean for own in scored]
    values = [mean[scored[0].metric] for mean in means]
    return Row(
        label=key.label,
        method=key.method,
        composition=key.composition,
        variant=key.variant,
        over=key.over,
        control=key.control,
        runs=tuple(own.run.name for own in scored),
        seeds=tuple(sorted(seeds)),
        development=float(np.mean([record.development for record in records])),
        intermediate_development=tuple(
            float(np.mean([record.over[place].development for record in records])) for place in range(len(key.over))
        ),
        trainable_parameters=records[0].trainable_parameters,
        total_parameters=records[0].total_parameters,
        seconds=float(np.mean([record.cost.seconds for record in records])),
        bundle_bytes=max(record.cost.bundle_bytes for record in records),
        mean=float(np.mean(list(languages.values()))),
        mean_zero_shot=float(np.mean(values)),
        spread=float(np.ptp(values)) if len(values) > 1 else None,
        languages=languages,
        families=_by_family(languages),
        delta_none=_delta(key, none_references(key), by_row) if key.over else None,
        delta_full=_delta(key, full_references(key, by_row), by_row) if key.method != "full" else None,
    )


def _languages(scored: Sequence[Scored]) -> dict[str, float]:
    metric = scored[0].metric
    codes = scored[0].scores.languages
    return {code: float(np.mean([own.scores.languages[code][metric] for own in scored])) for code in codes}


def _by_family(languages: Mapping[str, float]) -> dict[str, float]:
    """Mean by language family, English left out: it is not zero-shot."""
    families: dict[str, list[float]] = defaultdict(list)
    for code, value in languages.items():
        if code != "en":
            families[language(code).family].append(value)
    return {family: float(np.mean(values)) for family, values in sorted(families.items())}


def _delta(key: RowKey, references: Iterable[RowKey], by_row: Rows) -> Delta | None:
    """The row against the first of the references that has a seed in common with it, on all such seeds."""
    for reference in references:
        if both := sorted(set(by_row[key]) & set(by_row.get(reference, {}))):
            ours, theirs = ([by_row[own][seed] for seed in both] for own in (key, reference))
            return _difference(reference.label, both, ours, theirs)
    return None


def _difference(against: str, seeds: Sequence[int], ours: Sequence[Scored], theirs: Sequence[Scored]) -> Delta:
    mine, other = _languages(ours), _languages(theirs)
    languages = {code: mine[code] - other[code] for code in mine}
    zero_shot = [code for code in languages if code != "en"] or list(languages)
    interval = mean_difference([own.counts for own in ours], [own.counts for own in theirs], zero_shot)
    return Delta(against, tuple(seeds), interval, languages, _by_family(languages))
