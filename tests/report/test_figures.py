"""Figures: where their marks stand, and what tells them apart."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import pytest

from adapter_stilts.report import figures
from adapter_stilts.report.svg import FIRST, SECOND, WIDTH, Axis, short, signed

SVG = "{http://www.w3.org/2000/svg}"
CONTRAST = {
    "contrast": "knowledge",
    "target": None,
    "estimate": 1.0,
    "low": -1.0,
    "high": 3.0,
    "smallest_difference": 2.0,
}


def parts(text: str, tag: str) -> list[ET.Element]:
    return ET.fromstring(text).findall(f"{SVG}{tag}")


def test_linear_ticks_are_round_and_inside() -> None:
    assert Axis([-1.0, 2.0], 0, 100).ticks() == pytest.approx([-1, 0, 1, 2])
    assert Axis([71.9, 74.6], 0, 100).ticks(4) == pytest.approx([72, 73, 74])
    assert Axis([3.0, 5.0], 0, 100, zero=True)(0.0) == pytest.approx(0.3 / 5.6 * 100)


def test_ticks_have_as_many_decimals_as_their_step() -> None:
    assert [text for _, text in Axis([-1.0, 2.0], 0, 100).labels()] == ["−1.0", "0.0", "+1.0", "+2.0"]
    small = Axis([-0.04, 0.16], 0, 100).labels()
    assert [value for value, _ in small] == pytest.approx([-0.05, 0, 0.05, 0.1, 0.15])
    assert [text for _, text in small] == ["−0.05", "0.00", "+0.05", "+0.10", "+0.15"]
    assert [text for _, text in Axis([0.0, 0.004], 0, 100).labels()] == [
        "0.000",
        "+0.001",
        "+0.002",
        "+0.003",
        "+0.004",
    ]
    assert [text for _, text in Axis([-30.0, 40.0], 0, 100).labels()] == ["−20.0", "0.0", "+20.0", "+40.0"]


def test_log_ticks_are_powers_where_they_are_far_apart() -> None:
    assert Axis([4e5, 1.2e8], 0, 100, log=True).ticks() == pytest.approx([3e5, 1e6, 3e6, 1e7, 3e7, 1e8])
    assert Axis([110.0, 330.0], 0, 100, log=True).ticks() == pytest.approx([150, 200, 300])
    axis = Axis([1.0, 100.0], 0, 100, log=True)
    assert axis(10.0) == pytest.approx(50.0)


def test_one_value_has_an_axis() -> None:
    assert Axis([5.0], 0, 100)(5.0) == pytest.approx(50.0)
    assert Axis([], 0, 100)(1.0) == pytest.approx(50.0)


def test_numbers_in_words() -> None:
    assert [signed(value) for value in (1.25, -0.54, -0.04, 0.0)] == ["+1.2", "−0.5", "0.0", "0.0"]
    assert [short(value) for value in (454_097, 117_512_849, 35.2, 1e9)] == ["454k", "118M", "35.2", "1G"]


def test_forest_draws_estimate_interval_and_what_could_not_be_seen() -> None:
    drawn = figures.forest("one", [CONTRAST])
    axis = Axis([-1.0, 3.0, 2.0, -2.0], 8, WIDTH - 8, zero=True)
    (square,) = parts(drawn, "polygon")
    xs = [float(point.split(",")[0]) for point in (square.get("points") or "").split()]
    assert sum(xs) / 4 == pytest.approx(axis(1.0), abs=0.1)
    thick = [line for line in parts(drawn, "line") if line.get("stroke-width") == "2"]
    assert float(thick[0].get("x1", 0)) == pytest.approx(axis(-1.0), abs=0.1)
    assert float(thick[0].get("x2", 0)) == pytest.approx(axis(3.0), abs=0.1)
    grey = parts(drawn, "rect")[0]
    assert float(grey.get("x", 0)) == pytest.approx(axis(-2.0), abs=0.1)
    assert float(grey.get("width", 0)) == pytest.approx(axis(2.0) - axis(-2.0), abs=0.1)
    assert "+1.0 [−1.0, +3.0]" in drawn
    assert "knowledge, all targets: +1.0 points, −1.0 to +3.0, smallest difference 2.0" in drawn


def test_forest_of_small_differences_has_no_label_twice() -> None:
    small = {"estimate": 0.04, "low": -0.04, "high": 0.12, "smallest_difference": 0.08}
    drawn = parts(figures.forest("one", [CONTRAST | small]), "text")
    labels = [element.text for element in drawn if element.get("font-size") == "11"]
    assert labels == ["−0.05", "0.00", "+0.05", "+0.10", "points"]


def test_forest_without_an_interval_says_so() -> None:
    empty = {"low": None, "high": None, "smallest_difference": None}
    drawn = figures.forest("one", [CONTRAST | empty, CONTRAST | empty | {"estimate": None, "target": "udpos"}])
    assert ">+1.0<" in drawn
    assert ">no interval<" in drawn
    assert "not estimated" in drawn
    assert len(parts(drawn, "polygon")) == 1  # the estimate alone, of the one that has it


def test_languages_stand_by_family_and_kinds_by_shape() -> None:
    rows = [
        {"language": code, "name": name, "family": family, "script": "Latin", "knowledge": knowledge}
        | {"granularity": granularity, "delta": delta}
        for code, name, family in (("fi", "Finnish", "Uralic"), ("de", "German", "IE: Germanic"))
        for knowledge, granularity, delta in (("syntactic", "token", 1.0), ("semantic", "sentence", -1.0))
    ]
    drawn = figures.languages("two", rows)
    words = [element.text for element in parts(drawn, "text")]
    assert [word for word in words if word in ("IE: Germanic", "de German", "Uralic", "fi Finnish")] == [
        "IE: Germanic",
        "de German",
        "Uralic",
        "fi Finnish",
    ]
    assert words.count("Latin") == 2
    circles, triangles = parts(drawn, "circle"), parts(drawn, "polygon")
    axis = Axis([1.0, -1.0], 112, WIDTH - 76, zero=True)
    assert [float(circle.get("cx", 0)) for circle in circles] == pytest.approx([axis(1.0)] * 2, abs=0.1)
    assert {circle.get("fill") for circle in circles} == {FIRST}
    assert {(triangle.get("fill"), triangle.get("stroke")) for triangle in triangles} == {("#ffffff", SECOND)}


def test_cost_stands_by_tens_and_compositions_by_letter() -> None:
    rows = [
        {"row": "a", "method": "bottleneck", "composition": "none", "seconds": 10.0, "score": 70.0},
        {"row": "b", "method": "full", "composition": "continue", "seconds": 1000.0, "score": 72.0},
    ]
    drawn = figures.cost("cost", rows, "seconds", "seconds of training")
    (circle,), (square,) = parts(drawn, "circle"), parts(drawn, "polygon")
    axis = Axis([10.0, 1000.0], 40, WIDTH - 12, log=True)
    assert float(circle.get("cx", 0)) == pytest.approx(axis(10.0), abs=0.1)
    assert math.isclose(axis(100.0), (axis(10.0) + axis(1000.0)) / 2)
    assert square.get("stroke") == SECOND
    assert {"n", "c"} <= {element.text for element in parts(drawn, "text")}
    assert figures.letter("stack (layers=6-11)") == "s"
