"""scores.json: what it holds, how it is read, and what a run's record keeps of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AliasChoices, Field, model_validator

from adapter_stilts.errors import StiltsError
from adapter_stilts.runs.leaks import Leak
from adapter_stilts.runs.record import known_metrics
from adapter_stilts.runs.store import Run, evaluation_folders
from adapter_stilts.runs.stored import Sealed, read_stored, write_sealed
from adapter_stilts.runs.update import update_record
from adapter_stilts.trust import Amount, Count, LanguageCode, Name, Percent, Sha256, TaskName

SCORES = "scores.json"
# Means are computed in float64 and written down whole.
_ROUNDING = 1e-6
# What stands beside a language's metrics.
COUNTS = ("n", "unseen_gold")


class Scores(Sealed):
    """The scores of one run on one split, in percent.

    `languages` maps a code to its metrics and `n` sentences (and `unseen_gold`, words whose gold label training never
    showed, where there are any: they count as wrong); `mean` is the plain mean over the languages present,
    `mean_zero_shot` leaves out `trained_languages`, those of the run's own training data (None where nothing else is
    present); `missing` maps the absent languages to the reason. `labelling` is the piece of a word that was read,
    `precision` what predictions were computed in. `test_data` maps each language to the hash of the test data that were
    scored (files as read, not the part that `limit` takes).

    `majority` is, by language, what the majority class of the gold labels would score in `selection_metric`;
    `predicted_labels` the number of distinct labels predicted; `leaks` the languages in which the run trained on texts
    of this split (None: not looked for). `predictions` is the SHA-256 of predictions.parquet.

    Empty in a file from before they were written down: `trained_languages`, `test_data`, `selection_metric`,
    `majority`, `predicted_labels`, `predictions`.
    """

    sealed_format: ClassVar[int] = 2
    format: Literal[1, 2] = 1
    run: Name
    task: TaskName
    split: Literal["train", "validation", "test"]
    limit: Count | None
    metrics: Annotated[tuple[str, ...], Field(min_length=1)]
    metric_versions: dict[str, str]
    selection_metric: str = ""
    labelling: str
    precision: str = "float32"
    trained_languages: tuple[LanguageCode, ...] = ()
    test_data: dict[LanguageCode, str] = Field(default_factory=dict)
    languages: Annotated[dict[LanguageCode, dict[str, Amount]], Field(min_length=1)]
    mean: Annotated[dict[str, Percent], Field(min_length=1)]
    # The older name is that of files in which English alone was left out.
    mean_zero_shot: dict[str, Percent] | None = Field(
        validation_alias=AliasChoices("mean_zero_shot", "mean_without_english")
    )
    majority: dict[str, Percent] = Field(default_factory=dict)
    predicted_labels: dict[str, Count] = Field(default_factory=dict)
    leaks: tuple[Leak, ...] | None = None
    missing: dict[LanguageCode, str]
    predictions: Sha256 | None = None

    @model_validator(mode="after")
    def _percentages(self) -> Scores:
        for code, metrics in self.languages.items():
            if lacking := self.mean.keys() - metrics.keys():
                raise ValueError(f"languages.{code}: found no {min(lacking)}, accepted what `mean` has")
            if (name := next((name for name in self.mean if metrics[name] > 100), None)) is not None:
                raise ValueError(f"languages.{code}.{name}: found {metrics[name]:g}, accepted 0 to 100")
            if (sentences := metrics.get("n", 0.0)) < 1 or sentences % 1:
                count = f"n {sentences:g}" if "n" in metrics else "no n"
                raise ValueError(f"languages.{code}: found {count}, accepted the number of sentences")
        return self

    @model_validator(mode="after")
    def _agrees(self) -> Scores:
        for key in ("majority", "predicted_labels", "test_data"):
            codes = getattr(self, key).keys()
            if codes and codes != self.languages.keys():
                odd = min(codes ^ self.languages.keys())
                raise ValueError(f"{key}: found other languages ({odd}), accepted those of `languages`")
        if both := self.missing.keys() & self.languages.keys():
            raise ValueError(f"missing: found {min(both)}, which has scores, accepted languages without data")
        if (self.selection_metric or self.majority) and self.selection_metric not in self.mean:
            raise ValueError(f"selection_metric: found {self.selection_metric[:80]!r}, accepted {', '.join(self.mean)}")
        self._refuse_mean("mean", self.mean, ())
        if self.trained_languages:
            self._refuse_mean("mean_zero_shot", self.mean_zero_shot, self.trained_languages)
        return self

    def _refuse_mean(self, key: str, mean: Mapping[str, float] | None, without: Sequence[str]) -> None:
        results = {code: {name: metrics[name] for name in self.mean} for code, metrics in self.languages.items()}
        accepted = mean_without(results, without)
        if mean is None or accepted is None:
            agrees = mean is accepted
        else:
            agrees = all(abs(mean.get(name, -1.0) - accepted[name]) <= _ROUNDING for name in self.mean)
        if not agrees:
            raise ValueError(f"{key}: found {mean}, accepted the mean of the languages, {accepted}")


def read_scores(folder: Path, run: Run) -> Scores:
    """scores.json in the folder of one of the run's evaluations.

    A file from before the languages trained on were written down gets them from the run's record, and the mean without
    them anew. Raises StiltsError where it is missing or damaged, or says that it is another run's or task's.
    """
    scores = read_stored(folder / SCORES, Scores)
    for key, accepted in (("run", run.name), ("task", run.record.task.name)):
        if getattr(scores, key) != accepted:
            raise StiltsError(f"{folder / SCORES}: {key}: found {getattr(scores, key)}, accepted {accepted}")
    task, known = run.record.task, known_metrics(run.record.task.kind)
    results = {known[name].result for name in scores.metrics if name in known}
    if results != scores.mean.keys() or task.selection_metric not in results:
        accepted = f"metrics of {task.kind} that give {task.selection_metric} and all that `mean` has"
        raise StiltsError(f"{folder / SCORES}: metrics: found {', '.join(scores.metrics)[:80]!r}, accepted {accepted}")
    if scores.trained_languages:
        return scores
    trained = run.record.languages
    means = {"trained_languages": trained, "mean_zero_shot": mean_without(scores.languages, trained)}
    return scores.model_copy(update=means)


def evaluations_of(run: Run) -> Iterator[tuple[Path, Scores]]:
    """Folder and scores of each of a run's evaluations, by name. What a killed process left half-written is no
    evaluation. Raises what `read_scores` raises."""
    for folder in evaluation_folders(run):
        if (folder / SCORES).is_file():
            yield folder, read_scores(folder, run)


def write_scores(folder: Path, scores: Scores) -> None:
    """Write (or replace, as a whole) scores.json in an evaluation's folder."""
    write_sealed(folder / SCORES, scores)


def mean_without(languages: Mapping[str, Mapping[str, float]], left_out: Sequence[str]) -> dict[str, float] | None:
    """The mean of each metric over the languages that are not left out; None where none is left."""
    present = [values for code, values in languages.items() if code not in left_out]
    if not present:
        return None
    return {name: float(np.mean([values[name] for values in present])) for name in present[0] if name not in COUNTS}


def note_scores(run: Run, name: str, scores: Scores) -> None:
    """Put the means into the run's record, read anew: another evaluation may have added its own meanwhile."""
    note: dict[str, Any] = {
        "split": scores.split,
        "limit": scores.limit,
        "languages": sorted(scores.languages),
        "missing": sorted(scores.missing),
        "test_data": scores.test_data,
        "mean": scores.mean,
        "mean_zero_shot": scores.mean_zero_shot,
    }
    update_record(run.folder, lambda record: record.model_copy(update={"scores": {**record.scores, name: note}}))
