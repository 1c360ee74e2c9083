"""What a table of compared runs holds: rows, their differences, and what a reader must know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from adapter_stilts.statistics.bootstrap import Interval

Over = Literal["test sentences", "seeds and test sentences"]


@dataclass(frozen=True)
class Delta:
    """A row against its reference, in points: the reference's label, the seeds that both have and that are compared,
    the difference of the means over zero-shot languages with its interval, where it has one, what that interval is
    over, and the differences by language and family."""

    against: str
    seeds: tuple[int, ...]
    interval: Interval
    over: Over | None
    languages: dict[str, float]
    families: dict[str, float]


@dataclass(frozen=True)
class Row:
    """One method and composition over intermediates in one variant, averaged over seeds.

    `over` holds the labels of the intermediates; `control` is set where the row or one of them is a control.
    `languages` and `families` are scores in percent, `means` those over the zero-shot languages by seed;
    `only_labels` has by seed the one label of a run that predicted no other; `development` is the row's own development
    score and `intermediate_development` that of each intermediate; `seconds` are those of the row's own training;
    `bundle_bytes` is 0 where no weights were kept.
    """

    label: str
    method: str
    composition: str
    variant: str
    over: tuple[str, ...]
    control: str | None
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    development: float
    intermediate_development: tuple[float, ...]
    trainable_parameters: int
    total_parameters: int
    seconds: float
    bundle_bytes: int
    mean: float
    mean_zero_shot: float
    means: tuple[float, ...]
    only_labels: dict[int, str]
    spread: float | None
    languages: dict[str, float]
    families: dict[str, float]
    delta_none: Delta | None
    delta_full: Delta | None


@dataclass(frozen=True)
class Table:
    """Comparable rows, and everything that a reader must know of them.

    `chosen` is the adapter row that development data choose, `oracle` the one that the test scores would have chosen,
    `chosen_full` and `oracle_full` the rows of full STILTs chosen in the same way; None where there is none. All rows
    of the family stand for choice, those without an intermediate too, but no control: adapters are bottleneck and those
    of peft, a linear probe is neither. Of rows with the same score the one that trains the fewest parameters is chosen,
    then the first of the table; `ties` names the others, by `chosen`, `chosen_full`, `oracle`, `oracle_full`.
    `chosen_delta`, `oracle_delta`: the adapter row against the full one.

    `trained_languages` are those of the runs' own training data, which means over zero-shot languages leave out;
    `precisions` what predictions were computed in; `majority` the score of the majority class by language;
    `sentence_intervals` whether intervals over test sentences alone were asked for; `notes` a line for what is not in
    the table and why, `unlearnt` one for every row that learnt nothing.
    """

    target: str
    metric: str
    split: str
    backbone: str
    labelling: str
    precisions: tuple[str, ...]
    train_examples: int
    test_examples: int | None
    seeds: tuple[int, ...]
    trained_languages: tuple[str, ...]
    languages: tuple[str, ...]
    missing: dict[str, str]
    majority: dict[str, float]
    rows: tuple[Row, ...]
    chosen: str | None
    chosen_full: str | None
    chosen_delta: Delta | None
    oracle: str | None
    oracle_full: str | None
    oracle_delta: Delta | None
    ties: dict[str, tuple[str, ...]]
    sentence_intervals: bool
    notes: tuple[str, ...]
    unlearnt: tuple[str, ...]

    @property
    def zero_shot(self) -> tuple[str, ...]:
        """The languages that means are over: those that were not trained on, or all where there is no other."""
        return tuple(zero_shot_codes(self.languages, self.trained_languages))

    @property
    def without(self) -> str:
        """What means over zero-shot languages leave out, in words: `without en`."""
        return without(self.languages, self.trained_languages)


def zero_shot_codes(codes: Sequence[str], trained: Sequence[str]) -> list[str]:
    """The languages that were not trained on; all of them where there is no other."""
    return [code for code in codes if code not in trained] or list(codes)


def without(codes: Sequence[str], trained: Sequence[str]) -> str:
    """`without en`, `without de and en`; `trained on` where nothing else was scored, `in all` where nothing is left
    out."""
    out = [code for code in codes if code in trained]
    if not out:
        return "in all languages"
    return f"{'without' if len(out) < len(codes) else 'trained on'} {' and '.join(out)}"
