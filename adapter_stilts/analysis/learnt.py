"""Rows that learnt nothing, in words: one label for everything, or no more than the majority class has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from adapter_stilts.analysis.table import Row

NAMED = 6
# Where gold labels are all alike the majority class has all of them right: only who has them all as well did learn.
ALL = 100.0


def unlearnt(row: Row, majority: Mapping[str, float], zero_shot: Sequence[str], where: str) -> list[str]:
    """A line for each sign that a row learnt nothing; none where it did.

    `majority` is the majority class's score by language; `where` says which languages the mean is over.
    """
    lines = []
    if row.only_labels and row.mean < ALL:
        named = sorted(set(row.only_labels.values()))
        lines.append(
            f"{row.label} learnt nothing{_seeds(row, row.only_labels)}: every prediction is {' or '.join(named)}"
        )
    floor = float(np.mean([majority[code] for code in zero_shot]))
    under = {seed: mean for seed, mean in zip(row.seeds, row.means, strict=True) if _not_above(mean, floor)}
    below = [code for code in majority if _not_above(row.languages[code], majority[code])]
    if under:
        lines.append(
            f"{row.label} is not above the majority class{_seeds(row, under)}: {_range(list(under.values()))} {where}, "
            f"the majority class has {floor:.1f}"
        )
    elif below:
        shown = ", ".join(f"{code} ({row.languages[code]:.1f}, it has {majority[code]:.1f})" for code in below[:NAMED])
        more = f" and {len(below) - NAMED} more" if len(below) > NAMED else ""
        lines.append(f"{row.label} is not above the majority class in {shown}{more}")
    return lines


def _not_above(score: float, floor: float) -> bool:
    return score <= floor and score < ALL


def _seeds(row: Row, seeds: Collection[int]) -> str:
    """Under which seeds, where it is not all of them."""
    if len(seeds) == len(row.seeds):
        return ""
    return f" under seed {', '.join(map(str, sorted(seeds)))}"


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"
