"""What a reader of a report has to know of its runs before believing a mean: who learnt nothing, and who collapsed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapter_stilts.analysis.rows import none_references, row_key
from adapter_stilts.report.content import Report
from adapter_stilts.runs.record import Record

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
    """Targets are held against the run of their method and seed that has no intermediate; a row is named once."""
    records = [own.run.record for own in report.scored.values()]
    developments = {(own.task.name, row_key(own), own.seed): own.development for own in records}
    fallen: dict[tuple[str, str], list[tuple[Record, float]]] = {}
    for own in sorted(records, key=lambda record: record.seed):
        target, key = own.task.name, row_key(own)
        alone = (developments.get((target, reference, own.seed)) for reference in none_references(key))
        usual = next((score for score in alone if score is not None), None)
        if usual is not None and own.development < usual - COLLAPSED:
            fallen.setdefault((target, key.label), []).append((own, usual))
    for (target, label), runs in fallen.items():
        seeds = ", ".join(str(own.seed) for own, _ in runs)
        yield (
            f"{target}, {label} collapsed in training (seed {seeds}): its own development "
            f"{runs[0][0].task.selection_metric} is {_range([own.development for own, _ in runs])}, without an "
            f"intermediate {_range([usual for _, usual in runs])}; it counts like any other row"
        )


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"
