"""The numbers of every figure of a report as rows, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from adapter_stilts.analysis.frame import COLUMNS, SCORES_FILE
from adapter_stilts.analysis.study import arrangement
from adapter_stilts.analysis.table import Row
from adapter_stilts.languages import language
from adapter_stilts.plain_text import csv_cell
from adapter_stilts.report.content import Report

Rows = list[dict[str, Any]]


def heatmap_rows(report: Report) -> Rows:
    """One row an intermediate, target, method and composition: its difference to no intermediate on the seeds that both
    have, with its interval where it has one and what that is over; the same to full STILTs, and the difference to an
    intermediate that was never trained."""
    means = _means(report, "random")
    return [
        {
            "target": name,
            "method": row.method,
            "composition": _arranged(report, row),
            "intermediate": under.task,
            "control": row.control,
            "knowledge": under.knowledge,
            "granularity": under.granularity,
            "difference": row.delta_none.interval.value,
            "low": row.delta_none.interval.low,
            "high": row.delta_none.interval.high,
            "interval_over": row.delta_none.over,
            "seeds": " ".join(map(str, row.delta_none.seeds)),
            "difference_to_full": row.delta_full.interval.value if row.delta_full else None,
            "low_to_full": row.delta_full.interval.low if row.delta_full else None,
            "high_to_full": row.delta_full.interval.high if row.delta_full else None,
            "interval_to_full_over": row.delta_full.over if row.delta_full else None,
            "difference_to_random": means.get((table.target, row.method, _arranged(report, row), under.task))
            if row.control is None
            else None,
            "intermediate_development": row.intermediate_development[0],
        }
        for name, table in report.named_tables.items()
        for row in table.rows
        if row.delta_none is not None and len(row.over) == 1
        for under in report.under(row)
    ]


def contrast_rows(report: Report) -> Rows:
    """One row a contrast, of every method and composition against every reference; `family` contrasts are corrected
    together."""
    rows = []
    for fit in report.fits:
        contrasts = fit.effects.contrasts if fit.effects else ()
        family = sum(contrast.holm_p is not None for contrast in contrasts)
        for contrast in contrasts:
            values = asdict(contrast)
            name = values.pop("name")
            about = {"against": fit.reference, "method": fit.method, "composition": fit.composition, "contrast": name}
            rows.append(about | values | {"family": family})
    return rows


def language_rows(report: Report) -> Rows:
    """One row a language, kind of intermediate, target, method and composition: the mean difference to no intermediate
    over the intermediates and seeds of that kind, in the languages that were not trained on."""
    deltas: dict[tuple[str, ...], list[float]] = {}
    (observed,) = (differences for differences in report.observed if differences.reference == "none")
    for observation in observed.observations:
        if observation.zero_shot:
            row = (observation.target, observation.method, observation.composition)
            key = (*row, observation.language, observation.knowledge, observation.granularity)
            deltas.setdefault(key, []).append(observation.delta)
    return [
        {
            "target": target,
            "method": method,
            "composition": composition,
            "language": code,
            "name": language(code).name,
            "family": language(code).family,
            "script": language(code).script,
            "knowledge": knowledge,
            "granularity": granularity,
            "delta": float(np.mean(points)),
            "runs": len(points),
        }
        for (target, method, composition, code, knowledge, granularity), points in deltas.items()
    ]


def cost_rows(report: Report) -> Rows:
    """One row a row of the tables, controls left out: what its own run trained, how long that took, and its score."""
    return [
        {
            "target": name,
            "metric": table.metric,
            "mean": table.without,
            "row": row.label,
            "method": row.method,
            "composition": row.composition,
            "trainable_parameters": row.trainable_parameters,
            "seconds": row.seconds,
            "score": row.mean_zero_shot,
            "seeds": len(row.seeds),
        }
        for name, table in report.named_tables.items()
        for row in table.rows
        if row.control is None
    ]


def majority_rows(report: Report) -> Rows:
    """One row a target and language: what the majority class would score there."""
    return [
        {"target": name, "language": code, "metric": table.metric, "majority": value}
        for name, table in report.named_tables.items()
        for code, value in table.majority.items()
    ]


def below_rows(report: Report) -> Rows:
    """One row an intermediate, method and control: its own development score."""
    return [asdict(intermediate) for intermediate in report.below]


def left_out_rows(report: Report) -> Rows:
    """One row a reference and reason: how many scored runs the statistics leave out."""
    return [
        {"against": observed.reference, "reason": reason, "runs": runs}
        for observed in report.observed
        for reason, runs in observed.left_out.items()
    ]


def _means(report: Report, reference: str) -> dict[tuple[str, str, str, str], float]:
    """Mean difference to a reference over zero-shot languages and seeds, by target, method, composition and
    intermediate."""
    deltas: dict[tuple[str, str, str, str], list[float]] = {}
    observed = [differences for differences in report.observed if differences.reference == reference]
    for observation in (observation for differences in observed for observation in differences.observations):
        if observation.zero_shot:
            key = (observation.target, observation.method, observation.composition, observation.intermediate)
            deltas.setdefault(key, []).append(observation.delta)
    return {key: float(np.mean(points)) for key, points in deltas.items()}


def csv_files(report: Report) -> dict[str, str]:
    """Name of a file -> its text: the data of every figure, every score, and what is missing."""
    files = {
        "heatmap.csv": heatmap_rows(report),
        "contrasts.csv": contrast_rows(report),
        "languages.csv": language_rows(report),
        "cost.csv": cost_rows(report),
        "majority.csv": majority_rows(report),
        "intermediates.csv": below_rows(report),
        "left_out.csv": left_out_rows(report),
        "missing.csv": [asdict(run) for run in report.missing],
    }
    texts = {name: csv_text(rows) for name, rows in files.items() if rows}
    return texts | {SCORES_FILE: csv_text(report.rows, COLUMNS)}


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as CSV with a line of names; what is None is an empty field."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: csv_cell(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def _arranged(report: Report, row: Row) -> str:
    return arrangement(report.scored[row.runs[0]].run.record)
