"""A report as files in a folder: the page, and beside it its data, tables and figures."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapter_stilts.analysis.render import as_markdown
from adapter_stilts.files import atomic_write_text
from adapter_stilts.report.content import Report
from adapter_stilts.report.figure_rows import csv_files
from adapter_stilts.report.page import page
from adapter_stilts.report.tables import all_tables, as_latex

PAGE = "index.html"


def write_report(report: Report, out: Path, refresh: int | None = None) -> Path:
    """Write index.html with data/*.csv, data/report.json, tables/*.md and tables/*.tex beside it, each file whole; the
    page comes last. Returns its path."""
    files = {f"data/{name}": text for name, text in csv_files(report).items()}
    files["data/report.json"] = json.dumps(as_json(report), ensure_ascii=False, indent=2) + "\n"
    for name, cells in all_tables(report).items():
        files[f"tables/{name}.md"] = as_markdown(cells)
        files[f"tables/{name}.tex"] = as_latex(cells, name)
    for name, text in files.items():
        atomic_write_text(out / name, text)
    atomic_write_text(out / PAGE, page(report, files, refresh))
    return out / PAGE


def as_json(report: Report) -> dict[str, Any]:
    """Answers, counts, statistics and tables as plain data."""
    return {
        "study": report.study.name,
        "question": report.study.question,
        "written": report.written,
        "done": report.done,
        "planned": report.planned,
        "answers": [str(answer) for answer in report.answers],
        "left_out": {observed.reference: {"runs": observed.runs, **observed.left_out} for observed in report.observed},
        "fits": [asdict(fit) for fit in report.fits],
        "tables": [asdict(table) for table in report.tables],
        "intermediates": [asdict(intermediate) for intermediate in report.below],
        "missing": [asdict(run) for run in report.missing],
    }
