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
    own = effects.contrast("knowledge")
    if own.p is None or own.holm_p is None:
        tried = [] if own.estimate is None else [f"Those that were tried differ by {_points(own)}{_of(effects)}."]
        return Answer(f"Whether {WHO} differ cannot be answered: {own.reason}.", (*tried, _scope(effects)))
    found = f"{_points(own)}{_of(effects)}"
    test = f"The interval is at 95% (t, {own.df:.1f} degrees of freedom); p = {own.p:.2g}, {own.holm_p:.2g} after Holm."
    limits = (*_by_target(effects), *_by_level(effects), _scope(effects), test)
    if own.holm_p < ALPHA:
        return Answer(f"{WHO.capitalize()} differ by {found}.", limits)
    could = f"Four of five such studies would see a true difference of {own.smallest_difference:.1f} points"
    if own.p < ALPHA:
        corrected = "The interval leaves out zero, but not after correction for the other contrasts."
        return Answer(f"A difference between {WHO} is not established: {found}.", (corrected, *limits, f"{could}."))
    return Answer(
        f"No difference between {WHO} was seen: {found}.", (*limits, f"{could}; a smaller one is not ruled out.")
    )


def _points(own: Contrast) -> str:
    interval = "" if own.low is None else f" [{own.low:+.1f}, {own.high:+.1f}]"
    return f"{own.estimate:+.1f} points{interval}"


def _of(effects: Effects) -> str:
    count = sum(len(own) for own in effects.counts.intermediates.values())
    return f" (syntactic minus semantic, n = {count} tasks)"


def _by_target(effects: Effects) -> list[str]:
    parts = [own for own in effects.contrasts if own.name == "knowledge" and own.target and own.p is not None]
    return [f"By target: {', '.join(f'{own.target} {_points(own)}' for own in parts)}."] if parts else []


def _by_level(effects: Effects) -> list[str]:
    """What the study found beside the question: whether the level of the tasks' labels matters."""
    own = effects.contrast("granularity")
    if own.p is None or own.holm_p is None:
        return []
    return [f"By level: token minus sentence {_points(own)}, p = {own.holm_p:.2g} after Holm."]


def _scope(effects: Effects) -> str:
    """Where the answer is from."""
    languages, seeds = effects.counts.languages, len(effects.counts.seeds)
    where = " and ".join(f"{target} ({_counted(languages[target], 'language')})" for target in effects.targets)
    row = f"{effects.method} {effects.composition}"
    return f"Measured zero-shot on {where}, {_counted(seeds, 'seed')}, {row} against {effects.reference}."


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"
