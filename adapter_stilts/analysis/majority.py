"""Every row's score in every language, beside what the majority class would get there: did anything transfer at all?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from adapter_stilts.analysis.compare import Scored
from adapter_stilts.analysis.render import Cells, interval
from adapter_stilts.analysis.table import Row, Table
from adapter_stilts.evaluation.predictions import read_predictions
from adapter_stilts.languages import language
from adapter_stilts.training.inference import majority_score

MAJORITY = "majority class"


def majority_scores(own: Scored) -> dict[str, float]:
    """By language, in percent and in the metric that the task selects by: the score of giving everything the label that
    is most frequent in that language's own test data."""
    task, predictions = own.run.record.task, read_predictions(own.folder, own.scores.predictions)
    return {code: majority_score(task.kind, task.metrics, one.gold)[own.metric] for code, one in predictions.items()}


def numbered_rows(table: Table, majority: Mapping[str, float]) -> Cells:
    """The rows of a table with numbers, for the columns of `scores_by_language`."""
    heads = ["", "row", "mean without en", "vs none", "vs full STILTs", "dev", "dev of what is under it"]
    heads += ["trained", "seconds"]
    rows = [
        [
            str(number),
            row.label,
            f"{row.mean_zero_shot:.1f}",
            interval(row.delta_none),
            interval(row.delta_full),
            f"{row.development:.1f}",
            ", ".join(f"{own:.1f}" for own in row.intermediate_development) or "-",
            f"{row.trainable_parameters / 1e6:.2f}M",
            f"{row.seconds:,.0f}",
        ]
        for number, row in enumerate(table.rows, 1)
    ]
    others = [value for code, value in majority.items() if code != "en"] or list(majority.values())
    rows.append(["", MAJORITY, f"{np.mean(others):.1f}", *["-"] * 6])
    return Cells(f"{table.target}: {table.metric}, zero-shot", "", heads, rows, text_columns=2)


def scores_by_language(table: Table, majority: Mapping[str, float]) -> Cells:
    """Languages down, the table's rows across by their numbers: scores, with the difference to no intermediate where
    there is one."""
    heads = ["", "language", "script", MAJORITY, *(str(number) for number in range(1, len(table.rows) + 1))]
    rows = [
        [
            code,
            language(code).name,
            language(code).script,
            f"{majority[code]:.1f}",
            *(_score(row, code) for row in table.rows),
        ]
        for code in table.languages
    ]
    title = f"{table.target}: {table.metric} by language, and difference to none, of the rows with these numbers"
    return Cells(title, "", heads, rows, text_columns=3)


def above_majority(table: Table, majority: Mapping[str, float]) -> str:
    """Whether every score is above the majority class, in one sentence; the row with the lowest margin where it is,
    the rows and languages where one is not."""
    below = {
        row.label: [code for code in table.languages if row.languages[code] <= majority[code]] for row in table.rows
    }
    named = [f"{label} ({', '.join(codes)})" for label, codes in below.items() if codes]
    if named:
        return f"Not above the majority class: {'; '.join(named)}."
    margin, code, label = min(
        (row.languages[code] - majority[code], code, row.label) for row in table.rows for code in majority
    )
    return f"Every score is above the majority class, by {margin:.1f} points or more (least: {label}, {code})."


def _score(row: Row, code: str) -> str:
    delta = f" {row.delta_none.languages[code]:+5.1f}" if row.delta_none is not None else ""
    return f"{row.languages[code]:.1f}{delta}"
