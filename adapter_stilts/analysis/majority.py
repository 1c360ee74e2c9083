"""Every row's score in every language, beside what the majority class would get there: did anything transfer at all?"""

from __future__ import annotations

import numpy as np

from adapter_stilts.analysis.render import Cells, interval
from adapter_stilts.analysis.table import Row, Table
from adapter_stilts.languages import language

MAJORITY = "majority class"


def numbered_rows(table: Table) -> Cells:
    """The rows of a table with numbers, for the columns of `scores_by_language`."""
    heads = ["", "row", f"mean {table.without}", "vs none", "vs full STILTs", "dev", "dev of what is under it"]
    heads += ["trained", "seconds"]
    rows = [
        [
            str(number),
            row.label,
            f"{row.mean_zero_shot:.1f}",
            interval(row.delta_none),
            interval(row.delta_full),
            f"{row.development:.1f}",
            ", ".join(f"{score:.1f}" for score in row.intermediate_development) or "-",
            f"{row.trainable_parameters / 1e6:.2f}M",
            f"{row.seconds:,.0f}",
        ]
        for number, row in enumerate(table.rows, 1)
    ]
    floor = np.mean([table.majority[code] for code in table.zero_shot])
    rows.append(["", MAJORITY, f"{floor:.1f}", *["-"] * 6])
    return Cells(f"{table.target}: {table.metric}, zero-shot", "", heads, rows, text_columns=2)


def scores_by_language(table: Table) -> Cells:
    """Languages down, the table's rows across by their numbers: scores, with the difference to no intermediate where
    there is one."""
    heads = ["", "language", "script", MAJORITY, *(str(number) for number in range(1, len(table.rows) + 1))]
    rows = [
        [
            code,
            language(code).name,
            language(code).script,
            f"{table.majority[code]:.1f}",
            *(_score(row, code) for row in table.rows),
        ]
        for code in table.languages
    ]
    title = f"{table.target}: {table.metric} by language of the rows with these numbers, then the difference to none"
    return Cells(title, "", heads, rows, text_columns=3)


def above_majority(table: Table) -> str:
    """That every score is above the majority class, with the lowest margin; empty where that is not so, which
    `Table.unlearnt` then says."""
    margin, code, label = min(
        (row.languages[code] - floor, code, row.label) for row in table.rows for code, floor in table.majority.items()
    )
    if table.unlearnt or margin <= 0:
        return ""
    return f"Every score is above the majority class, by {margin:.1f} points or more (least: {label}, {code})."


def _score(row: Row, code: str) -> str:
    delta = f" {row.delta_none.languages[code]:+5.1f}" if row.delta_none is not None else ""
    return f"{row.languages[code]:.1f}{delta}"
