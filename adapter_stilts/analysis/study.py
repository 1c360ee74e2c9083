"""From the scored runs of a study to its statistics: which run stands against which, and what is left out, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from adapter_stilts.analysis.comparable import comparable_groups
from adapter_stilts.analysis.compare import Rows, rows_of
from adapter_stilts.analysis.rows import RowKey, full_references, none_references
from adapter_stilts.analysis.scored import Scored
from adapter_stilts.errors import StiltsError
from adapter_stilts.evaluation.scores import read_scores
from adapter_stilts.model.composition import USED_BY_METHOD
from adapter_stilts.runs.record import Record
from adapter_stilts.runs.store import Run
from adapter_stilts.schema import setting_text
from adapter_stilts.statistics.effects import Effects, fit_effects
from adapter_stilts.statistics.observations import CELLS, Observation
from adapter_stilts.statistics.resample import RESAMPLES
from adapter_stilts.studies.grid import Cell, intermediate_title
from adapter_stilts.studies.plan import StudyRun

Reference = Literal["none", "full", "random"]
REFERENCES: tuple[Reference, ...] = get_args(Reference)
# What a difference is to, in the words of an answer.
MEANING = {
    "none": "no intermediate task",
    "full": "full STILTs over the same intermediate task",
    "random": "an intermediate that was never trained",
}
# Fields of a recipe that a record's variant tells of where they are set.
_TOLD = {
    *USED_BY_METHOD,
    *("mixing", "mixing_cap", "mixing_temperature", "mlm_share", "mlm_task"),
    *("fusion", "fusion_null", "merge", "merge_then", "merge_weights"),
}


@dataclass(frozen=True)
class Observed:
    """The differences of a study's runs to one reference; `runs` are those that have one, `left_out` counts the others
    by reason. Every scored run is in one of the two.

    `shared`: all intermediates of a method, composition and seed stand against the same run. Contrasts between them
    then cancel it, and are the same whatever it is.
    """

    reference: Reference
    observations: tuple[Observation, ...]
    runs: int
    left_out: dict[str, int]
    shared: bool


@dataclass(frozen=True)
class Fitted:
    """The statistics of one method and composition against one reference; without `effects`, `reason` says why."""

    reference: Reference
    method: str
    composition: str
    effects: Effects | None
    reason: str = ""


def scored_runs(runs: Iterable[StudyRun], known: Mapping[str, Scored] | None = None) -> dict[str, Scored]:
    """The finished runs of a study by name, each once, with the scores that the study asks for; what is `known` is not
    read again. Raises StiltsError for scores that are damaged."""
    scored: dict[str, Scored] = {}
    for run in runs:
        if run.run is None or run.evaluation is None or run.name in scored:
            continue
        before = (known or {}).get(run.name)
        if before is None or before.folder != run.evaluation:
            before = Scored(_labelled(run.run, run.cell), read_scores(run.evaluation, run.run), run.evaluation)
        scored[run.name] = before
    return scored


def _labelled(run: Run, cell: Cell) -> Run:
    """The run with a record that calls what it stands on as the study does, and tells what the study sets otherwise for
    it: two intermediates of one task are two."""
    arrangement = cell.arrangement.set if cell.arrangement else {}
    special = any(one.label != one.task for one in cell.intermediates)
    if not special and not arrangement:
        return run
    over = run.record.over
    if special:
        over = tuple(
            under.model_copy(update={"task": intermediate_title(one), "label": _with_settings(under.label, one.set)})
            for under, one in zip(over, cell.intermediates, strict=True)
        )
    variant = ", ".join(part for part in (run.record.variant, *_untold(arrangement)) if part)
    return Run(run.folder, run.record.model_copy(update={"over": over, "variant": variant}))


def _with_settings(label: str, settings: Mapping[str, Any]) -> str:
    """`a (shuffled)` as `a (shuffled, epochs=3)`."""
    about = [*_about(label), *_untold(settings)]
    return label.partition(" (")[0] + (f" ({', '.join(about)})" if about else "")


def _untold(settings: Mapping[str, Any]) -> list[str]:
    """What a record's own variant does not say."""
    return [f"{key}={setting_text(value)}" for key, value in settings.items() if key not in _TOLD]


def pairs(scored: Iterable[Scored], reference: Reference) -> Iterator[tuple[Scored, Scored | None]]:
    """Every run with the run of the same seed that it stands against, where there is one."""
    for group in comparable_groups(scored):
        rows = rows_of(group.runs)
        for key, seeds in rows.items():
            references = _references(key, rows, reference)
            for seed, evaluation in seeds.items():
                yield evaluation, next((rows[other][seed] for other in references if seed in rows.get(other, {})), None)


def observe(scored: Iterable[Scored], reference: Reference = "none") -> Observed:
    """The differences of every run over one intermediate to its reference, by language.

    `none` is the same method without an intermediate, `full` full STILTs over the same one, `random` the same
    composition over one that was never trained; always of the same seed. A composition carries the variant of its
    target's training, where it has one. Controls, several intermediates, and intermediates whose kind is not known are
    left out.
    """
    observations: list[Observation] = []
    runs, left_out = 0, Counter[str]()
    against: dict[tuple, set[str]] = defaultdict(set)
    for evaluation, other in pairs(scored, reference):
        reason = _why_left_out(evaluation.run.record, reference, other)
        if reason:
            left_out[reason] += 1
        elif other is not None:
            runs += 1
            observations += _observations(evaluation, other)
            record = evaluation.run.record
            against[record.task.name, record.method, arrangement(record), record.seed].add(other.run.name)
    shared = all(len(names) == 1 for names in against.values())
    return Observed(reference, tuple(observations), runs, dict(left_out), shared)


def differences(evaluation: Scored, other: Scored) -> dict[str, float]:
    """Points by language, of the languages that both have."""
    other_scores = other.languages
    return {code: score - other_scores[code] for code, score in evaluation.languages.items() if code in other_scores}


def fit_rows(observed: Observed, resamples: int = RESAMPLES) -> tuple[Fitted, ...]:
    """The statistics of every method and composition, in the order of the study; `resamples` as in `fit_effects`."""
    rows: dict[tuple[str, str], list[Observation]] = {}
    for observation in observed.observations:
        rows.setdefault((observation.method, observation.composition), []).append(observation)
    return tuple(_fit(observed.reference, key, observations, resamples) for key, observations in rows.items())


def arrangement(record: Record) -> str:
    """A run's composition with the variant of its own training, such as `stack (layers=6-11)`."""
    return record.composition + (f" ({record.variant})" if record.variant else "")


def _fit(reference: Reference, key: tuple[str, str], observations: Sequence[Observation], resamples: int) -> Fitted:
    try:
        return Fitted(reference, *key, fit_effects(observations, MEANING[reference], resamples))
    except (StiltsError, np.linalg.LinAlgError) as error:
        return Fitted(reference, *key, None, str(error))


def _references(key: RowKey, rows: Rows, reference: Reference) -> list[RowKey]:
    """The rows that a row may stand against, the nearest first; never itself."""
    if reference == "none":
        references = none_references(key) if key.over else []
    elif reference == "full":
        references = full_references(key, rows)
    else:
        references = _random_references(key, rows)
    return [row for row in references if row != key]


def _random_references(key: RowKey, keys: Collection[RowKey]) -> list[RowKey]:
    """Rows of the same method, composition and variant over intermediates that were never trained and are otherwise of
    the same make. Those of the same task come first; any other was drawn from the same distribution."""
    wanted = [_make(label) for label in key.over]
    references = [
        candidate
        for candidate in keys
        if key.over
        and (candidate.method, candidate.composition, candidate.variant) == (key.method, key.composition, key.variant)
        and [_make(label) for label in candidate.over] == wanted
        and all("random" in _about(label) for label in candidate.over)
    ]
    return sorted(references, key=lambda candidate: (_tasks(candidate) != _tasks(key), candidate.sort_key))


def _tasks(key: RowKey) -> list[str]:
    return [label.partition(" (")[0] for label in key.over]


def _about(label: str) -> list[str]:
    """What a label says besides the task: `a (random, rank=4)` as `random` and `rank=4`."""
    return [part for part in label.partition(" (")[2].removesuffix(")").split(", ") if part]


def _make(label: str) -> list[str]:
    return [part for part in _about(label) if part not in ("random", "shuffled")]


def _why_left_out(record: Record, reference: Reference, other: Scored | None) -> str:
    """Empty for a run that is observed."""
    control = record.control or next((under.control for under in record.over if under.control), None)
    if not record.over:
        return "no intermediate"
    if control:
        return f"control ({control})"
    if len(record.over) > 1:
        return "several intermediates"
    (under,) = record.over
    if (under.knowledge, under.granularity) not in CELLS:
        return f"{under.task}: knowledge {under.knowledge}, granularity {under.granularity}"
    if reference == "full" and record.method == "full":
        return "full STILTs, the reference itself"
    return "" if other is not None else f"no run of its seed to stand against ({MEANING[reference]})"


def _observations(evaluation: Scored, other: Scored) -> list[Observation]:
    record = evaluation.run.record
    (under,) = record.over
    return [
        Observation(
            target=record.task.name,
            method=record.method,
            composition=arrangement(record),
            intermediate=under.task,
            knowledge=under.knowledge,
            granularity=under.granularity,
            language=code,
            seed=record.seed,
            delta=delta,
            zero_shot=code not in evaluation.trained_languages,
        )
        for code, delta in differences(evaluation, other).items()
    ]
