"""Zero-shot scores of a run: every language of its task, those it was trained on told apart from the others."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapter_stilts.arguments import whole_number
from adapter_stilts.engine.bundle import load_bundle
from adapter_stilts.engine.device import default_device
from adapter_stilts.engine.predicting import SCORING_PRECISION, predict_answers
from adapter_stilts.errors import StiltsError
from adapter_stilts.evaluation.predictions import (
    PREDICTIONS,
    Predictions,
    check_predictions,
    read_predictions,
    write_predictions,
)
from adapter_stilts.evaluation.scored_task import (
    TEST_SEED,
    check_languages,
    evaluation_name,
    language_identities,
    task_of,
)
from adapter_stilts.evaluation.scores import SCORES, Scores, mean_without, note_scores, read_scores, write_scores
from adapter_stilts.files import atomic_file
from adapter_stilts.jobs.leaks import leaks_of_run, refuse_scored_leaks
from adapter_stilts.memory import memory_given_back
from adapter_stilts.model.backbone import Backbone, load_backbone
from adapter_stilts.model.protocols import Model
from adapter_stilts.paths import mirror_dir, user_path
from adapter_stilts.progress import Reporter, progress, say
from adapter_stilts.runs.claims import weights_in_use
from adapter_stilts.runs.leaks import Leak
from adapter_stilts.runs.manifest import Manifest
from adapter_stilts.runs.store import (
    EVALUATIONS,
    Keep,
    Run,
    RunStore,
    add_evaluation,
    bundle_of,
    check_manifest,
    keep_of,
)
from adapter_stilts.runs.stored import read_stored
from adapter_stilts.runs.tidy import tidy
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import all_tasks
from adapter_stilts.tasks.encode import EncodedSplit, concatenate, encode_split
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.kinds.contract import HeadUse
from adapter_stilts.tasks.scoring import distinct_labels, has_floor, majority_score, score, unseen_labels
from adapter_stilts.tasks.tokenizer import Tokenizer
from adapter_stilts.threads import computing_with, thread_count
from adapter_stilts.trust import regular_file


def evaluate(
    run: str | Run,
    task: Task | Path | str | None = None,
    *,
    languages: str | Sequence[str] | None = None,
    split: str = "test",
    limit: int | None = None,
    runs: RunStore | Path | str | None = None,
    mirror: Path | str | None = None,
    out: Path | str | None = None,
    keep: Keep = "all",
    device: str | None = None,
    threads: int | None = None,
) -> Scores:
    """Score a run in all languages of its task, or in those given, and keep scores and predictions beside the run.

    `task` is the task whose files are scored (itself, its name or its YAML), in place of the one that the run was last
    asked for with; it must be what the run was trained on, but for where its files lie and what its other splits and
    languages hold. `limit` takes so many sentences a language, the same for every run; `out` gets a copy of scores.json
    and predictions.parquet; `keep` says what of the run's weights stays afterwards. What was scored before is not
    scored again. Predictions are computed in float32, on CUDA in fp16 (`SCORING_PRECISION`). `threads`
    compute on a CPU (default: as many as PyTorch has been given), which decides nothing of the scores.

    Raises UsageError for an unknown language or split, for a task that is not the run's, and where an intermediate
    under the run trained on its test sentences; StiltsError where none of the languages has data.
    """
    store = runs if isinstance(runs, RunStore) else RunStore(runs)
    tidy(store)
    run = run if isinstance(run, Run) else store.find(run)
    mirror, threads, limit = mirror_dir(mirror), thread_count(threads), whole_number("--limit", limit, 1)
    task = task_of(run, task)
    identities, missing = language_identities(task, check_languages(task, languages), split, mirror)
    if not identities:
        raise StiltsError(f"{task.name}: no {split} data in any language; first: {next(iter(missing.values()))}")
    name = evaluation_name(run, task.metrics, split, limit, identities)
    folder = run.folder / EVALUATIONS / name
    asked = _Asked(task, split, limit, identities, missing, mirror)
    if not (folder / SCORES).is_file():
        with computing_with(threads):
            _score_run(run, asked, name, store, device or default_device())
    scores = _completed(run, asked, folder)
    note_scores(run, name, scores)
    if not keep_of(run, keep):
        say(f"{run.name}: its weights stay: another process needs them")
    if out is not None:
        check_predictions(folder, scores.predictions)
        _copy(folder, user_path(out))
    if task not in all_tasks():
        say(f"{run.name}: scored on the {split} data of {task.path}")
    return scores


def load_run(
    run: str | Run,
    mirror: Path | str | None = None,
    device: str = "cpu",
    runs: RunStore | Path | str | None = None,
) -> tuple[Model, Manifest, Backbone]:
    """The model of a run (itself, its name, a unique beginning of it, its folder) in evaluation mode with its adapters
    and head active, its manifest, and its backbone.

    Raises UsageError where there is no such run, StiltsError for weights that are damaged or were not kept.
    """
    store = runs if isinstance(runs, RunStore) else RunStore(runs)
    run = run if isinstance(run, Run) else store.find(run)
    stored = run.record.backbone
    mirror = mirror_dir(Path(mirror) if mirror is not None else None)
    backbone = load_backbone(stored.id, revision=stored.revision, mirror=mirror)
    with weights_in_use(run.folder, run.name):
        model, manifest = load_bundle(bundle_of(run), backbone)
    check_manifest(run, manifest)
    return model.to(device), manifest, backbone


@dataclass(frozen=True)
class _Asked:
    """What is scored: a split of a task, `limit` sentences a language; the hash of each language's data, and the reason
    for each language that has none."""

    task: Task
    split: str
    limit: int | None
    test_data: Mapping[str, str]
    missing: Mapping[str, str]
    mirror: Path | None

    def encoded(self, tokenizer: Tokenizer, labels: Sequence[str]) -> list[EncodedSplit]:
        """The data of every language."""
        return [encode_split(self.task, code, self.split, tokenizer, labels, self.mirror) for code in self.test_data]


@memory_given_back()
def _score_run(run: Run, asked: _Asked, name: str, store: RunStore, device: str) -> None:
    """Predict and score every language, and write the evaluation's folder whole, unless another process did so."""
    model, manifest, backbone = load_run(run, asked.mirror, device)
    splits = asked.encoded(backbone.tokenizer, manifest.labels)
    refuse_scored_leaks(run, asked.task, splits, backbone.tokenizer, store)
    leaks = leaks_of_run(run, asked.task, splits, backbone.tokenizer, asked.mirror)
    samples = [encoded.sample(asked.limit, TEST_SEED) for encoded in splits]
    tokens = sum(
        int(encoded.lengths[encoded.sequences_of(sample)].sum())
        for encoded, sample in zip(splits, samples, strict=True)
    )
    precision = SCORING_PRECISION[torch.device(device).type]
    with progress(f"{run.name} {asked.split}", tokens, "pieces") as reporter:
        predictions, precision = _predict(model, manifest, splits, samples, precision, reporter)
    scores = _summarise(run, asked, predictions, precision, leaks)
    with add_evaluation(run, name, SCORES) as beside:
        sha256 = write_predictions(beside, predictions, asked.task.kind)
        write_scores(beside, scores.model_copy(update={"predictions": sha256}))


def _predict(
    model: Model,
    manifest: Manifest,
    splits: list[EncodedSplit],
    samples: list[np.ndarray],
    precision: str,
    reporter: Reporter,
) -> tuple[list[Predictions], str]:
    """Predictions of every split, and what they were computed in. All languages are one stream, sorted by length: its
    batches are full, and alike."""
    first = np.cumsum([0, *(encoded.examples for encoded in splits)])
    examples = np.concatenate([sample + shift for sample, shift in zip(samples, first, strict=False)])
    kind = find_kind(manifest.kind)
    assert kind.gold is not None
    predicted = predict_answers(
        model,
        HeadUse(manifest.head, kind),
        concatenate(splits),
        examples,
        lambda tokens: reporter.advance(tokens, tokens=tokens),
        precision,
    )
    ends = np.cumsum([len(sample) for sample in samples])
    return [
        Predictions(
            encoded.language,
            sample.tolist(),
            predicted.answers[end - len(sample) : end],
            kind.gold(encoded, sample),
        )
        for encoded, sample, end in zip(splits, samples, ends, strict=True)
    ], predicted.precision


def _summarise(
    run: Run, asked: _Asked, predictions: Sequence[Predictions], precision: str, leaks: tuple[Leak, ...] | None
) -> Scores:
    """The scores of predictions, with their means over the languages present."""
    task, trained = asked.task, run.record.languages
    languages = {each.language: _score(run, task, each) for each in predictions}
    known = find_kind(task.kind).metrics
    return Scores(
        run=run.name,
        task=task.name,
        split=asked.split,  # type: ignore[arg-type]
        limit=asked.limit,
        metrics=task.metrics,
        metric_versions={name: known[name].version for name in task.metrics},
        labelling=run.record.word_piece,
        precision=precision,
        trained_languages=trained,
        test_data=dict(asked.test_data),
        languages=languages,
        mean=mean_without(languages, ()) or {},
        mean_zero_shot=mean_without(languages, trained),
        leaks=leaks,
        missing=dict(asked.missing),
        **_floors(run, task.metrics, predictions),
    )


def _score(run: Run, task: Task, predictions: Predictions) -> dict[str, float]:
    """Metrics, number of sentences, and number of gold labels that the head cannot give, where there are any."""
    scores = score(task.kind, task.metrics, predictions.predicted, predictions.gold)
    unseen = unseen_labels(task.kind, run.record.labels, predictions.gold)
    return {**scores, "n": len(predictions.examples), **({"unseen_gold": unseen} if unseen else {})}


def _floors(run: Run, metrics: Sequence[str], predictions: Sequence[Predictions]) -> dict[str, Any]:
    """Fields of Scores: what the majority class would score in each language, and how many labels were predicted."""
    kind, selection = run.record.task.kind, run.record.task.selection_metric
    deciding = [name for name in metrics if find_kind(kind).metrics[name].result == selection]
    floors: dict[str, Any] = {"selection_metric": selection}
    if has_floor(kind):
        floors["majority"] = {
            each.language: majority_score(kind, deciding, each.gold)[selection] for each in predictions
        }
    numbers = {each.language: distinct_labels(kind, each.predicted) for each in predictions}
    if None not in numbers.values():
        floors["predicted_labels"] = numbers
    return floors


def _completed(run: Run, asked: _Asked, folder: Path) -> Scores:
    """The scores in an evaluation's folder, with what is missing of the languages now asked for, and all that was not
    written down when they were computed; what the file did not say is put into it."""
    scores = read_scores(folder, run)
    update: dict[str, Any] = {"test_data": dict(asked.test_data), "missing": dict(asked.missing)}
    if not scores.majority and has_floor(run.record.task.kind) and (folder / PREDICTIONS).is_file():
        update |= _floors(run, scores.metrics, list(read_predictions(folder, scores, run.record.task.kind).values()))
    completed = scores.model_copy(update=update)
    if completed != read_stored(folder / SCORES, Scores):
        write_scores(folder, completed)
    return completed


def _copy(folder: Path, out: Path) -> None:
    """Copy an evaluation's files to `out`, each whole."""
    out.mkdir(parents=True, exist_ok=True)
    for path in (regular_file(folder / name, folder) for name in (SCORES, PREDICTIONS)):
        with atomic_file(out / path.name) as beside:
            shutil.copyfile(path, beside)
