"""A study's report as one HTML page that needs nothing beside it: style, figures and tables are in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

from adapter_stilts.analysis.render import warnings
from adapter_stilts.report import figures
from adapter_stilts.report.cautions import cautions
from adapter_stilts.report.content import Report
from adapter_stilts.report.figure_rows import contrast_rows, cost_rows, language_rows
from adapter_stilts.report.style import STYLE
from adapter_stilts.report.svg import FIRST, SECOND, signed
from adapter_stilts.report.tables import HEATMAP_NOTE, all_tables, as_html, heatmap_grid, stated

# From how many points on a cell of the heatmap is tinted more strongly.
STEPS = (0.25, 0.5, 1.0, 2.0)
SHOWN = 12


def page(report: Report, files: Iterable[str] = (), refresh: int | None = None) -> str:
    """The page; `files` are linked as lying beside it; `refresh` is the seconds after which a browser reads it anew."""
    study = report.study
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    title = escape(study.name)
    parts = [
        f"<header><h1>{title}</h1>{_paragraph(study.question, 'question')}{_progress(report, refresh)}</header><main>",
        *_answer(report),
        *_limits(report),
        *_missing(report),
        *_heatmap(report),
        *_forests(report),
        *_languages(report),
        *_cost(report),
        *_tables(report),
        *_files(files),
        "</main>",
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">{again}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}: report</title><style>{STYLE}</style></head>\n<body>" + "\n".join(parts) + "</body></html>\n"
    )


def _paragraph(text: str, kind: str = "") -> str:
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>" if text else ""


def _section(name: str, title: str, parts: Iterable[str]) -> list[str]:
    content = list(parts)
    heading = f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>'
    return [heading, *content, "</section>"] if content else []


def _progress(report: Report, refresh: int | None) -> str:
    if report.whole:
        return _paragraph(f"All {report.planned} target runs are in this report. Written {report.written}.", "progress")
    again = f"; read anew every {refresh} s" if refresh else ""
    text = f"{report.done} of {report.planned} target runs are in this report: preliminary{again}."
    return (
        f'{_paragraph(f"{text} Written {report.written}.", "progress")}<progress max="{report.planned}" '
        f'value="{report.done}" aria-label="target runs in this report">{report.done} of {report.planned}</progress>'
    )


def _answer(report: Report) -> list[str]:
    if not report.answers:
        return _section("answer", "Answer", [_paragraph("No run that could answer is finished yet.", "answer")])
    early = "" if report.whole else "So far: "
    first = report.answers[0]
    parts = [_paragraph(early + first.sentence, "answer"), _paragraph(" ".join(first.limits))]
    if more := report.answers[1:]:
        parts.append("<p>The same of the other methods and compositions:</p>" + _list([str(answer) for answer in more]))
    return _section("answer", "Answer", parts)


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _limits(report: Report) -> list[str]:
    limits = ["Under three seeds: no ranking follows."] if any(len(table.seeds) < 3 for table in report.tables) else []
    limits += [line if len(report.tables) == 1 else f"{name}: {line}" for name, line in _table_warnings(report)]
    limits += cautions(report)
    by_limit: dict[str, list[str]] = {}
    for fit in report.fits:
        for limit in fit.effects.limits if fit.effects else (fit.reason,):
            by_limit.setdefault(limit, []).append(f"{fit.method} {fit.composition} against {fit.reference}")
    count = len(report.fits)
    limits += [limit if len(fits) == count else f"{limit} ({'; '.join(fits)})" for limit, fits in by_limit.items()]
    parts = [as_html(stated(report))] if report.tables else []
    return _section(
        "limits", "What limits it", [*parts, *([_list([_sentence(limit) for limit in limits])] if limits else [])]
    )


def _table_warnings(report: Report) -> list[tuple[str, str]]:
    """What must be told of each table besides, with its name."""
    return [(name, line) for name, table in report.named_tables.items() for line in warnings(table)]


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _missing(report: Report) -> list[str]:
    if not report.missing:
        return []
    named = [f"{run.cell}: {run.state}{f' ({run.reason})' if run.reason else ''}" for run in report.missing]
    # Failed ones first: they will not come by themselves.
    order = sorted(range(len(named)), key=lambda index: report.missing[index].state != "failed")
    shown, rest = [named[index] for index in order[:SHOWN]], [named[index] for index in order[SHOWN:]]
    parts = [_list(shown)]
    if rest:
        parts.append(f"<details><summary>{len(rest)} more</summary>{_list(rest)}</details>")
    return _section("missing", f"Failed or missing runs: {len(named)}", parts)


def _heatmap(report: Report) -> list[str]:
    columns, values = heatmap_grid(report)
    if not values:
        return []
    targets = "".join(
        f'<th scope="colgroup" colspan="{len(list(group))}">{escape(target)}</th>'
        for target, group in groupby(columns, key=lambda column: column[0])
    )
    hows = "".join(f'<th scope="col">{escape(how)}</th>' for _, how in columns)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}<small>{escape(knowledge)}, {escape(granularity)}</small></th>'
        + "".join(_tinted(differences.get(column)) for column in columns)
        + "</tr>"
        for (name, knowledge, granularity), differences in values.items()
    )
    legend = "".join(f'<span class="{step}">{text}</span>' for step, text in _legend())
    table = (
        '<div class="wide" tabindex="0" role="region" aria-label="Heatmap"><table class="heat">'
        "<caption>Difference to no intermediate task, in points</caption><thead><tr>"
        f'<th rowspan="2" scope="col">intermediate</th>{targets}</tr>'
        f"<tr>{hows}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return _section(
        "heatmap", "Intermediate by target", [_paragraph(HEATMAP_NOTE), table, f"<p class=key>{legend}</p>"]
    )


def _tinted(value: float | None) -> str:
    if value is None:
        return '<td class="none">not run</td>'
    return f'<td class="{tint(value)}">{signed(value)}</td>'


def tint(value: float) -> str:
    """The class of a difference: its sign and how many of the steps it reaches; losses are hatched as well."""
    step = sum(abs(value) >= threshold for threshold in STEPS)
    return f"{'gain' if value > 0 else 'loss'}{step}" if step else "even"


def _legend() -> list[tuple[str, str]]:
    signs = (("loss", "−"), ("gain", "+"))
    (loss, minus), (gain, plus) = signs
    losses = [(f"{loss}{step}", f"{minus}{STEPS[step - 1]:g} or less") for step in range(len(STEPS), 0, -1)]
    gains = [(f"{gain}{step}", f"{plus}{STEPS[step - 1]:g} or more") for step in range(1, len(STEPS) + 1)]
    return [*losses, ("even", f"within ±{STEPS[0]:g}"), *gains]


def _forests(report: Report) -> list[str]:
    rows = contrast_rows(report)
    panels = []
    for (method, composition, against), contrasts in groupby(
        rows, key=lambda row: (row["method"], row["composition"], row["against"])
    ):
        name = f"{method} {composition}, against {against}"
        panels.append(_panel(name, figures.forest(f"Contrasts of {name}", list(contrasts))))
    note = (
        "Knowledge: syntactic minus semantic; granularity: token minus sentence. The square is the estimate, the line "
        "its 95% t interval. The grey bar holds the true differences that this design would have missed more often "
        "than once in five times. p-values, and what they are corrected over, are in the table of contrasts."
    )
    return _section(
        "contrasts", "Contrasts between kinds of task", [_paragraph(note), _panels(panels)] if panels else []
    )


def _panel(name: str, drawing: str) -> str:
    return f"<figure><figcaption>{escape(name)}</figcaption>{drawing}</figure>"


def _panels(panels: Sequence[str]) -> str:
    return f'<div class="panels">{"".join(panels)}</div>'


def _languages(report: Report) -> list[str]:
    rows = language_rows(report)
    panels = {
        key: _panel(
            f"{key[2]}: {key[0]} {key[1]}",
            figures.languages(f"Languages of {key[2]}, {key[0]} {key[1]}", [row for row in rows if _of(row) == key]),
        )
        for key in dict.fromkeys(map(_of, rows))
    }
    if not panels:
        return []
    first = report.primary
    shown = [panel for key, panel in panels.items() if first and key[:2] == (first.method, first.composition)]
    rest = [panel for panel in panels.values() if panel not in shown]
    keys = "".join(
        f"<span>{figures.key_of(*figures.KINDS[kind])} {kind[0]}, {kind[1]}</span>" for kind in figures.kinds_in(rows)
    )
    note = (
        "Difference to no intermediate task in points, by family and script: a mark is the mean over the intermediates "
        "of a kind and their seeds. Single languages have few test sentences."
    )
    parts = [_paragraph(note), f"<p class=key>{keys}</p>", _panels(shown)]
    if rest:
        parts.append(f"<details><summary>Other methods and compositions</summary>{_panels(rest)}</details>")
    return _section("languages", "Languages", parts)


def _of(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["method"], row["composition"], row["target"]


def _cost(report: Report) -> list[str]:
    rows = cost_rows(report)
    panels = []
    for target in dict.fromkeys(row["target"] for row in rows):
        target_rows = [row for row in rows if row["target"] == target]
        for key, label in (("trainable_parameters", "trained parameters"), ("seconds", "seconds of training")):
            drawing = figures.cost(f"{target}: score by {label}", target_rows, key, label)
            panels.append(_panel(f"{target}, mean {target_rows[0]['mean']} ({target_rows[0]['metric']})", drawing))
    methods = dict.fromkeys(row["method"] for row in rows)
    keys = [_method_key(method) for method in methods]
    compositions = dict.fromkeys(row["composition"] for row in rows)
    keys += [f"<span><b>{figures.letter(composition)}</b> {composition}</span>" for composition in compositions]
    note = (
        "What a row's own run trained, and how long that took (not its intermediates), on a scale by tens, against its "
        "mean score over the languages that were not trained on. With parameters, the compositions of a method stand a "
        "little beside each other to be told apart. Controls are left out."
    )
    parts = [_paragraph(note), f"<p class=key>{''.join(keys)}</p>", _panels(panels)]
    return _section("cost", "Cost against score", parts if panels else [])


def _method_key(method: str) -> str:
    shape = figures.SHAPES.get(method, "circle")
    return f"<span>{figures.key_of(shape, SECOND if method == 'full' else FIRST, False)} {escape(method)}</span>"


def _tables(report: Report) -> list[str]:
    parts = []
    for name, cells in all_tables(report).items():
        if name in ("heatmap", "stated"):
            continue
        opened = (
            " open"
            if name in ("contrasts", "references", "intermediates", "left_out") or name.startswith("summary")
            else ""
        )
        parts.append(f"<details{opened}><summary>{escape(cells.title)}</summary>{as_html(cells)}</details>")
    return _section("tables", "Tables", parts)


def _files(files: Iterable[str]) -> list[str]:
    links = "".join(f'<li><a href="{escape(name)}">{escape(name)}</a></li>' for name in files)
    return _section("files", "Data and tables as files", [f'<ul class="files">{links}</ul>'] if links else [])
