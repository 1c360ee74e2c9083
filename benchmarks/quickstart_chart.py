"""What `adapter-stilts quickstart` found, by language, as SVG: from the data beside the page of its report.

    python -m benchmarks.quickstart_chart reports/quickstart benchmarks/results/quickstart.svg

Left the rows without an intermediate beside the majority class, right what each intermediate adds. Rows are told by
shape and filling, and adapters stand above full fine-tuning on every line.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas

from adapter_stilts.analysis.frame import load_study
from adapter_stilts.files import atomic_write_text
from adapter_stilts.report.svg import FIRST, INK, PALE, SECOND, SOFT, Axis, figure, line, mark, signed, text

WIDTH, TOP, ROW = 860, 92, 32
# Method and knowledge of what lies underneath: shape, filled, words, and how far from the middle of the line.
MARKS = {
    ("bottleneck", "none"): ("circle", False, "adapter, no intermediate", -5),
    ("bottleneck", "syntactic"): ("triangle", True, "adapter over the syntactic task", -11),
    ("bottleneck", "semantic"): ("down", False, "adapter over the semantic task", -5.5),
    ("bottleneck", "mixed"): ("diamond", False, "adapter over both, fused", 0),
    ("full", "none"): ("square", False, "full fine-tuning", 5),
    ("full", "syntactic"): ("square", True, "full STILTs over the syntactic task", 5.5),
    ("full", "semantic"): ("cross", False, "full STILTs over the semantic task", 11),
}


def chart(scores: pandas.DataFrame, majority: Mapping[str, float], title: str) -> str:
    """The SVG of one target: `scores` as `load_study` gives them, the majority class's score by language."""
    rows = scores.assign(kind=scores.knowledge.fillna("none")).to_dict("records")
    codes = list(dict.fromkeys(row["language"] for row in rows))
    level = Axis([*majority.values(), *(row["score"] for row in rows if row["kind"] == "none")], 96, 420)
    gain = Axis([row["delta_none"] for row in rows if row["kind"] != "none"], 452, WIDTH - 16, zero=True)
    bottom = TOP + ROW * len(codes)
    body = [text(8, 18, title, size=14, weight="600"), *_legend(), *_grid(level, gain, bottom)]
    for index, code in enumerate(codes):
        of_language = [row for row in rows if row["language"] == code]
        body += _language(of_language, majority[code], level, gain, TOP + ROW * (index + 0.5))
    said = "; ".join(f"{row['name']}, {_words(row)}: {row['score']:.1f}" for row in rows)
    return figure(title, said, bottom + 40, [f'<rect width="{WIDTH}" height="100%" fill="#ffffff"/>', *body], WIDTH)


def _grid(level: Axis, gain: Axis, bottom: float) -> list[str]:
    heads = (
        (258, "score; the bar is the majority class"),
        ((452 + WIDTH - 16) / 2, "points that the intermediate adds"),
    )
    parts = [text(x, bottom + 32, words, "middle", 11, SOFT) for x, words in heads]
    for axis, show in ((level, "{:g}".format), (gain, signed)):
        for tick in axis.ticks():
            parts.append(line(axis(tick), TOP - 4, axis(tick), bottom, INK if axis is gain and tick == 0 else PALE))
            parts.append(text(axis(tick), bottom + 15, show(tick), "middle", 11, SOFT))
    return parts


def _legend() -> list[str]:
    parts = []
    for number, ((method, _), (shape, filled, words, _)) in enumerate(MARKS.items()):
        full = method == "full"
        x, y = 14 + 210 * (number - 4 if full else number), 66 if full else 44
        parts += [mark(shape, x, y - 4, 5, _colour(method), filled), text(x + 11, y, words, size=11)]
    return parts


def _language(rows: Sequence[Mapping[str, Any]], majority: float, level: Axis, gain: Axis, y: float) -> list[str]:
    parts = [
        line(96, y + ROW / 2, WIDTH - 16, y + ROW / 2, PALE, 1, "1 3"),
        text(8, y + 4, f"{rows[0]['language']} {rows[0]['name']}", size=12),
        line(level(majority), y - 10, level(majority), y + 10, INK, 3),
    ]
    for row in rows:
        shape, filled, _, lane = MARKS[row["method"], row["kind"]]
        axis, value = (level, row["score"]) if row["kind"] == "none" else (gain, row["delta_none"])
        about = f"{row['name']}, {_words(row)}: {value:.1f}"
        parts.append(mark(shape, axis(value), y + lane, 4, _colour(row["method"]), filled, about))
    return parts


def _words(row: Mapping[str, Any]) -> str:
    return MARKS[row["method"], row["kind"]][2]


def _colour(method: str) -> str:
    return SECOND if method == "full" else FIRST


def main(folder: Path, out: Path) -> None:
    scores = load_study(folder)
    table = pandas.read_csv(folder / "data" / "majority.csv")
    (target,) = scores.target.unique()
    majority = dict(zip(table.language, table.majority, strict=True))
    trained = " and ".join(scores.name[~scores.zero_shot].unique())
    title = f"{target}: {table.metric[0]} in percent, trained in {trained} alone, by language"
    atomic_write_text(out, chart(scores, majority, title))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
