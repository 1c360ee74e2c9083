"""Tables of a comparison for a terminal and for Markdown; both from the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table as RichTable

from adapter_stilts.analysis.table import Delta, Row, Table
from adapter_stilts.languages import language
from adapter_stilts.plain_text import markdown_cell, markdown_text


@dataclass(frozen=True)
class Cells:
    """A title, a note under it, column heads, and rows of text; the first `text_columns` are left-aligned."""

    title: str
    note: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1


def summary(table: Table) -> Cells:
    """One line a row: means, deltas with intervals, cost."""
    heads = ["", "mean", "without en", "vs none", "vs full", "dev", "intermediate's dev"]
    heads += ["trainable", "% of all", "seconds", "MB"]
    rows = [
        [
            row.label,
            f"{row.mean:.1f}",
            f"{row.mean_zero_shot:.1f}" + (f" ±{row.spread / 2:.1f}" if row.spread is not None else ""),
            interval(row.delta_none),
            interval(row.delta_full),
            f"{row.development:.1f}",
            ", ".join(f"{own:.1f}" for own in row.intermediate_development) or "-",
            f"{row.trainable_parameters:,}",
            f"{100 * row.trainable_parameters / row.total_parameters:.3g}",
            f"{row.seconds:,.0f}",
            f"{row.bundle_bytes / 1e6:.1f}" if row.bundle_bytes else "",
        ]
        for row in table.rows
    ]
    return Cells(f"{table.target}: {table.metric}, zero-shot", conditions(table), heads, rows)


def conditions(table: Table) -> str:
    """What every table must say of itself."""
    tested = "all sentences" if table.test_examples is None else f"at most {table.test_examples} sentences a language"
    missing = f"; missing: {', '.join(table.missing)}" if table.missing else "; none missing"
    few = "" if len(table.seeds) >= 3 else " (under three seeds: no ranking follows)"
    scored = "" if table.precisions == ("float32",) else f", predicted in {' and '.join(table.precisions)}"
    return (
        f"{table.metric} in percent, backbone {table.backbone}, labels on {table.labelling}{scored}, "
        f"{table.train_examples:,} English training examples, {table.split}: {tested}, {len(table.languages)} languages"
        f"{missing}; seeds: {', '.join(map(str, table.seeds))}{few}. "
        "Deltas are points of the mean without English, with 95% intervals over test sentences only. "
        f"Trainable parameters, seconds and MB of weights are those of the row's own run.{choices(table)}"
    )


def choices(table: Table) -> str:
    """Which rows English development data pick, and which the test scores: of all adapter rows and of all rows of full
    STILTs, controls left out; with their means without English and the adapters' difference."""
    by_development = _pair(table, table.chosen, table.chosen_full, table.chosen_delta)
    if not by_development:
        return ""
    return (
        f" Chosen by English development score, controls left out: {by_development}. "
        f"Chosen by test score (oracle): {_pair(table, table.oracle, table.oracle_full, table.oracle_delta)}."
    )


def _pair(table: Table, adapter: str | None, full: str | None, delta: Delta | None) -> str:
    means = {row.label: row.mean_zero_shot for row in table.rows}
    named = (("adapters", adapter), ("full STILTs", full))
    parts = [f"{family}: {label} {means[label]:.1f}" for family, label in named if label is not None]
    if delta is not None:
        shared = "" if delta.seeds == table.seeds else f" on seeds {', '.join(map(str, delta.seeds))}"
        parts.append(f"difference{shared} {interval(delta)}")
    return ", ".join(parts)


def by_family(table: Table) -> Cells:
    """Scores of the first row, then deltas against none, by family (English left out)."""
    families = list(table.rows[0].families)
    rows = [[row.label, *_versus(row, families, row.families, "families")] for row in table.rows]
    title = f"{table.target}: by family (rows with an intermediate: difference to none)"
    return Cells(title, "", ["", *families], rows)


def by_language(table: Table) -> Cells:
    """Languages down, rows across: scores for rows without an intermediate, differences to none for the others."""
    columns = [_versus(row, list(table.languages), row.languages, "languages") for row in table.rows]
    rows = [
        [code, language(code).name, language(code).family, *(column[place] for column in columns)]
        for place, code in enumerate(table.languages)
    ]
    title = f"{table.target}: by language (rows with an intermediate: difference to none)"
    return Cells(title, "", ["", "language", "family", *(row.label for row in table.rows)], rows, text_columns=3)


def _versus(row: Row, keys: Sequence[str], scores: dict[str, float], part: str) -> list[str]:
    if row.delta_none is None:
        return [f"{scores[key]:.1f}" for key in keys]
    deltas = getattr(row.delta_none, part)
    return [f"{deltas[key]:+.1f}" for key in keys]


def interval(delta: Delta | None) -> str:
    """A difference with its interval."""
    if delta is None:
        return "-"
    own = delta.interval
    return f"{own.value:+.1f} [{own.low:+.1f}, {own.high:+.1f}]"


def rich_tables(table: Table) -> list[RichTable]:
    """The three tables for a terminal."""
    return [rich_table(cells) for cells in (summary(table), by_family(table), by_language(table))]


def rich_table(cells: Cells) -> RichTable:
    """Cells for a terminal."""
    rich = RichTable(title=cells.title, caption=cells.note or None, title_justify="left", caption_justify="left")
    for place, head in enumerate(cells.heads):
        rich.add_column(head, justify="left" if place < cells.text_columns else "right", overflow="fold")
    for row in cells.rows:
        rich.add_row(*row)
    return rich


def markdown(table: Table) -> str:
    """The three tables as Markdown, with their conditions."""
    return "\n".join(_markdown(cells) for cells in (summary(table), by_family(table), by_language(table)))


def _markdown(cells: Cells) -> str:
    rule = ["---" if place < cells.text_columns else "---:" for place in range(len(cells.heads))]
    lines = [f"### {markdown_text(cells.title)}", ""] + ([markdown_text(cells.note), ""] if cells.note else [])
    lines += ["| " + " | ".join(map(markdown_cell, row)) + " |" for row in (cells.heads, rule, *cells.rows)]
    return "\n".join([*lines, ""])
