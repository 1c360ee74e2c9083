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
    for intermediate in report.below:
        score, majority = intermediate.development, intermediate.majority
        if intermediate.control is None and majority is not None and score < majority + VISIBLE:
            yield (
                f"{intermediate.task} ({intermediate.method}) was hardly learnt: its own development "
                f"{intermediate.metric} is {score:.1f}, the majority class has {majority:.1f}; rows over it say little "
                "of its kind"
            )


def _uneven(report: Report) -> Iterator[str]:
    for intermediate in report.below:
        if intermediate.control is None and intermediate.highest - intermediate.lowest > UNEVEN:
            yield (
                f"{intermediate.task} ({intermediate.method}) did not learn alike under every seed: its own "
                f"development {intermediate.metric} is {intermediate.lowest:.1f} to {intermediate.highest:.1f}; rows "
                "over it are of a task that was learnt and of one that was not"
            )


def _collapsed(report: Report) -> Iterator[str]:
    """Targets are held against the run of their method and seed that has no intermediate; a row is named once."""
    records = [evaluation.run.record for evaluation in report.scored.values()]
    developments = {(record.task.name, row_key(record), record.seed): record.development for record in records}
    fallen: dict[tuple[str, str], list[tuple[Record, float]]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        target, key = record.task.name, row_key(record)
        alone = (developments.get((target, reference, record.seed)) for reference in none_references(key))
        usual = next((score for score in alone if score is not None), None)
        if usual is not None and record.development < usual - COLLAPSED:
            fallen.setdefault((target, key.label), []).append((record, usual))
    for (target, label), runs in fallen.items():
        seeds = ", ".join(str(record.seed) for record, _ in runs)
        yield (
            f"{target}, {label} collapsed in training (seed {seeds}): its own development "
            f"{runs[0][0].task.selection_metric} is {_range([record.development for record, _ in runs])}, without an "
            f"intermediate {_range([usual for _, usual in runs])}; it counts like any other row"
        )


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"
