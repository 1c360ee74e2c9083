"""Whether anything was learnt: a score beside what the majority class has, and how many labels were predicted."""

from __future__ import annotations

from collections.abc import Mapping

# Two ways to the same number may differ in its last bits.
_EQUAL = 1e-9
# What the majority class has where gold labels are all alike: nothing can be above it, so it says nothing.
_ALL = 100.0


def nothing_learnt(
    metric: str, scores: Mapping[str, float], majority: Mapping[str, float], labels: Mapping[str, int]
) -> str:
    """What of the named scores shows nothing learnt, in one phrase; empty where all of them show something.

    All three map names (languages, runs, splits) to values: scores and majority class in percent of `metric`, and the
    number of distinct labels predicted. A name without a floor or a number of labels is taken to be above it, and so is
    one whose gold labels are all alike.
    """
    telling = [name for name in scores if majority.get(name, 0.0) < _ALL]
    single = [name for name in telling if labels.get(name) == 1]
    under = [name for name in telling if name in majority and scores[name] <= majority[name] + _EQUAL]
    parts = [f"predictions of a single label ({', '.join(single)})"] if single else []
    compared = (f"{name} {scores[name]:.2f}, majority class {majority[name]:.2f}" for name in under)
    parts += [f"{metric} at or under the majority class ({'; '.join(compared)})"] if under else []
    return f"nothing learnt shows here: {'; '.join(parts)}" if parts else ""


def nothing_learnt_in_development(metric: str, development: float, majority: float | None, labels: int | None) -> str:
    """The same of a record's development score; empty too where floor or labels were not written down."""
    name = "development"
    return nothing_learnt(
        metric,
        {name: development},
        {} if majority is None else {name: majority},
        {} if labels is None else {name: labels},
    )
