"""Rows that learnt nothing, in words: one label for everything, or no more than the majority class has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adapter_stilts.analysis.table import Row

NAMED = 6
# What the majority class has where gold labels are all alike: nothing can be above it, so it says nothing.
ALL = 100.0


def unlearnt(row: Row, majority: Mapping[str, float], zero_shot: Sequence[str], where: str) -> list[str]:
    """A line for each sign that a row learnt nothing; none where it did.

    `majority` is the majority class's score by language; `where` says which languages the mean is over.
    """
    floors = {code: floor for code, floor in majority.items() if floor < ALL}
    lines = []
    if row.only_labels and floors:
        named = sorted(set(row.only_labels.values()))
        lines.append(
            f"{row.label} learnt nothing{_seeds(row, row.only_labels)}: every prediction is {' or '.join(named)}"
        )
    over = [code for code in zero_shot if code in floors]
    if len(over) == len(zero_shot):
        floor = float(np.mean([floors[code] for code in over]))
        under = [seed for seed, mean in zip(row.seeds, row.means, strict=True) if mean <= floor]
        if under:
            values = [mean for mean in row.means if mean <= floor]
            lines.append(
                f"{row.label} is not above the majority class{_seeds(row, under)}: {_range(values)} {where}, "
                f"the majority class has {floor:.1f}"
            )
            return lines
    below = [code for code, floor in floors.items() if row.languages[code] <= floor]
    if below:
        shown = ", ".join(f"{code} ({row.languages[code]:.1f}, it has {floors[code]:.1f})" for code in below[:NAMED])
        more = f" and {len(below) - NAMED} more" if len(below) > NAMED else ""
        lines.append(f"{row.label} is not above the majority class in {shown}{more}")
    return lines


def _seeds(row: Row, seeds: Sequence[int] | Mapping[int, str]) -> str:
    """Under which seeds, where it is not all of them."""
    if len(seeds) == len(row.seeds):
        return ""
    return f" under seed {', '.join(map(str, sorted(seeds)))}"


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"
