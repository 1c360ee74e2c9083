"""Tables of a comparison for a terminal and for Markdown; both from the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.table import Table as RichTable

from adapter_stilts.analysis.table import Delta, Row, Table
from adapter_stilts.languages import language
from adapter_stilts.plain_text import markdown_cell, markdown_text
from adapter_stilts.statistics.bootstrap import SEEDS


@dataclass(frozen=True)
class Cells:
    """A title, a note under it, column heads, and rows of text; the first `text_columns` are left-aligned. `lines` are
    what a reader must be told besides, each on a line of its own."""

    title: str
    note: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1
    lines: Sequence[str] = ()


def summary(table: Table) -> Cells:
    """One line a row: means, deltas, cost."""
    heads = ["", "mean", table.without, "vs none", "vs full", "dev", "intermediate's dev"]
    heads += ["trainable", "% of all", "seconds", "MB"]
    rows = [
        [
            row.label,
            f"{row.mean:.1f}",
            f"{row.mean_zero_shot:.1f}" + (f" ±{row.spread / 2:.1f}" if row.spread is not None else ""),
            interval(row.delta_none),
            interval(row.delta_full),
            f"{row.development:.1f}",
            ", ".join(f"{score:.1f}" for score in row.intermediate_development) or "-",
            f"{row.trainable_parameters:,}",
            f"{100 * row.trainable_parameters / row.total_parameters:.3g}",
            f"{row.seconds:,.0f}",
            f"{row.bundle_bytes / 1e6:.1f}" if row.bundle_bytes else "",
        ]
        for row in table.rows
    ]
    return Cells(f"{table.target}: {table.metric}, zero-shot", conditions(table), heads, rows, lines=warnings(table))


def warnings(table: Table) -> list[str]:
    """What must be told of a table besides: rows that learnt nothing, and what is not in it."""
    return [f"{line}." for line in (*table.unlearnt, *table.notes)]


def conditions(table: Table) -> str:
    """What every table must say of itself."""
    tested = "all sentences" if table.test_examples is None else f"at most {table.test_examples} sentences a language"
    missing = f"; missing: {', '.join(table.missing)}" if table.missing else "; none missing"
    few = "" if len(table.seeds) >= SEEDS else " (under three seeds: no ranking follows)"
    # Only kinds that read words have a piece of a word that is read.
    labelled = f", labels on {table.labelling}" if table.labelling else ""
    scored = "" if table.precisions == ("float32",) else f", predicted in {' and '.join(table.precisions)}"
    return (
        f"{table.metric} in percent, backbone {table.backbone}{labelled}{scored}, "
        f"{table.train_examples:,} training examples in {_named(table.trained_languages)}, {table.split}: {tested}, "
        f"{len(table.languages)} languages{missing}; seeds: {', '.join(map(str, table.seeds))}{few}. "
        f"Deltas are points of the mean {table.without}, {intervals(table)}. "
        f"Trainable parameters, seconds and MB of weights are those of the row's own run.{choices(table)}"
    )


def intervals(table: Table) -> str:
    """What the intervals of a table's deltas hold, or why there are none."""
    deltas = [delta for row in table.rows for delta in (row.delta_none, row.delta_full) if delta is not None]
    with_interval = [delta for delta in (*deltas, table.chosen_delta, table.oracle_delta) if delta and delta.over]
    return interval_words(table.sentence_intervals, bool(with_interval))


def interval_words(sentence_intervals: bool, some: bool) -> str:
    """The same, by whether intervals over test sentences were asked for and whether some delta has an interval."""
    if sentence_intervals:
        return "with 95% intervals over test sentences alone: what another seed would change is not in them"
    if some:
        return "with 95% intervals over seeds and test sentences (t), where three or more seeds are shared"
    return "without intervals: three shared seeds are needed to tell what another seed would change"


def _named(codes: Sequence[str]) -> str:
    return " and ".join(language(code).name for code in codes)


def choices(table: Table) -> str:
    """Which rows development data pick, and which the test scores: of all adapter rows and of all rows of full STILTs,
    controls left out; with their means over zero-shot languages and the adapters' difference."""
    by_development = _pair(table, "chosen", table.chosen_delta)
    if not by_development:
        return ""
    return (
        f" Chosen by development score, controls left out: {by_development}. "
        f"Chosen by test score (oracle): {_pair(table, 'oracle', table.oracle_delta)}."
    )


def _pair(table: Table, how: str, delta: Delta | None) -> str:
    means = {row.label: row.mean_zero_shot for row in table.rows}
    parts = []
    for family, choice in (("adapters", how), ("full STILTs", f"{how}_full")):
        label = getattr(table, choice)
        if label is not None:
            parts.append(f"{family}: {label} {means[label]:.1f}{_equal(table.ties.get(choice, ()))}")
    if delta is not None:
        shared = "" if delta.seeds == table.seeds else f" on seeds {', '.join(map(str, delta.seeds))}"
        parts.append(f"difference{shared} {interval(delta)}")
    return ", ".join(parts)


def _equal(labels: Sequence[str]) -> str:
    """The rows of the same score, where there are any."""
    return f" (of the same score: {'; '.join(labels)}; the fewest trained parameters decide)" if labels else ""


def by_family(table: Table) -> Cells:
    """Mean by family over the zero-shot languages: scores, or differences where a row has a reference; each row says
    which."""
    families = list(table.rows[0].families)
    rows = [[row.label, _shown(row), *_versus(row, families, row.families, "families")] for row in table.rows]
    title = f"{table.target}: by family {table.without}, scores and differences"
    return Cells(title, "", ["", "shown", *families], rows, text_columns=2)


def by_language(table: Table) -> Cells:
    """Languages down, rows across: scores, or differences where a row has a reference; each column says which."""
    columns = [_versus(row, list(table.languages), row.languages, "languages") for row in table.rows]
    rows = [
        [code, language(code).name, language(code).family, *(column[index] for column in columns)]
        for index, code in enumerate(table.languages)
    ]
    heads = ["", "language", "family", *(f"{row.label}: {_shown(row)}" for row in table.rows)]
    return Cells(f"{table.target}: by language, scores and differences", "", heads, rows, text_columns=3)


def _shown(row: Row) -> str:
    return "score" if row.delta_none is None else f"difference to {row.delta_none.against}"


def _versus(row: Row, keys: Sequence[str], scores: dict[str, float], part: str) -> list[str]:
    if row.delta_none is None:
        return [f"{scores[key]:.1f}" for key in keys]
    deltas = getattr(row.delta_none, part)
    return [f"{deltas[key]:+.1f}" for key in keys]


def interval(delta: Delta | None) -> str:
    """A difference, with its interval where it has one."""
    if delta is None:
        return "-"
    value, low, high = delta.interval.value, delta.interval.low, delta.interval.high
    return f"{value:+.1f}" + ("" if low is None or high is None else f" [{low:+.1f}, {high:+.1f}]")


def rich_tables(table: Table, width: int | None = None) -> list[RichTable]:
    """The three tables for a terminal, in parts where one is wider than it."""
    tables = (summary(table), by_family(table), by_language(table))
    return [rich_table(part, width) for cells in tables for part in fitting(cells, width)]


# Characters of a row's label, of other text, and of a head over numbers, before they go on in the next line.
LABEL_WIDTH, TEXT_WIDTH, HEAD_WIDTH = 30, 14, 12


def fitting(cells: Cells, width: int | None) -> list[Cells]:
    """A table as parts that fit into so many characters with every number whole: the first columns again in each, the
    note under the last. None: as it is."""
    if width is None or _natural(cells) <= width:
        return [cells]
    text, widths = cells.text_columns, _widths(cells)
    room = width - 1 - sum(widths[:text])
    parts: list[list[int]] = [[]]
    for index in range(text, len(cells.heads)):
        if parts[-1] and sum(widths[column] for column in (*parts[-1], index)) > room:
            parts.append([])
        parts[-1].append(index)
    return [_part(cells, columns, number == 0, number == len(parts) - 1) for number, columns in enumerate(parts)]


def _part(cells: Cells, columns: Sequence[int], first: bool, last: bool) -> Cells:
    indices = (*range(cells.text_columns), *columns)
    return Cells(
        cells.title if first else f"{cells.title} (more columns)",
        cells.note if last else "",
        [cells.heads[index] for index in indices],
        [[row[index] for index in indices] for row in cells.rows],
        cells.text_columns,
        cells.lines if last else (),
    )


def _natural(cells: Cells) -> int:
    """Characters of a table whose cells have one line each."""
    columns = zip(cells.heads, *cells.rows, strict=True)
    return 1 + sum(3 + max(map(len, column)) for column in columns)


def _widths(cells: Cells) -> list[int]:
    """Of each column with its border in a narrow terminal: of numbers as wide as the widest."""
    widths = []
    for index, (head, *column) in enumerate(zip(cells.heads, *cells.rows, strict=True)):
        longest = max(map(len, column), default=0)
        if index < cells.text_columns:
            longest = min(max(longest, len(head)), TEXT_WIDTH if index else LABEL_WIDTH)
        else:
            longest = max(longest, min(len(head), HEAD_WIDTH))
        widths.append(longest + 3)
    return widths


def rich_table(cells: Cells, width: int | None = None) -> RichTable:
    """Cells for a terminal of that width (None: as wide as it gets)."""
    caption = "\n".join(line for line in (cells.note, *cells.lines) if line)
    rich = RichTable(title=cells.title, caption=caption or None, title_justify="left", caption_justify="left")
    narrow = width is not None and _natural(cells) > width
    for index, (head, column_width) in enumerate(zip(cells.heads, _widths(cells), strict=True)):
        justify: Literal["left", "right"] = "left" if index < cells.text_columns else "right"
        rich.add_column(head, justify=justify, overflow="fold", width=column_width - 3 if narrow else None)
    for row in cells.rows:
        rich.add_row(*row)
    return rich


def markdown(table: Table) -> str:
    """The three tables as Markdown, with their conditions."""
    return "\n".join(as_markdown(cells) for cells in (summary(table), by_family(table), by_language(table)))


def as_markdown(cells: Cells) -> str:
    """A heading, the note, what must be told besides as a list, and the table."""
    rule = ["---" if index < cells.text_columns else "---:" for index in range(len(cells.heads))]
    rows = [[markdown_cell(cell) for cell in row] for row in (cells.heads, *cells.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in (rows[0], rule, *rows[1:])]
    note = [markdown_text(cells.note), ""] if cells.note else []
    items = [*(f"- {markdown_text(line)}" for line in cells.lines), ""] if cells.lines else []
    return "\n".join([f"### {markdown_text(cells.title)}", "", *note, *items, *lines, ""])
