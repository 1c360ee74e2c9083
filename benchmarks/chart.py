"""A bar chart of a throughput file, as SVG: each bar is a contender's speed by that of the fastest peer beside it.

    python -m benchmarks.chart throughput.json

Every bar has its numbers beside it, peers are outlined and ours filled, and a line stands where both are equally fast:
nothing is said by colour alone.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from adapter_stilts.files import atomic_write_text

WIDTH, LEFT, BARS = 1_060, 330, 380
ROW, BAR, HEADING = 22, 14, 34
INK, PAPER, FILL = "#1a1a1a", "#ffffff", "#3b6ea5"


def chart(result: Mapping[str, Any]) -> str:
    """The SVG of what `benchmarks.throughput` stored."""
    machine = result["machine"]
    hardware = (
        machine["gpu"] if result["device"] == "cuda" else f"{machine['processor']}, {machine['torch_threads']} threads"
    )
    body = [text(16, 28, f"{result['backbone']['id']} on {hardware}", size=17)]
    body.append(
        text(16, 48, "real tokens a second: median (range), and the median by that of the fastest peer beside it")
    )
    top = 62
    for size, comparison in result["results"].items():
        top = _panel(size, comparison["variants"], body, top)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top + 8}" '
            f'viewBox="0 0 {WIDTH} {top + 8}" font-family="sans-serif" fill="{INK}">',
            f'<rect width="100%" height="100%" fill="{PAPER}"/>',
            *body,
            "</svg>\n",
        ]
    )


def relative_speeds(variants: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Median tokens a second of each contender that fitted, by the fastest peer of its group (None: it has none)."""
    fit = {name: variant for name, variant in variants.items() if "failure" not in variant}
    fastest: dict[str, float] = {}
    for variant in fit.values():
        if not variant["ours"]:
            fastest[variant["group"]] = max(fastest.get(variant["group"], 0.0), variant["tokens_per_second"]["median"])
    return {
        name: variant["tokens_per_second"]["median"] / fastest[variant["group"]]
        if variant["group"] in fastest
        else None
        for name, variant in fit.items()
    }


def _panel(title: str, variants: Mapping[str, Mapping[str, Any]], body: list[str], top: int) -> int:
    """Add one size's bars from `top` on; returns where they end."""
    relative = relative_speeds(variants)
    unit = BARS / max([1.0, *(value for value in relative.values() if value is not None)])
    body.append(text(16, top + 22, title, size=14, weight="bold"))
    begin = y = top + HEADING
    group = ""
    for name, variant in variants.items():
        if group and variant["group"] != group:
            y += ROW // 2
        group = variant["group"]
        body.append(text(LEFT - 8, y + BAR - 2, name, anchor="end"))
        body += _bar(variant, relative.get(name), unit, y)
        y += ROW
    line = LEFT + unit
    body.append(
        f'<line x1="{line:.1f}" x2="{line:.1f}" y1="{begin - 6}" y2="{y}" stroke="{INK}" stroke-dasharray="4 3"/>'
    )
    body.append(text(line, begin - 9, "1.0 ×", anchor="middle"))
    return y + 12


def _bar(variant: Mapping[str, Any], relative: float | None, unit: float, y: int) -> list[str]:
    if "failure" in variant:
        return [text(LEFT + 4, y + BAR - 2, variant["failure"])]
    length = 0.0 if relative is None else relative * unit
    fill = FILL if variant["ours"] else PAPER
    bar = f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{fill}" stroke="{INK}"/>'
    return [bar, text(max(LEFT + length, LEFT + unit) + 6, y + BAR - 2, label(variant, relative))]


def label(variant: Mapping[str, Any], relative: float | None) -> str:
    """What stands beside a bar."""
    speed = variant["tokens_per_second"]
    shown = f"{speed['median']:,.0f} ({speed['low']:,.0f}–{speed['high']:,.0f})"
    return shown if relative is None else f"{shown}, {relative:.2f} ×"


def text(x: float, y: float, words: str, size: int = 12, anchor: str = "start", weight: str = "normal") -> str:
    style = f'font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def write_chart(result: Mapping[str, Any], path: Path) -> Path:
    """Write the chart beside the JSON file `path`; returns its path."""
    target = path.with_suffix(".svg")
    atomic_write_text(target, chart(result))
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the charts of the given files."""
    paths = [Path(name) for name in (sys.argv[1:] if arguments is None else arguments)]
    if not paths:
        print("error: found no file, accepted: python -m benchmarks.chart FILE.json ...", file=sys.stderr)
        return 2
    for path in paths:
        print(write_chart(json.loads(path.read_text(encoding="utf-8")), path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
