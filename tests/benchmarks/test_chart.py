"""The throughput chart: every number is there, the line stands at one, and no colour is needed."""

import json
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import chart

SVG = "{http://www.w3.org/2000/svg}"


def variant(group: str, ours: bool, median: float) -> dict[str, Any]:
    speed = {"median": median, "low": median - 10, "high": median + 20}
    return {"group": group, "ours": ours, "precision": "float32", "tokens_per_second": speed}


RESULT: dict[str, Any] = {
    "backbone": {"id": "some <backbone>"},
    "device": "cpu",
    "machine": {"gpu": None, "processor": "Some CPU", "torch_threads": 2},
    "results": {
        "32 sentences a step": {
            "variants": {
                "ours_none": variant("none", True, 3_000.0),
                "peer_none_default": variant("none", False, 500.0),
                "peer_none_grouped": variant("none", False, 1_500.0),
                "ours_full": variant("full", True, 1_200.0),
                "peer_full": {"group": "full", "ours": False, "precision": "float32", "failure": "out of memory"},
            }
        }
    },
}


@pytest.fixture
def drawn() -> ElementTree.Element:
    return ElementTree.fromstring(chart.chart(RESULT))


def test_speeds_are_relative_to_the_fastest_peer() -> None:
    """3000 and 500 by 1500; full has no peer that fitted."""
    assert chart.relative_speeds(RESULT["results"]["32 sentences a step"]["variants"]) == {
        "ours_none": 2.0,
        "peer_none_default": pytest.approx(1 / 3),
        "peer_none_grouped": 1.0,
        "ours_full": None,
    }


def test_chart_contains_each_number(drawn: ElementTree.Element) -> None:
    texts = [text.text for text in drawn.iter(f"{SVG}text")]
    expected = [
        "some <backbone> on Some CPU, 2 threads",
        "32 sentences a step",
        "1.0 ×",
        *RESULT["results"]["32 sentences a step"]["variants"],
        "3,000 (2,990–3,020), 2.00 ×",
        "500 (490–520), 0.33 ×",
        "1,500 (1,490–1,520), 1.00 ×",
        "1,200 (1,190–1,220)",
        "out of memory",
    ]
    assert set(expected) <= set(texts)


def test_lengths_and_the_line_at_one(drawn: ElementTree.Element) -> None:
    """The longest bar fills the place; the line is where the fastest peer ends."""
    bars = [bar for bar in drawn.iter(f"{SVG}rect") if bar.get("x")]
    assert [float(bar.get("width", 0)) for bar in bars] == [380.0, pytest.approx(63.3), 190.0, 0.0]
    (line,) = drawn.iter(f"{SVG}line")
    assert float(line.get("x1", 0)) == float(bars[2].get("x", 0)) + 190.0


def test_ours_are_filled_and_peers_outlined_on_white(drawn: ElementTree.Element) -> None:
    page, *bars = drawn.iter(f"{SVG}rect")
    assert page.get("fill") == "#ffffff"
    assert [bar.get("fill") != "#ffffff" for bar in bars] == [True, False, False, True]
    assert {bar.get("stroke") for bar in bars} == {"#1a1a1a"}


def test_nothing_lies_over_anything_else(drawn: ElementTree.Element) -> None:
    """Rows are as far apart as letters are high, and the page holds the last."""
    labels = [label for label in drawn.iter(f"{SVG}text") if label.get("text-anchor") == "end"]
    heights = [float(label.get("y", 0)) for label in labels]
    assert all(after - before >= 12 for before, after in pairwise(heights))
    assert heights[-1] < float(drawn.get("height", 0))


def test_drawn_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "speed.json"
    path.write_text(json.dumps(RESULT), encoding="utf-8")
    assert chart.main([str(path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'speed.svg'}\n"
    assert (tmp_path / "speed.svg").read_text(encoding="utf-8") == chart.chart(RESULT)
    assert chart.main([]) == 2
