"""What a reader of a report has to know of its runs before believing a mean: who learnt nothing, and who collapsed."""

from __future__ import annotations

from collections.abc import Iterator

from adapter_stilts.analysis.rows import row_key
from adapter_stilts.report.content import Report

# Points between the development scores of an intermediate's seeds.
UNEVEN = 5.0
# Points above the majority class that an intermediate's development score needs to show that it was learnt: over a few
# hundred sentences an accuracy has a standard error of two.
VISIBLE = 3.0
# Points by which a target's own development score lies below that of the run without an intermediate.
COLLAPSED = 20.0


def cautions(report: Report) -> list[str]:
    """A sentence for each: intermediates that were not learnt, or not under every seed, and targets that collapsed."""
    return [*_unlearnt(report), *_uneven(report), *_collapsed(report)]


def _unlearnt(report: Report) -> Iterator[str]:
    for own in report.below:
        if own.control is None and own.majority is not None and own.development < own.majority + VISIBLE:
            yield (
                f"{own.task} ({own.method}) was hardly learnt: its own development {own.metric} is "
                f"{own.development:.1f}, the majority class has {own.majority:.1f}; rows over it say little of its kind"
            )


def _uneven(report: Report) -> Iterator[str]:
    for own in report.below:
        if own.control is None and own.highest - own.lowest > UNEVEN:
            yield (
                f"{own.task} ({own.method}) did not learn alike under every seed: its own development {own.metric} is "
                f"{own.lowest:.1f} to {own.highest:.1f}; rows over it are of a task that was learnt and of one that "
                "was not"
            )


def _collapsed(report: Report) -> Iterator[str]:
    """Targets are held against the run of their method and seed that has no intermediate."""
    records = [own.run.record for own in report.scored.values()]
    alone = {(own.task.name, own.method, own.seed): own.development for own in records if own.composition == "none"}
    for own in records:
        usual = alone.get((own.task.name, own.method, own.seed))
        if usual is not None and own.development < usual - COLLAPSED:
            yield (
                f"{own.task.name}, {row_key(own).label}, seed {own.seed} collapsed in training: its own development "
                f"{own.task.selection_metric} is {own.development:.1f}, without an intermediate {usual:.1f}; it counts "
                "like any other run"
            )
