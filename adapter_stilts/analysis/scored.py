"""A run with one of its evaluations, and what a comparison asks of the two."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapter_stilts.analysis.table import zero_shot_codes
from adapter_stilts.errors import StiltsError
from adapter_stilts.evaluation.predictions import read_columns, read_predictions
from adapter_stilts.evaluation.scores import SCORES, Scores, evaluations_of
from adapter_stilts.runs.store import Run
from adapter_stilts.statistics.bootstrap import Ratio
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.metrics import Array, Metric
from adapter_stilts.tasks.scoring import example_counts, majority_score


@dataclass(frozen=True)
class Scored:
    """A run with one of its evaluations."""

    run: Run
    scores: Scores
    folder: Path

    @property
    def metric(self) -> str:
        """The result that a table compares: what the task selects by."""
        return self.run.record.task.selection_metric

    @property
    def metric_name(self) -> str:
        """The metric that gives this result, by its full name. Raises StiltsError where the scores name none."""
        known = self._known_metrics
        for name in self.scores.metrics:
            if name in known and known[name].result == self.metric:
                return name
        named = ", ".join(name[:80] for name in self.scores.metrics)
        raise StiltsError(f"{self.folder / SCORES}: metrics: found {named}, accepted one that gives {self.metric}")

    @property
    def ratio(self) -> Ratio:
        """What makes the result, in percent, of sums of `counts`."""
        return self._known_metrics[self.metric_name].ratio

    @property
    def _known_metrics(self) -> Mapping[str, Metric]:
        return find_kind(self.run.record.task.kind).metrics

    @property
    def trained_languages(self) -> tuple[str, ...]:
        """The languages of the run's own training data."""
        return self.run.record.languages

    @property
    def zero_shot(self) -> list[str]:
        """The scored languages that the run did not train on; all of them where there is no other."""
        return zero_shot_codes(list(self.scores.languages), self.trained_languages)

    @cached_property
    def languages(self) -> dict[str, float]:
        """The result by language, in percent."""
        return {code: metrics[self.metric] for code, metrics in self.scores.languages.items()}

    @property
    def mean_zero_shot(self) -> float:
        """The plain mean over the zero-shot languages. Computed here: older files left English out, whatever the run
        was trained on."""
        return float(np.mean([self.languages[code] for code in self.zero_shot]))

    @cached_property
    def evaluated(self) -> float:
        """When the evaluation was written, in seconds since the epoch."""
        return (self.folder / SCORES).stat().st_mtime

    @cached_property
    def counts(self) -> dict[str, Array]:
        """Counts by sentence of the result's metric, by language. Reads the predictions."""
        kind = self.run.record.task.kind
        predictions = read_predictions(self.folder, self.scores, kind)
        return {
            code: example_counts(kind, self.metric_name, each.predicted, each.gold)
            for code, each in predictions.items()
        }

    @cached_property
    def gold(self) -> dict[str, str]:
        """A hash of the example numbers and gold labels of each language. Reads the predictions."""
        table = self._columns("language", "example", "gold")
        return {code: _gold_hash(table.filter(pc.equal(table["language"], code))) for code in self.scores.languages}

    @cached_property
    def majority(self) -> dict[str, float]:
        """By language, in percent: the result of giving everything the label that is most frequent in that language's
        own test data. Reads the predictions where it was not written down."""
        if self.scores.selection_metric == self.metric and set(self.scores.languages) <= set(self.scores.majority):
            return {code: self.scores.majority[code] for code in self.scores.languages}
        table = self._columns("language", "gold")
        by_language = {code: table.filter(pc.equal(table["language"], code))["gold"] for code in self.scores.languages}
        kind, names = self.run.record.task.kind, [self.metric_name]
        return {code: majority_score(kind, names, gold.to_pylist())[self.metric] for code, gold in by_language.items()}

    @cached_property
    def only_label(self) -> str | None:
        """The label that every prediction in every language is; None where there are several. Reads the predictions
        where it was not written down that there are several."""
        if any(count > 1 for count in self.scores.predicted_labels.values()):
            return None
        answers = self._columns("predicted")["predicted"]
        labels = pc.unique(pc.list_flatten(answers) if pa.types.is_list(answers.type) else answers)
        return str(labels[0].as_py()) if len(labels) == 1 else None

    def _columns(self, *names: str) -> pa.Table:
        return read_columns(self.folder, self.scores, self.run.record.task.kind, names)


def scored_evaluations(run: Run, split: str, limit: int | None) -> Iterator[Scored]:
    """The evaluations of a run on a split; of so many sentences a language, where `limit` says so."""
    for folder, scores in evaluations_of(run):
        if scores.split == split and (limit is None or scores.limit == limit):
            yield Scored(run, scores, folder)


def _gold_hash(rows: pa.Table) -> str:
    """Of the rows of one language, whatever their order: examples have numbers."""
    rows = rows.sort_by("example")
    gold = rows["gold"].combine_chunks()
    texts = (pc.binary_join(gold, "\x1f") if pa.types.is_list(gold.type) else gold).to_pylist()
    lines = (f"{number}\x1e{text}" for number, text in zip(rows["example"].to_pylist(), texts, strict=True))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
