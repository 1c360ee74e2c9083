"""Runs beside each other: deltas against no intermediate task and against full STILTs, paired by seed and language.

A table holds runs that may be compared: one target, backbone, labelling, number of training examples, test split and
test sentences. A row is a method with a composition over intermediates, averaged over its seeds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from adapter_stilts.analysis.bootstrap import Interval, mean_difference, sentence_counts
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
        return {code: sentence_counts(self.metric_name, own) for code, own in read_predictions(self.folder).items()}

    @property
    def metric(self) -> str:
        """The result that the table compares: what the task selects by."""
        return self.run.record.task.selection_metric

    @property
    def metric_name(self) -> str:
        """The metric that gives this result, by its full name."""
        return next(name for name in self.scores.metrics if ("f1" in name) == (self.metric == "f1"))

    @property
    def over(self) -> tuple[str, ...]:
        return tuple(own.task for own in self.run.record.over)


@dataclass(frozen=True)
class Delta:
    """A row against its reference, in points: the reference's label, the difference of the means without English with
    its interval over test sentences, and the differences by language and family."""

    against: str
    interval: Interval
    languages: dict[str, float]
    families: dict[str, float]


@dataclass(frozen=True)
class Row:
    """One method and composition over intermediates, averaged over seeds.

    `languages` and `families` are scores in percent; `development` is the row's own English development score and
    `intermediate_development` that of each intermediate; `seconds` are those of the row's own training.
    """

    label: str
    method: str
    composition: str
    over: tuple[str, ...]
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    development: float
    intermediate_development: tuple[float, ...]
    trainable_parameters: int
    total_parameters: int
    seconds: float
    mean: float
    mean_without_english: float
    spread: float | None
    languages: dict[str, float]
    families: dict[str, float]
    delta_none: Delta | None
    delta_full: Delta | None


@dataclass(frozen=True)
class Table:
    """Comparable rows, and everything that a reader must know of them.

    `chosen` is the adapter row with an intermediate that English development data choose, `oracle` the one that the
    test scores would have chosen; both None where there is no such row.
    """

    target: str
    metric: str
    split: str
    backbone: str
    labelling: str
    train_examples: int
    test_examples: int | None
    seeds: tuple[int, ...]
    languages: tuple[str, ...]
    missing: dict[str, str]
    rows: tuple[Row, ...]
    chosen: str | None
    oracle: str | None


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
    groups: dict[tuple, list[Scored]] = defaultdict(list)
    for own in chosen:
        groups[_comparable(own)].append(own)
    return Comparison(tuple(_table(groups[key]) for key in sorted(groups, key=str)))


def _scored(run: Run, split: str, limit: int | None) -> Iterable[Scored]:
    """The evaluation of a run that counts, if it has one."""
    found = []
    for folder in sorted((run.folder / EVALUATIONS).glob("*")):
        scores = read_scores(folder)
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
        train.available,
        scores.split,
        scores.limit,
        tuple(sorted(scores.languages)),
    )


def _table(group: list[Scored]) -> Table:
    by_row: dict[tuple, dict[int, Scored]] = defaultdict(dict)
    for own in group:
        record = own.run.record
        key = (record.method, record.composition, own.over)
        if record.seed in by_row[key]:
            other = by_row[key][record.seed].run.name
            raise UsageError(
                f"{own.run.name} and {other} are the same row and seed with different recipes: name the runs to compare"
            )
        by_row[key][record.seed] = own
    order = sorted(by_row, key=lambda key: (key[0] == "full", len(key[2]) > 0, key[1], key[2]))
    rows = tuple(_row(key, by_row) for key in order)
    first = group[0]
    adapters = [row for row in rows if row.method != "full" and row.over]
    return Table(
        target=first.run.record.task.name,
        metric=first.metric,
        split=first.scores.split,
        backbone=first.run.record.backbone.id,
        labelling=first.scores.labelling,
        train_examples=first.run.record.data[0].examples,
        test_examples=first.scores.limit,
        seeds=tuple(sorted({own.run.record.seed for own in group})),
        languages=tuple(first.scores.languages),
        missing=first.scores.missing,
        rows=rows,
        chosen=max(adapters, key=lambda row: row.development).label if adapters else None,
        oracle=max(adapters, key=lambda row: row.mean_without_english).label if adapters else None,
    )


def _label(key: tuple) -> str:
    method, composition, over = key
    return " ".join([method, composition, *(["over", " + ".join(over)] if over else [])])


def _row(key: tuple, by_row: Mapping[tuple, Mapping[int, Scored]]) -> Row:
    method, composition, over = key
    seeds = by_row[key]
    scored = [seeds[seed] for seed in sorted(seeds)]
    records = [own.run.record for own in scored]
    languages = _languages(scored)
    means = [own.scores.mean_without_english or own.scores.mean for own in scored]
    values = [mean[scored[0].metric] for mean in means]
    return Row(
        label=_label(key),
        method=method,
        composition=composition,
        over=over,
        runs=tuple(own.run.name for own in scored),
        seeds=tuple(sorted(seeds)),
        development=float(np.mean([record.development for record in records])),
        intermediate_development=tuple(
            float(np.mean([record.over[place].development for record in records])) for place in range(len(over))
        ),
        trainable_parameters=records[0].trainable_parameters,
        total_parameters=records[0].total_parameters,
        seconds=float(np.mean([record.cost.seconds for record in records])),
        mean=float(np.mean(list(languages.values()))),
        mean_without_english=float(np.mean(values)),
        spread=float(np.ptp(values)) if len(values) > 1 else None,
        languages=languages,
        families=_by_family(languages),
        delta_none=_delta(key, (method, "none", ()), by_row) if over else None,
        delta_full=_delta(key, ("full", "continue" if over else "none", over), by_row) if method != "full" else None,
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


def _delta(key: tuple, reference: tuple, by_row: Mapping[tuple, Mapping[int, Scored]]) -> Delta | None:
    """The row against the reference row, on the seeds that both have."""
    both = sorted(set(by_row[key]) & set(by_row.get(reference, {})))
    if not both:
        return None
    ours, theirs = [by_row[key][seed] for seed in both], [by_row[reference][seed] for seed in both]
    mine, other = _languages(ours), _languages(theirs)
    languages = {code: mine[code] - other[code] for code in mine}
    zero_shot = [code for code in languages if code != "en"] or list(languages)
    interval = mean_difference([own.counts for own in ours], [own.counts for own in theirs], zero_shot)
    return Delta(_label(reference), interval, languages, _by_family(languages))
