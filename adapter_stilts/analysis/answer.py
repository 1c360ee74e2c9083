"""The answer of a study: one short sentence with its interval, or why there is none, and what limits it."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_stilts.statistics.effects import Contrast, Effects
from adapter_stilts.statistics.small_samples import ALPHA

WHO = "syntactic and semantic intermediate tasks"


@dataclass(frozen=True)
class Answer:
    """What was found, in one sentence, and the sentences that say how far that goes."""

    sentence: str
    limits: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.sentence, *self.limits])


def answer(effects: Effects) -> Answer:
    """Whether syntactic and semantic intermediate tasks differ, claiming no more than the design can.

    n is the number of intermediate tasks: the difference is one between kinds of them, however many languages and seeds
    there are. Intervals are at 95%.
    """
    contrast = effects.contrast("knowledge")
    if contrast.p is None or contrast.holm_p is None:
        tried = []
        if contrast.estimate is not None:
            tried = [f"Those that were tried differ by {_points(contrast)}{_of(effects)}."]
        return Answer(f"Whether {WHO} differ cannot be answered: {contrast.reason}.", (*tried, _scope(effects)))
    difference = f"{_points(contrast)}{_of(effects)}"
    p = f"p = {contrast.p:.2g}, {contrast.holm_p:.2g} after Holm"
    test = f"The interval is at 95% (t, {contrast.df:.1f} degrees of freedom); {p}."
    limits = (*_by_target(effects), *_by_level(effects), _scope(effects), test)
    if contrast.holm_p < ALPHA:
        return Answer(f"{WHO.capitalize()} differ by {difference}.", limits)
    could = f"Four of five such studies would see a true difference of {contrast.smallest_difference:.1f} points"
    if contrast.p < ALPHA:
        corrected = "The interval leaves out zero, but not after correction for the other contrasts."
        return Answer(
            f"A difference between {WHO} is not established: {difference}.", (corrected, *limits, f"{could}.")
        )
    return Answer(
        f"No difference between {WHO} was seen: {difference}.", (*limits, f"{could}; a smaller one is not ruled out.")
    )


def _points(contrast: Contrast) -> str:
    interval = "" if contrast.low is None else f" [{contrast.low:+.1f}, {contrast.high:+.1f}]"
    return f"{contrast.estimate:+.1f} points{interval}"


def _of(effects: Effects) -> str:
    count = sum(len(tasks) for tasks in effects.counts.intermediates.values())
    return f" (syntactic minus semantic, n = {count} tasks)"


def _by_target(effects: Effects) -> list[str]:
    contrasts = [each for each in effects.contrasts if each.name == "knowledge" and each.target and each.p is not None]
    points = ", ".join(f"{contrast.target} {_points(contrast)}" for contrast in contrasts)
    return [f"By target: {points}."] if contrasts else []


def _by_level(effects: Effects) -> list[str]:
    """What the study found beside the question: whether the level of the tasks' labels matters."""
    contrast = effects.contrast("granularity")
    if contrast.p is None or contrast.holm_p is None:
        return []
    return [f"By level: token minus sentence {_points(contrast)}, p = {contrast.holm_p:.2g} after Holm."]


def _scope(effects: Effects) -> str:
    """Where the answer is from."""
    languages, seeds = effects.counts.languages, len(effects.counts.seeds)
    where = " and ".join(f"{target} ({_counted(languages[target], 'language')})" for target in effects.targets)
    row = f"{effects.method} {effects.composition}"
    return f"Measured zero-shot on {where}, {_counted(seeds, 'seed')}, {row} against {effects.reference}."


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"
