"""Small pieces of SVG as text: every figure is drawn from these, and stands alone as a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

INK, SOFT, RULE, PALE = "#1a1a1a", "#555555", "#c4c4c4", "#e2e2e2"
FIRST, SECOND = "#1f5fa8", "#a8500b"
# Width of every figure: what a phone of 360 pixels has room for.
WIDTH = 328


def figure(title: str, description: str, height: float, body: Iterable[str], width: float = WIDTH) -> str:
    """An image with a title and a description for those who do not see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" font-family="system-ui, sans-serif" font-size="12" fill="{INK}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>" + "".join(body) + "</svg>"
    )


def text(
    x: float, y: float, content: str, anchor: str = "start", size: float = 12, fill: str = INK, weight: str = ""
) -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    style = f'text-anchor="{anchor}" font-size="{size:g}" fill="{fill}"{bold}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(content)}</text>'


def line(x: float, y: float, x2: float, y2: float, stroke: str = RULE, width: float = 1, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    style = f'stroke="{stroke}" stroke-width="{width:g}"{dashed}'
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def box(x: float, y: float, width: float, height: float, fill: str = PALE) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{fill}"/>'


def mark(shape: str, x: float, y: float, size: float, colour: str, filled: bool = True, about: str = "") -> str:
    """A circle, square, triangle, down (a triangle on its tip), diamond or cross around a point; `about` is read out,
    and shown under the pointer."""
    title = f"<title>{escape(about)}</title>" if about else ""
    fill = colour if filled else "#ffffff"
    style = f'fill="{fill}" stroke="{colour}" stroke-width="1.5"'
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size:g}" {style}>{title}</circle>'
    points = " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in _CORNERS[shape])
    return f'<polygon points="{points}" {style}>{title}</polygon>'


_CORNERS: dict[str, Sequence[tuple[float, float]]] = {
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": ((0, -1.15), (1.1, 0.85), (-1.1, 0.85)),
    "down": ((0, 1.15), (1.1, -0.85), (-1.1, -0.85)),
    "diamond": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    "cross": (
        *((-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4)),
        *((0.4, 1.1), (-0.4, 1.1), (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4)),
    ),
}


class Axis:
    """Values to positions between two ends, linear or by powers of ten."""

    def __init__(
        self, values: Iterable[float], start: float, end: float, log: bool = False, zero: bool = False
    ) -> None:
        finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)] or [1.0]
        finite += [0.0] if zero else []
        low, high = (self._flat(value, log) for value in (min(finite), max(finite)))
        room = 0.06 * (high - low) or 0.5
        self.low, self.high, self.start, self.end, self.log = low - room, high + room, start, end, log

    @staticmethod
    def _flat(value: float, log: bool) -> float:
        return math.log10(max(value, 1e-9)) if log else value

    def __call__(self, value: float) -> float:
        share = (self._flat(value, self.log) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values on the axis, few enough to stand beside each other."""
        return self._log_ticks(most) if self.log else self._linear_ticks(most)

    def labels(self, most: int = 6) -> list[tuple[float, str]]:
        """Each tick of a linear axis with its number, signed, with as many decimals as its step has, one at least."""
        ticks = self._linear_ticks(most)
        digits = max(1, -math.floor(math.log10(self._step(most)) + 1e-9))
        return [(tick, signed(tick, digits)) for tick in ticks]

    def _linear_ticks(self, most: int) -> list[float]:
        step = self._step(most)
        first = math.ceil(self.low / step - 1e-9)
        return [count * step for count in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _step(self, most: int) -> float:
        rough = (self.high - self.low) / most
        power = 10 ** math.floor(math.log10(rough))
        return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)

    def _log_ticks(self, most: int) -> list[float]:
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            ticks = [factor * 10.0**power for power in powers for factor in factors]
            ticks = [tick for tick in ticks if self.low <= math.log10(tick) <= self.high]
            if len(ticks) <= most:
                return ticks
        return ticks[:: math.ceil(len(ticks) / most)]


def signed(value: float, digits: int = 1) -> str:
    """With its sign, a true minus, and no sign for what rounds to nothing."""
    shown = f"{value:+.{digits}f}"
    return shown[1:] if float(shown) == 0 else shown.replace("-", "−")


def short(count: float) -> str:
    """Such as 450k, 118M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:.3g}"
