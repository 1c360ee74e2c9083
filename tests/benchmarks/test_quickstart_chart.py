"""The quickstart's picture draws every number of the report where it belongs."""

import re
from itertools import pairwise
from pathlib import Path

import pandas
import pytest

from benchmarks.quickstart_chart import MARKS, chart, main

ROWS = [
    ("bottleneck", None, "de", "German", 80.0, None),
    ("bottleneck", None, "sw", "Swahili", 60.0, None),
    ("bottleneck", "syntactic", "de", "German", 81.5, 1.5),
    ("bottleneck", "syntactic", "sw", "Swahili", 57.0, -3.0),
    ("full", None, "de", "German", 70.0, None),
    ("full", None, "sw", "Swahili", 50.0, None),
]
COLUMNS = ["method", "knowledge", "language", "name", "score", "delta_none"]


def test_marks_stand_at_their_values() -> None:
    scores = pandas.DataFrame(ROWS, columns=COLUMNS)
    svg = chart(scores, {"de": 20.0, "sw": 30.0}, "udpos")
    body = svg.partition("full STILTs over the semantic task</text>")[2]
    marks = re.findall(r'<(?:circle cx="([0-9.]+)"|polygon points="([^"]+)")[^>]*><title>([^<]+)</title>', body)
    x = {
        about: float(cx) if cx else sum(float(point.split(",")[0]) for point in points.split()) / len(points.split())
        for cx, points, about in marks
    }
    none, full = MARKS["bottleneck", "none"][2], MARKS["full", "none"][2]
    rising = [("Swahili", full, 50.0), ("Swahili", none, 60.0), ("German", full, 70.0), ("German", none, 80.0)]
    left = [x[f"{name}, {row}: {value}"] for name, row, value in rising]
    steps = [after - before for before, after in pairwise(left)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)  # ten points apart, all of them
    bars = [float(start) for start in re.findall(r'<line x1="([0-9.]+)"[^>]*stroke-width="3"/>', body)]
    assert left[0] - bars[1] == pytest.approx(2 * steps[0], abs=0.2)  # 50 and 30
    assert left[0] - bars[0] == pytest.approx(3 * steps[0], abs=0.2)
    stacked = MARKS["bottleneck", "syntactic"][2]
    zero = x[f"German, {stacked}: 1.5"] - (x[f"German, {stacked}: 1.5"] - x[f"Swahili, {stacked}: -3.0"]) / 3
    assert f'x1="{zero:.1f}"' in svg  # where the line of no difference is


def test_it_reads_a_reports_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    scores = pandas.DataFrame(ROWS, columns=COLUMNS).assign(target="tags", seed=0)
    scores["zero_shot"] = scores.language != "de"
    scores.to_csv(tmp_path / "data/scores.csv", index=False)
    (tmp_path / "data/majority.csv").write_text("target,language,metric,majority\ntags,de,f1,20\ntags,sw,f1,30\n")
    main(tmp_path, tmp_path / "out.svg")
    svg = (tmp_path / "out.svg").read_text(encoding="utf-8")
    assert "tags: f1 in percent, trained in German alone, by language" in svg
    assert "Swahili, adapter, no intermediate: 60.0" in svg
