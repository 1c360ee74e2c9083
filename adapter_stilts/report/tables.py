"""The tables of a report, each as HTML, Markdown and LaTeX from the same cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from adapter_stilts.analysis.majority import numbered_rows, scores_by_language
from adapter_stilts.analysis.render import Cells, by_family, by_language, interval_words, summary
from adapter_stilts.plain_text import printable
from adapter_stilts.report.content import Report
from adapter_stilts.report.figure_rows import contrast_rows, heatmap_rows, left_out_rows
from adapter_stilts.report.svg import short, signed

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "<": r"$<$",
    ">": r"$>$",
}


def stated(report: Report) -> Cells:
    """What every table must say of itself, by target."""
    heads = ["target", "metric", "labels on", "missing languages", "trained on", "training N", "test N"]
    heads += ["languages", "seeds"]
    rows = [
        [
            name,
            f"{table.metric}, {table.split}",
            table.labelling or "-",
            ", ".join(table.missing) or "none",
            ", ".join(table.trained_languages),
            f"{table.train_examples:,}",
            "all sentences" if table.test_examples is None else f"at most {table.test_examples} a language",
            str(len(table.languages)),
            ", ".join(map(str, table.seeds)),
        ]
        for name, table in report.named_tables.items()
    ]
    backbones = ", ".join(dict.fromkeys(table.backbone for table in report.tables))
    precisions = sorted({precision for table in report.tables for precision in table.precisions})
    note = f"Backbone {backbones}. Scores in percent, of predictions in {' and '.join(precisions)}."
    return Cells("What was measured", note, heads, rows, text_columns=5)


def contrasts(report: Report) -> Cells:
    """Every contrast with its interval, p, and what p is corrected over."""
    heads = ["method, composition", "against", "contrast", "target", "points [95% t interval]", "df", "p"]
    heads += ["p (Holm)", "corrected over", "smallest seen", "bootstrap"]
    rows = [
        [
            f"{contrast['method']} {contrast['composition']}",
            contrast["against"],
            contrast["contrast"],
            contrast["target"] or "all",
            _interval(contrast["estimate"], contrast["low"], contrast["high"]),
            _number(contrast["df"], ".1f"),
            _number(contrast["p"], ".2g"),
            _number(contrast["holm_p"], ".2g"),
            str(contrast["family"]) if contrast["holm_p"] is not None else "-",
            _number(contrast["smallest_difference"], ".1f"),
            "-"
            if contrast["bootstrap_low"] is None
            else f"[{signed(contrast['bootstrap_low'])}, {signed(contrast['bootstrap_high'])}]",
        ]
        for contrast in contrast_rows(report)
    ]
    return Cells("Contrasts between kinds of intermediate tasks", CONTRAST_NOTE, heads, rows, text_columns=4)


CONTRAST_NOTE = (
    "Knowledge is syntactic minus semantic, granularity token minus sentence, each averaged over the other; the "
    "interaction is the difference of differences. Points of the mean over zero-shot languages. Intervals and p are "
    "of a mixed-effects model with intermediate, seed and language as random, with t and few degrees of freedom. "
    "Holm's correction is over the contrasts of one method and composition against one reference (their number stands"
    " beside it), not over methods, compositions or references. A reference that all intermediates share cancels in "
    "contrasts between them: such ones stand here once, against none. Smallest seen: the true difference that an "
    "uncorrected test at .05 on this design finds in four of five studies. The bootstrap resamples intermediates, "
    "seeds and languages; with two intermediates of a kind it is too narrow, and stands there as a second opinion."
)


def heatmap(report: Report) -> Cells:
    """Intermediates down, targets with method and composition across: difference to no intermediate."""
    columns, values = heatmap_grid(report)
    heads = ["intermediate", "knowledge", "granularity", *(f"{target}: {how}" for target, how in columns)]
    rows = [
        [*name, *("-" if differences.get(column) is None else signed(differences[column]) for column in columns)]
        for name, differences in values.items()
    ]
    return Cells("Difference to no intermediate task", HEATMAP_NOTE, heads, rows, text_columns=3)


def references(report: Report) -> Cells:
    """Every row over one intermediate against each of its references."""
    heads = ["target", "method, composition", "intermediate", "vs none", "vs full STILTs", "vs untrained"]
    rows = [
        [
            row["target"],
            f"{row['method']} {row['composition']}",
            row["intermediate"] + (f" ({row['control']})" if row["control"] else ""),
            _interval(row["difference"], row["low"], row["high"]),
            _interval(row["difference_to_full"], row["low_to_full"], row["high_to_full"]),
            _interval(row["difference_to_random"], None, None),
        ]
        for row in heatmap_rows(report)
    ]
    asked = any(table.sentence_intervals for table in report.tables)
    some = any(row["interval_over"] or row["interval_to_full_over"] for row in heatmap_rows(report))
    note = f"Points of the mean over zero-shot languages, {interval_words(asked, some)}. {REFERENCES_NOTE}"
    return Cells("Rows over one intermediate against each reference", note, heads, rows, text_columns=3)


REFERENCES_NOTE = (
    "An untrained intermediate has the same shape and no knowledge: what a row gains over it is not capacity."
)
HEATMAP_NOTE = (
    "Points of the mean over zero-shot languages against the same method without an intermediate task, over the seeds "
    "that both have. What noise alone can do is in the tables and contrasts, not here."
)


def heatmap_grid(
    report: Report,
) -> tuple[list[tuple[str, str]], dict[tuple[str, str, str], dict[tuple[str, str], float]]]:
    """Columns (target, method and composition), and by intermediate (name, knowledge, granularity) its differences;
    kinds stand together, controls come last."""
    columns: dict[tuple[str, str], None] = {}
    values: dict[tuple[str, str, str], dict[tuple[str, str], float]] = {}
    for row in sorted(heatmap_rows(report), key=_kind):
        column = (row["target"], f"{row['method']} {row['composition']}")
        control = f" ({row['control']})" if row["control"] else ""
        name = (row["intermediate"] + control, row["knowledge"], row["granularity"])
        columns[column] = None
        values.setdefault(name, {})[column] = row["difference"]
    targets = list(report.named_tables)
    return sorted(columns, key=lambda column: targets.index(column[0])), values


def _kind(row: dict) -> tuple:
    """Controls last; syntactic before semantic, token before sentence."""
    return row["control"] is not None, row["knowledge"] != "syntactic", row["granularity"] != "token"


def intermediates(report: Report) -> Cells:
    """Each intermediate's own development score."""
    heads = ["intermediate", "control", "method", "knowledge", "granularity", "metric", "development"]
    heads += ["lowest", "highest", "majority class", "runs", "training pieces"]
    rows = [
        [
            intermediate.task,
            intermediate.control or "-",
            intermediate.method,
            intermediate.knowledge,
            intermediate.granularity,
            intermediate.metric or "-",
            _number(intermediate.development, ".1f"),
            _number(intermediate.lowest, ".1f"),
            _number(intermediate.highest, ".1f"),
            _number(intermediate.majority, ".1f"),
            str(intermediate.runs),
            "-" if intermediate.pieces is None else short(intermediate.pieces),
        ]
        for intermediate in report.below
    ]
    note = (
        "One that learnt nothing teaches nothing. In percent, of the intermediate task itself; tasks differ in scale."
    )
    return Cells("The intermediate tasks' own development scores", note, heads, rows, text_columns=6)


def left_out(report: Report) -> Cells:
    """How many runs the statistics stand on, and how many they leave out."""
    rows = [[observed.reference, "in the statistics", str(observed.runs)] for observed in report.observed]
    rows += [[str(row[key]) for key in ("against", "reason", "runs")] for row in left_out_rows(report)]
    return Cells("Runs in and out of the statistics", "", ["against", "", "runs"], sorted(rows, key=_order), 2)


def _order(row: Sequence[str]) -> tuple[str, bool, str]:
    return row[0], row[1] != "in the statistics", row[1]


def all_tables(report: Report) -> dict[str, Cells]:
    """Name of a file without its ending -> the table."""
    tables = {"stated": stated(report), "contrasts": contrasts(report), "heatmap": heatmap(report)}
    tables["references"] = references(report)
    for name, table in report.named_tables.items():
        tables |= {f"summary-{name}": summary(table), f"families-{name}": by_family(table)}
        tables[f"languages-{name}"] = by_language(table)
        tables |= {f"rows-{name}": numbered_rows(table), f"scores-{name}": scores_by_language(table)}
    tables |= {"intermediates": intermediates(report), "left_out": left_out(report)}
    return {_file_name(name): cells for name, cells in tables.items() if cells.rows}


def _file_name(name: str) -> str:
    return re.sub("[^A-Za-z0-9_.-]", "_", name)


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return signed(value) + ("" if low is None or high is None else f" [{signed(low)}, {signed(high)}]")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def as_latex(cells: Cells, label: str) -> str:
    """A table in LaTeX with the rules of booktabs; the note is part of the caption."""
    columns = "".join("l" if index < cells.text_columns else "r" for index in range(len(cells.heads)))
    lines = [" & ".join(map(latex_text, row)) + r" \\" for row in (cells.heads, *cells.rows)]
    caption = ". ".join(text.rstrip(".") for text in (cells.title, cells.note, *cells.lines) if text) + "."
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            "\\begin{table}",
            f"\\caption{{{latex_text(caption)}}}",
            f"\\label{{tab:{label}}}",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            lines[0],
            "\\midrule",
            *lines[1:],
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
            "",
        ]
    )


def latex_text(text: str) -> str:
    """Text with what LaTeX would read as commands made harmless."""
    return "".join(_LATEX.get(character, character) for character in printable(text, keep="\n"))


def as_html(cells: Cells) -> str:
    """A table with its caption in a separate box, which scrolls where it is too wide."""
    heads = "".join(
        f'<th scope="col"{_side(cells, index)}>{escape(head)}</th>' for index, head in enumerate(cells.heads)
    )
    rows = "".join("<tr>" + "".join(_cells(cells, row)) + "</tr>" for row in cells.rows)
    note = f"<p class=note>{escape(cells.note)}</p>" if cells.note else ""
    note += f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in cells.lines)}</ul>" if cells.lines else ""
    return (
        f'{note}<div class="wide" tabindex="0" role="region" aria-label="{escape(cells.title)}"><table>'
        f"<caption>{escape(cells.title)}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cells(cells: Cells, row: Sequence[str]) -> list[str]:
    first = f'<th scope="row">{escape(row[0])}</th>'
    return [first, *(f"<td{_side(cells, index)}>{escape(cell)}</td>" for index, cell in enumerate(row[1:], 1))]


def _side(cells: Cells, index: int) -> str:
    return "" if index < cells.text_columns else ' class="number"'
