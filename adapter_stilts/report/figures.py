"""The figures of a report: contrasts with their intervals, languages by family and script, cost against score.

Each is drawn from the rows of its CSV (`adapter_stilts.report.figure_rows`), and can be read without colour: kinds are
told by shape and filling, signs by signs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from adapter_stilts.report.svg import (
    FIRST,
    INK,
    PALE,
    RULE,
    SECOND,
    SOFT,
    WIDTH,
    Axis,
    box,
    figure,
    line,
    mark,
    short,
    signed,
    text,
)

Rows = Sequence[Mapping[str, Any]]
# Kinds of intermediates: shape and colour tell knowledge, filling tells granularity.
KINDS = {
    ("syntactic", "token"): ("circle", FIRST, True),
    ("syntactic", "sentence"): ("circle", FIRST, False),
    ("semantic", "token"): ("triangle", SECOND, True),
    ("semantic", "sentence"): ("triangle", SECOND, False),
}
SHAPES = {
    "bottleneck": "circle",
    "full": "square",
    "lora": "triangle",
    "dora": "down",
    "ia3": "diamond",
    "head": "cross",
}
LETTERS = {"none": "n", "stack": "s", "fuse": "f", "continue": "c", "merge": "m", "bake": "b"}
_ROW, _TOP = 46, 8


def forest(title: str, rows: Rows) -> str:
    """Contrasts of one method and composition, one below the other: estimate, 95% t interval, and in grey the true
    differences that the design would have missed more often than once in five times."""
    drawn = [row for row in rows if row["low"] is not None]
    ends = [row[key] for row in drawn for key in ("low", "high", "smallest_difference")]
    alone = [row["estimate"] for row in rows if row["low"] is None and row["estimate"] is not None]
    axis = Axis([*ends, *(-row["smallest_difference"] for row in drawn), *alone], 8, WIDTH - 8, zero=True)
    bottom = _TOP + _ROW * len(rows)
    body = [line(axis(tick), _TOP, axis(tick), bottom, INK if tick == 0 else PALE) for tick in axis.ticks()]
    for index, row in enumerate(rows):
        body += _contrast(row, axis, _TOP + _ROW * index)
    body += [text(axis(tick), bottom + 14, label, "middle", 11, SOFT) for tick, label in axis.labels()]
    body.append(text(WIDTH / 2, bottom + 30, "points", "middle", 11, SOFT))
    return figure(title, "; ".join(_description(row) for row in rows), bottom + 36, body)


def _contrast(row: Mapping[str, Any], axis: Axis, top: float) -> list[str]:
    label = f"{row['contrast']}, {row['target'] or 'all targets'}"
    backing = box(0, top + 2, WIDTH, 18, "#ffffff")
    y = top + 32
    if row["low"] is None:
        estimate = "not estimated" if row["estimate"] is None else signed(row["estimate"])
        parts = [backing, text(8, top + 16, label), text(WIDTH - 8, top + 16, estimate, "end", 12, SOFT)]
        if row["estimate"] is not None:
            # On a line of its own, since names of such contrasts are long, and where the mark is not.
            x, side = (8, "start") if axis(row["estimate"]) > WIDTH / 2 else (WIDTH - 8, "end")
            parts.append(text(x, y + 4, "no interval", side, 11, SOFT))
            parts.append(mark("square", axis(row["estimate"]), y, 5, INK))
        return parts
    numbers = f"{signed(row['estimate'])} [{signed(row['low'])}, {signed(row['high'])}]"
    smallest = row["smallest_difference"]
    return [
        box(axis(-smallest), y - 7, axis(smallest) - axis(-smallest), 14),
        line(axis(0), y - 9, axis(0), y + 9, INK),
        backing,
        text(8, top + 16, label),
        text(WIDTH - 8, top + 16, numbers, "end"),
        line(axis(row["low"]), y, axis(row["high"]), y, INK, 2),
        *(line(axis(row[end]), y - 5, axis(row[end]), y + 5, INK, 2) for end in ("low", "high")),
        mark("square", axis(row["estimate"]), y, 5, INK),
    ]


def _description(row: Mapping[str, Any]) -> str:
    name = f"{row['contrast']}, {row['target'] or 'all targets'}"
    if row["low"] is None:
        return f"{name}: no interval"
    return (
        f"{name}: {signed(row['estimate'])} points, {signed(row['low'])} to {signed(row['high'])}, "
        f"smallest difference {row['smallest_difference']:.1f}"
    )


def languages(title: str, rows: Rows) -> str:
    """Mean difference to no intermediate by kind of intermediate, a line a language, families together."""
    axis = Axis([row["delta"] for row in rows], 112, WIDTH - 76, zero=True)
    marks: list[str] = []
    y = 24.0
    ordered = sorted(rows, key=lambda row: (row["family"], row["script"], row["name"]))
    for family, members in groupby(ordered, key=lambda row: row["family"]):
        marks.append(text(0, y, family, size=12, weight="600"))
        y += 17
        for (code, name, script), kinds in groupby(
            members, key=lambda row: (row["language"], row["name"], row["script"])
        ):
            marks += _language(code, name, script, list(kinds), axis, y)
            y += 17
        y += 5
    grid = [line(axis(tick), 16, axis(tick), y - 8, INK if tick == 0 else PALE) for tick in axis.ticks(4)]
    ends = [
        text(axis(tick), height, label, "middle", 11, SOFT) for tick, label in axis.labels(4) for height in (11, y + 6)
    ]
    heads = [text(WIDTH, 11, "script", "end", 11, SOFT)]
    description = "; ".join(
        f"{row['name']}, {row['knowledge']} {row['granularity']} tasks: {signed(row['delta'])}" for row in ordered
    )
    return figure(title, description, y + 12, [*grid, *heads, *ends, *marks])


def _language(code: str, name: str, script: str, kinds: Rows, axis: Axis, y: float) -> list[str]:
    parts = [
        line(112, y - 4, WIDTH - 76, y - 4, PALE, 1, "1 3"),
        text(6, y, f"{code} {name}", size=11),
        text(WIDTH, y, script, "end", 10, SOFT),
    ]
    for row in kinds:
        shape, colour, filled = KINDS[row["knowledge"], row["granularity"]]
        about = f"{name}: {signed(row['delta'])} over {row['knowledge']} {row['granularity']} tasks"
        parts.append(mark(shape, axis(row["delta"]), y - 4, 3.6, colour, filled, about))
    return parts


def cost(title: str, rows: Rows, key: str, label: str) -> str:
    """Score against what was trained (`trainable_parameters`) or how long it took (`seconds`), both by tens."""
    room = max((_aside(rows, row, key) for row in rows), default=0.0)
    across = Axis([row[key] for row in rows], 40 + room, WIDTH - 12 - room, log=True)
    up = Axis([row["score"] for row in rows], 226, 12)
    body = []
    for tick in up.ticks():
        body += [line(40, up(tick), WIDTH - 12, up(tick), PALE), text(34, up(tick) + 4, f"{tick:g}", "end", 11, SOFT)]
    for tick in across.ticks():
        body += [
            line(across(tick), 226, across(tick), 231, RULE),
            text(across(tick), 244, short(tick), "middle", 11, SOFT),
        ]
    body += [line(40, 226, WIDTH - 12, 226, SOFT), text((WIDTH + 28) / 2, 262, label, "middle", 11, SOFT)]
    for row in rows:
        x, y = across(max(row[key], 1e-9)) + _aside(rows, row, key), up(row["score"])
        colour = SECOND if row["method"] == "full" else FIRST
        body.append(mark(SHAPES.get(row["method"], "circle"), x, y, 7, colour, False, _costs(row, key)))
        body.append(text(x, y + 3.5, letter(row["composition"]), "middle", 10))
    return figure(title, "; ".join(_costs(row, key) for row in rows), 268, body)


def _aside(rows: Rows, row: Mapping[str, Any], key: str) -> float:
    """Compositions of a method train about the same number of parameters: they stand a little beside each other."""
    if key != "trainable_parameters":
        return 0.0
    compositions = {other["composition"] for other in rows if other["method"] == row["method"]}
    order = [composition for composition in LETTERS if composition in compositions]
    return 13.0 * (order.index(row["composition"]) - (len(order) - 1) / 2) if row["composition"] in order else 0.0


def letter(composition: str) -> str:
    """The letter that stands for a composition, whatever its variant."""
    return LETTERS.get(composition.partition(" ")[0], "?")


def _costs(row: Mapping[str, Any], key: str) -> str:
    return f"{row['row']}: {row['score']:.1f} with {short(row[key])} {key.replace('_', ' ')}"


def key_of(shape: str, colour: str, filled: bool) -> str:
    """A mark alone, for a legend."""
    drawn = mark(shape, 8, 8, 5, colour, filled)
    return f'<svg aria-hidden="true" viewBox="0 0 16 16" width="16" height="16">{drawn}</svg>'


def kinds_in(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The kinds that a figure of languages has, in their order."""
    present = {(row["knowledge"], row["granularity"]) for row in rows}
    return [kind for kind in KINDS if kind in present]
