"""What a study's report says, before it is drawn: answers, tables, statistics, what is missing."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from adapter_stilts.analysis.answer import Answer, answer
from adapter_stilts.analysis.compare import compare_scored
from adapter_stilts.analysis.frame import score_rows
from adapter_stilts.analysis.scored import Scored
from adapter_stilts.analysis.study import REFERENCES, Fitted, Observed, fit_rows, observe, scored_runs
from adapter_stilts.analysis.table import Row, Table
from adapter_stilts.errors import StiltsError
from adapter_stilts.runs.claims import Claims
from adapter_stilts.runs.record import RECORD, Underneath, read_record
from adapter_stilts.runs.store import RunStore
from adapter_stilts.runs.tidy import FAILURES
from adapter_stilts.statistics.resample import RESAMPLES
from adapter_stilts.studies.plan import StudyRun
from adapter_stilts.study_schema import Study
from adapter_stilts.trust import read_text, regular_file

State = Literal["under way", "trained, not scored", "failed", "not done"]


@dataclass(frozen=True)
class Missing:
    """A target run that is not in the report: its cell and name, what is known of it, and why it failed, where an
    error was written down."""

    cell: str
    run: str
    state: State
    reason: str = ""


@dataclass(frozen=True)
class Below:
    """An intermediate as its target runs found it: its development score by method and control, the mean
    over its runs; and where their records are still there, what the majority class would score, and the number of
    pieces that it was trained on."""

    task: str
    method: str
    control: str | None
    knowledge: str
    granularity: str
    metric: str | None
    development: float
    lowest: float
    highest: float
    runs: int
    majority: float | None
    pieces: int | None


@dataclass(frozen=True)
class Report:
    """A report at one moment: `done` of `planned` target runs are in it.

    `answers` begins with the study's main one: that of its first method and composition against no
    intermediate. `rows` are those of load_study.
    """

    study: Study
    done: int
    planned: int
    written: str
    answers: tuple[Answer, ...]
    missing: tuple[Missing, ...]
    tables: tuple[Table, ...]
    observed: tuple[Observed, ...]
    fits: tuple[Fitted, ...]
    below: tuple[Below, ...]
    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    scored: Mapping[str, Scored] = field(repr=False)

    @property
    def whole(self) -> bool:
        """Whether every target run is in it."""
        return self.done == self.planned

    @property
    def primary(self) -> Fitted | None:
        """The statistics that the first answer is from."""
        return next((fit for fit in self.fits if fit.reference == "none"), None)

    def under(self, row: Row) -> tuple[Underneath, ...]:
        """What lies underneath the runs of a row."""
        return self.scored[row.runs[0]].run.record.over

    @property
    def named_tables(self) -> dict[str, Table]:
        """The tables by their target; with a number where a target has several, since its runs are no equals."""
        counts = Counter(table.target for table in self.tables)
        return {
            table.target if counts[table.target] == 1 else f"{table.target}-{number}": table
            for number, table in enumerate(self.tables, 1)
        }


def make_report(
    study: Study,
    runs: Sequence[StudyRun],
    store: RunStore,
    known: Mapping[str, Scored] | None = None,
    resamples: int = RESAMPLES,
    sentence_intervals: bool = False,
) -> Report:
    """The report of a study's runs as they are now. What is `known` (an earlier report's `scored`) is not read again;
    `resamples` of 0 leaves the second opinion on the contrasts out; `sentence_intervals` as in `compare_runs`."""
    scored = scored_runs(runs, known)
    observed = tuple(observe(scored.values(), reference) for reference in REFERENCES)
    # A control that all intermediates share gives the same contrasts as no intermediate: one of them is enough.
    telling = [differences for differences in observed if differences.reference == "none" or not differences.shared]
    fits = tuple(fit for differences in telling for fit in fit_rows(differences, resamples))
    return Report(
        study=study,
        done=len(scored),
        planned=len({run.name for run in runs}),
        written=time.strftime("%Y-%m-%d %H:%M"),
        answers=tuple(_answer(fit) for fit in fits if fit.reference == "none"),
        missing=missing_runs(runs, store),
        tables=compare_scored(scored.values(), sentence_intervals).tables_,
        observed=observed,
        fits=fits,
        below=tuple(_below(scored.values())),
        rows=score_rows(scored),
        scored=scored,
    )


def _answer(fit: Fitted) -> Answer:
    if fit.effects is None:
        return Answer(f"Nothing can be said yet of {fit.method} {fit.composition}: {fit.reason}.")
    return answer(fit.effects)


def missing_runs(runs: Iterable[StudyRun], store: RunStore) -> tuple[Missing, ...]:
    """The target runs that are not finished, with what their store knows of them."""
    claims = Claims(store.folder)
    unfinished = [run for run in runs if run.run is None]
    return tuple(Missing(run.cell.label, run.name, *_state(run.name, store, claims)) for run in unfinished)


def _last_line(failure: Path, store: RunStore) -> str:
    try:
        lines = read_text(regular_file(failure, store.folder)).strip().splitlines()
    except StiltsError as error:
        return str(error)
    return lines[-1] if lines else ""


def _state(name: str, store: RunStore, claims: Claims) -> tuple[State, str]:
    failure = store.folder / FAILURES / f"{name}.txt"
    if claims.held(name):
        return "under way", ""
    if os.path.lexists(failure):
        return "failed", _last_line(failure, store)
    return ("trained, not scored" if (store.folder / name / RECORD).is_file() else "not done"), ""


def _below(scored: Iterable[Scored]) -> Iterator[Below]:
    """Each intermediate once: target runs share it."""
    by_intermediate: dict[tuple[str, str, str | None], dict[str, tuple[Underneath, Path]]] = {}
    for evaluation in scored:
        for under in evaluation.run.record.over:
            runs = by_intermediate.setdefault((under.task, evaluation.run.record.method, under.control), {})
            runs[under.run] = (under, evaluation.run.folder.parent / under.run)
    for (task, method, control), runs in by_intermediate.items():
        unders = [under for under, _ in runs.values()]
        scores = [under.development for under in unders]
        metric, majority, pieces = _trained(runs.values())
        yield Below(
            task=task,
            method=method,
            control=control,
            knowledge=unders[0].knowledge,
            granularity=unders[0].granularity,
            metric=metric,
            development=float(np.mean(scores)),
            lowest=min(scores),
            highest=max(scores),
            runs=len(scores),
            majority=majority,
            pieces=pieces,
        )


def _trained(runs: Iterable[tuple[Underneath, Path]]) -> tuple[str | None, float | None, int | None]:
    """Metric, majority score and training pieces of an intermediate, by the first of its records that has them."""
    records = []
    for _, folder in runs:
        with suppress(StiltsError):
            records.append(read_record(folder))
    if not records:
        return None, None, None
    pieces = sum(part.tokens for part in records[0].data if part.split == "train")
    majorities = (record.development_majority for record in records if record.development_majority is not None)
    return records[0].task.selection_metric, next(majorities, None), pieces
