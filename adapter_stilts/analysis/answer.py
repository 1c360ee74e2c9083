"""The answer of a study in one sentence, with its interval, or why there is none."""

from __future__ import annotations

from adapter_stilts.analysis.effects import Contrast, Effects
from adapter_stilts.analysis.inference import ALPHA


def answer(effects: Effects) -> str:
    """Whether syntactic and semantic intermediate tasks differ: a sentence that claims no more than the design can."""
    own = effects.contrast("knowledge")
    who = "syntactic and semantic intermediate tasks"
    row = f"{effects.method} {effects.composition}"
    where = f"zero-shot on {' and '.join(effects.targets)}, measured against {effects.reference} ({row})"
    if own.estimate is None:
        return f"Whether {who} differ cannot be answered {where}, because {own.reason}."
    if own.p is None or own.holm_p is None:
        return (
            f"Whether {who} differ cannot be answered {where}, because {own.reason}; "
            f"those that were tried differ by {own.estimate:+.1f} points (syntactic minus semantic)."
        )
    found = f"syntactic minus semantic is {_points(own)} ({_test(own)}{_by_target(effects)})"
    if own.holm_p < ALPHA:
        return f"The effects of {who} differ {where}: {found}."
    could = (
        f"a t test at {ALPHA} on this design sees a true difference of {own.smallest_difference:.1f} points "
        "in four of five studies"
    )
    if own.p < ALPHA:
        return (
            f"A difference between {who} is not established {where}: {found}; its interval leaves out zero, "
            f"but not after correction for the other contrasts; {could}."
        )
    return f"No difference between {who} was seen {where}: {found}; {could}, so a smaller one is not ruled out."


def _points(own: Contrast) -> str:
    return f"{own.estimate:+.1f} points [{own.low:+.1f}, {own.high:+.1f}]"


def _test(own: Contrast) -> str:
    return f"95% interval, t with {own.df:.1f} df, p = {own.p:.2g}, {own.holm_p:.2g} after Holm"


def _by_target(effects: Effects) -> str:
    parts = [own for own in effects.contrasts if own.name == "knowledge" and own.target and own.p is not None]
    return f"; {', '.join(f'{own.target} {_points(own)}' for own in parts)}" if parts else ""
