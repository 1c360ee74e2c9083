"""What a table of compared runs holds: rows, their differences, and what a reader must know of them."""

from __future__ import annotations

from dataclasses import dataclass

from adapter_stilts.analysis.bootstrap import Interval


@dataclass(frozen=True)
class Delta:
    """A row against its reference, in points: the reference's label, the seeds that both have and that are compared,
    the difference of the means without English with its interval over test sentences, and the differences by language
    and family."""

    against: str
    seeds: tuple[int, ...]
    interval: Interval
    languages: dict[str, float]
    families: dict[str, float]


@dataclass(frozen=True)
class Row:
    """One method and composition over intermediates in one variant, averaged over seeds.

    `over` holds the labels of the intermediates; `control` is set where the row or one of them is a control.
    `languages` and `families` are scores in percent; `development` is the row's own English development score and
    `intermediate_development` that of each intermediate; `seconds` are those of the row's own training;
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
    spread: float | None
    languages: dict[str, float]
    families: dict[str, float]
    delta_none: Delta | None
    delta_full: Delta | None


@dataclass(frozen=True)
class Table:
    """Comparable rows, and everything that a reader must know of them.

    `chosen` is the adapter row that English development data choose, `oracle` the one that the test scores would have
    chosen, `chosen_full` and `oracle_full` the rows of full STILTs chosen in the same way; None where there is none.
    All rows of the family stand for choice, those without an intermediate too, but no control: adapters are bottleneck
    and those of peft, a linear probe is neither. `chosen_delta`, `oracle_delta`: the adapter row against the full one.
    `precisions` are what predictions were computed in.
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
    languages: tuple[str, ...]
    missing: dict[str, str]
    rows: tuple[Row, ...]
    chosen: str | None
    chosen_full: str | None
    chosen_delta: Delta | None
    oracle: str | None
    oracle_full: str | None
    oracle_delta: Delta | None
