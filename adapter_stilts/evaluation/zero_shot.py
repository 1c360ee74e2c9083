"""Zero-shot scores of a run: every language of its task, none of which but English it was trained on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import AliasChoices, Field, model_validator

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.evaluation.metrics import METRICS
from adapter_stilts.evaluation.predictions import PREDICTIONS, Predictions, check_predictions, write_predictions
from adapter_stilts.model.backbone import Backbone, load_backbone
from adapter_stilts.paths import atomic_folder, mirror_dir
from adapter_stilts.progress import Reporter, progress
from adapter_stilts.runs.bundle import Manifest, load_bundle
from adapter_stilts.runs.record import MULTI_TASK, read_record, write_record
from adapter_stilts.runs.store import EVALUATIONS, Keep, Run, RunStore, bundle_of, check_manifest, content_hash, keep_of
from adapter_stilts.runs.stored import Sealed, read_stored, write_sealed
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.data import MissingData, data_identity
from adapter_stilts.tasks.encode import EncodedSplit, concatenate, encode_split, reading_of
from adapter_stilts.training.device import default_device
from adapter_stilts.training.inference import SCORING_PRECISION, predict_labels, score
from adapter_stilts.trust import Amount, Count, Name, Percent, Sha256, TaskName, regular_file

SCORES = "scores.json"
# Which sentences are scored, where a part of a split is asked for: the same for every run, whatever its seed.
TEST_SEED = 0
# Raised where an unchanged run would get other scores. 2: on CUDA in fp16 in place of bf16.
SCORING_VERSION = 2


class Scores(Sealed):
    """scores.json: the scores of one run on one split, in percent.

    `languages` maps a code to its metrics and `n` sentences (and `unseen_gold`, words whose gold label training never
    showed, where there are any: they count as wrong); `mean` is the plain mean over the languages present,
    `mean_zero_shot` leaves out `trained_languages`, those of the run's own training data (None where nothing else is
    present); `missing` maps the absent languages to the reason. `labelling` is the piece of a word that was read,
    `precision` what predictions were computed in. `test_data` maps each language to the hash of the test data that were
    scored (files as read, not the part that `limit` takes).

    `predictions` is the SHA-256 of predictions.parquet.

    Empty in a file from before they were written down: `trained_languages`, `test_data`, `predictions`.
    """

    sealed_format: ClassVar[int] = 2
    format: Literal[1, 2] = 1
    run: Name
    task: TaskName
    split: Literal["train", "validation", "test"]
    limit: Count | None
    metrics: tuple[str, ...]
    metric_versions: dict[str, str]
    labelling: str
    precision: str = "float32"
    trained_languages: tuple[str, ...] = ()
    test_data: dict[str, str] = Field(default_factory=dict)
    languages: dict[str, dict[str, Amount]]
    mean: dict[str, Percent]
    # The older name is that of files in which English alone was left out.
    mean_zero_shot: dict[str, Percent] | None = Field(
        validation_alias=AliasChoices("mean_zero_shot", "mean_without_english")
    )
    missing: dict[str, str]
    predictions: Sha256 | None = None

    @model_validator(mode="after")
    def _percentages(self) -> Scores:
        for code, own in self.languages.items():
            if lacking := self.mean.keys() - own.keys():
                raise ValueError(f"languages.{code}: found no {min(lacking)}, accepted what `mean` has")
            if (name := next((name for name in self.mean if own[name] > 100), None)) is not None:
                raise ValueError(f"languages.{code}.{name}: found {own[name]:g}, accepted 0 to 100")
        return self


def evaluate(
    run: str | Run,
    *,
    languages: Sequence[str] | None = None,
    split: str = "test",
    limit: int | None = None,
    runs: RunStore | Path | str | None = None,
    mirror: Path | str | None = None,
    out: Path | None = None,
    keep: Keep = "all",
    device: str | None = None,
) -> Scores:
    """Score a run in all languages of its task, or in those given, and keep scores and predictions beside the run.

    `limit` takes so many sentences a language, the same for every run; `out` gets a copy of scores.json and
    predictions.parquet; `keep` says what of the run's weights stays afterwards. What was scored before is not scored
    again. Predictions are computed in float32, on CUDA in fp16 (`SCORING_PRECISION`).

    Raises UsageError for an unknown language or split, StiltsError where none of the languages has data.
    """
    store = runs if isinstance(runs, RunStore) else RunStore(runs)
    found = run if isinstance(run, Run) else store.find(run)
    mirror = mirror_dir(Path(mirror) if mirror is not None else None)
    task = task_of(found)
    codes = check_languages(task, languages)
    identities, missing = language_identities(task, codes, split, mirror)
    if not identities:
        raise StiltsError(f"{task.name}: no {split} data in any language; first: {next(iter(missing.values()))}")
    name = evaluation_name(found, split, limit, identities)
    folder = found.folder / EVALUATIONS / name
    if not (folder / SCORES).is_file():
        device = device or default_device()
        _score_run(found, task, identities, split, limit, missing, mirror, folder, device)
    scores = read_scores(folder, found)
    _note_scores(found, name, scores)
    keep_of(found, keep)
    if out is not None:
        check_predictions(folder, scores.predictions)
        _copy(folder, out)
    return scores


def load_run(run: Run, mirror: Path | None = None, device: str = "cpu") -> tuple[Any, Manifest, Backbone]:
    """The run's model in evaluation mode with its adapters and head active, its manifest, and its backbone.

    Raises StiltsError for weights that are damaged or were not kept.
    """
    stored = run.record.backbone
    backbone = load_backbone(stored.id, revision=stored.revision, mirror=mirror)
    model, manifest = load_bundle(bundle_of(run), backbone)
    check_manifest(run, manifest)
    return model.to(device), manifest, backbone


def task_of(run: Run) -> Task:
    """The task that a run was trained on. Raises UsageError where its YAML has changed since."""
    stored = run.record.task
    require_labels(run)
    task = find_task(stored.config)
    if (task.name, task.version, task.word_piece) != (stored.name, stored.version, run.record.word_piece):
        raise UsageError(
            f"{task.path}: found {task.name} version {task.version} ({task.word_piece}), "
            f"accepted {stored.name} version {stored.version} ({run.record.word_piece}), as {run.name} was trained"
        )
    return task


def require_labels(run: Run) -> None:
    """Raise UsageError for a run that predicts no labels of one task: on several tasks, or on text without labels."""
    kind = run.record.task.kind
    if kind in (MULTI_TASK, "masked_lm"):
        raise UsageError(f"{run.name}: found kind {kind}, accepted a run on one task that has labels")


def check_languages(task: Task, languages: Sequence[str] | None) -> list[str]:
    """The languages asked for, or all of the task. Raises UsageError for one that the task does not have."""
    for code in languages or ():
        if code not in task.data.languages:
            raise UsageError(f"--languages: found {code!r}, accepted for {task.name}: {', '.join(task.data.languages)}")
    return list(dict.fromkeys(languages or task.data.languages))


def read_scores(folder: Path, run: Run | None = None) -> Scores:
    """scores.json in an evaluation's folder. Raises StiltsError where it is missing, damaged, or of another run."""
    scores = read_stored(folder / SCORES, Scores)
    if run is not None and scores.run != run.name:
        raise StiltsError(f"{folder / SCORES}: found scores of {scores.run}, accepted those of {run.name}")
    return scores


def language_identities(
    task: Task, codes: Sequence[str], split: str, mirror: Path | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Content hashes of the languages that have this split, and the reason for each that has not."""
    identities, missing = {}, {}
    for code in codes:
        try:
            content = {"data": data_identity(task, code, split, mirror), "reading": reading_of(task, code)}
            identities[code] = content_hash(content)
        except MissingData as error:
            missing[code] = str(error)
    return identities, missing


def evaluation_name(run: Run, split: str, limit: int | None, identities: dict[str, str]) -> str:
    identity = {
        "run": content_hash(run.record.identity),
        "split": split,
        "limit": limit,
        "test_seed": TEST_SEED,
        "scoring": SCORING_VERSION,
        "data": identities,
        "metrics": {name: METRICS[name].version for name in run.record.task.metrics},
    }
    return f"{split}-{content_hash(identity)}"


def _score_run(
    run: Run,
    task: Task,
    test_data: Mapping[str, str],
    split: str,
    limit: int | None,
    missing: dict[str, str],
    mirror: Path | None,
    folder: Path,
    device: str,
) -> None:
    """Predict and score every language, and write the evaluation's folder whole."""
    model, manifest, backbone = load_run(run, mirror, device)
    splits = [encode_split(task, code, split, backbone.tokenizer, manifest.labels, mirror) for code in test_data]
    samples = [own.sample(limit, TEST_SEED) for own in splits]
    tokens = sum(int(own.lengths[own.sequences_of(sample)].sum()) for own, sample in zip(splits, samples, strict=True))
    precision = SCORING_PRECISION[torch.device(device).type]
    with progress(f"{run.name} {split}", tokens, "pieces") as reporter:
        predictions, precision = _predict(model, manifest, splits, samples, precision, reporter)
    scored = {own.language: _score(run, own, split) for own, split in zip(predictions, splits, strict=True)}
    scores = summarise(run, task, split, limit, scored, missing, precision, test_data)
    with atomic_folder(folder) as beside:
        sha256 = write_predictions(beside, predictions)
        write_sealed(beside / SCORES, scores.model_copy(update={"predictions": sha256}))


def _predict(
    model: Any,
    manifest: Manifest,
    splits: list[EncodedSplit],
    samples: list[np.ndarray],
    precision: str,
    reporter: Reporter,
) -> tuple[list[Predictions], str]:
    """Predictions of every split, and what they were computed in. All languages are one stream, sorted by length: its
    batches are full, and alike."""
    first = np.cumsum([0, *(own.examples for own in splits)])
    examples = np.concatenate([sample + shift for sample, shift in zip(samples, first, strict=False)])
    found = predict_labels(
        model,
        manifest.head,
        concatenate(splits),
        examples,
        lambda tokens: reporter.advance(tokens, tokens=tokens),
        precision,
    )
    ends = np.cumsum([len(sample) for sample in samples])
    return [
        Predictions(own.language, sample.tolist(), found.labels[end - len(sample) : end], own.gold(sample))
        for own, sample, end in zip(splits, samples, ends, strict=True)
    ], found.precision


def _score(run: Run, predictions: Predictions, split: EncodedSplit) -> dict[str, float]:
    """Metrics, number of sentences, and number of gold labels that the head cannot give, where there are any."""
    task, known = run.record.task, set(run.record.labels)
    scores = score(task.kind, task.metrics, predictions.predicted, predictions.gold)
    unseen = sum(label not in known for labels in predictions.gold for label in labels)
    return {**scores, "n": len(predictions.examples), **({"unseen_gold": unseen} if unseen else {})}


def summarise(
    run: Run,
    task: Task,
    split: str,
    limit: int | None,
    languages: dict[str, dict[str, float]],
    missing: dict[str, str],
    precision: str = "float32",
    test_data: Mapping[str, str] = MappingProxyType({}),
) -> Scores:
    """Scores with their means over the languages present."""
    names = [name for name in next(iter(languages.values())) if name not in ("n", "unseen_gold")]

    def mean(codes: list[str]) -> dict[str, float]:
        return {name: float(np.mean([languages[code][name] for code in codes])) for name in names}

    trained = run.record.languages
    others = [code for code in languages if code not in trained]
    return Scores(
        run=run.name,
        task=task.name,
        split=split,  # type: ignore[arg-type]
        limit=limit,
        metrics=task.metrics,
        metric_versions={name: METRICS[name].version for name in task.metrics},
        labelling=run.record.word_piece,
        precision=precision,
        trained_languages=trained,
        test_data=dict(test_data),
        languages=languages,
        mean=mean(list(languages)),
        mean_zero_shot=mean(others) if others else None,
        missing=missing,
    )


def _note_scores(run: Run, name: str, scores: Scores) -> None:
    """Put the means into the run's record, read anew: another evaluation may have added its own meanwhile."""
    record = read_record(run.folder)
    note = {
        "split": scores.split,
        "limit": scores.limit,
        "languages": sorted(scores.languages),
        "missing": sorted(scores.missing),
        "mean": scores.mean,
        "mean_zero_shot": scores.mean_zero_shot,
    }
    if record.scores.get(name) != note:
        write_record(run.folder, record.model_copy(update={"scores": {**record.scores, name: note}}))


def _copy(folder: Path, out: Path) -> None:
    """Copy an evaluation's files to `out`, each whole."""
    out.mkdir(parents=True, exist_ok=True)
    for path in (regular_file(folder / name, folder) for name in (SCORES, PREDICTIONS)):
        beside = out / f".{path.name}.partial"
        shutil.copyfile(path, beside)
        beside.replace(out / path.name)
