"""No intermediate may have trained on the target's own test sentences, whatever either is called; and what a run itself
trained on of its task's development and test data is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapter_stilts.errors import StiltsError
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.training_data import TrainingData
from adapter_stilts.runs.leaks import Leak
from adapter_stilts.runs.store import TRAINED_ON, Run, RunStore
from adapter_stilts.schema import Task
from adapter_stilts.tasks.data import MissingData, data_identity
from adapter_stilts.tasks.encode import EncodedSplit, encode_split, reading_of
from adapter_stilts.tasks.inventory import label_inventory
from adapter_stilts.tasks.overlap import (
    OWN_LEAK_SHARE,
    leaking_texts,
    read_signatures,
    refuse_overlap,
    remembered_signatures,
    text_signatures,
)
from adapter_stilts.tasks.tokenizer import Tokenizer


def trained_on(job: Job, data: TrainingData) -> np.ndarray:
    """Signatures of the texts that the job trains on, and of those that the runs under it did."""
    tokenizer = job.backbone.tokenizer
    parts = [text_signatures(part.train, part.train_examples, tokenizer) for part in data.parts]
    below = [_signatures_of(run) for run in job.runs]
    return np.unique(np.concatenate([*parts, *below]))


# --- intermediates: refused -------------------------------------------------------------------------------------------


def refuse_leaks(job: Job) -> None:
    """Raise UsageError where an intermediate trained on test sentences of the job's task, in any language that its
    training data were in. A language without test data here cannot be checked, nor scored."""
    for run in job.runs:
        signatures = _signatures_of(run)
        for task in job.tasks:
            for code in _training_languages(run):
                if code not in task.data.languages:
                    continue
                try:
                    labels = label_inventory(task, job.mirror)
                    test = encode_split(task, code, "test", job.backbone.tokenizer, labels, job.mirror)
                except MissingData:
                    continue
                refuse_overlap(f"--over {run.name}", signatures, task.name, test, job.backbone.tokenizer)


def refuse_scored_leaks(
    run: Run, task: Task, splits: Sequence[EncodedSplit], tokenizer: Tokenizer, store: RunStore
) -> None:
    """Raise UsageError where an intermediate under a run trained on the test sentences that are to be scored, which may
    be others than when the run was trained. Intermediates are looked up beside the run, and in the store; of one that
    is gone `leaks_of_run` still tells, since the run's signatures hold those of all runs under it."""
    for name in dict.fromkeys(under.run for under in run.record.over):
        below = RunStore(run.folder.parent).get(name) or store.get(name)
        if below is None or not _has_signatures(below):
            continue
        signatures, languages = _signatures_of(below), set(_training_languages(below))
        for encoded in splits:
            if encoded.split == "test" and encoded.language in languages:
                refuse_overlap(f"{run.name}: its intermediate {name}", signatures, task.name, encoded, tokenizer)


def _has_signatures(run: Run) -> bool:
    """Whether it was written down what a run trained on; runs of earlier versions have nothing."""
    return run.record.trained_on is not None or (run.folder / TRAINED_ON).is_file()


def _signatures_of(run: Run) -> np.ndarray:
    return read_signatures(run.folder / TRAINED_ON, run.record.trained_on)


def _training_languages(run: Run) -> Iterator[str]:
    codes = [code for data in run.record.data if data.split == "train" for code in data.language.split("+")]
    return iter(dict.fromkeys(codes))


# --- the task's own data: told ----------------------------------------------------------------------------------------


def leaks_of_job(job: Job, data: TrainingData, signatures: np.ndarray) -> tuple[Leak, ...]:
    """What a job trains on (`signatures`) of the development and test data of the languages that it trains on. Test
    data that cannot be read are no matter of training, and are left out."""
    trained = _trained_rows(job.identity)
    leaks = []
    for part in data.tasks:
        task = part.task
        for code in job.languages or (task.train_language,):
            for split in ("validation", "test"):
                try:
                    encoded = encode_split(task, code, split, job.backbone.tokenizer, part.labels, job.mirror)
                    leaks.append(_leak(task, encoded, signatures, trained, job.backbone.tokenizer, job.mirror))
                except StiltsError:
                    continue
    return tuple(leak for leak in leaks if leak is not None)


def leaks_of_run(
    run: Run, task: Task, splits: Sequence[EncodedSplit], tokenizer: Tokenizer, mirror: Path | None
) -> tuple[Leak, ...] | None:
    """What a run trained on of splits that are to be scored; None where it was not written down. That training data
    hold training data is no leak."""
    if not _has_signatures(run):
        return None
    signatures, trained = _signatures_of(run), _trained_rows(run.record.identity)
    leaks = (
        _leak(task, encoded, signatures, trained, tokenizer, mirror) for encoded in splits if encoded.split != "train"
    )
    return tuple(leak for leak in leaks if leak is not None)


def _leak(
    task: Task,
    split: EncodedSplit,
    signatures: np.ndarray,
    trained: set[str],
    tokenizer: Tokenizer,
    mirror: Path | None,
) -> Leak | None:
    """The leak of one split, where it is one: more than OWN_LEAK_SHARE of its texts, or the training data themselves,
    however short their texts are."""
    texts = remembered_signatures(split, tokenizer)
    shared = leaking_texts(signatures, texts, OWN_LEAK_SHARE)
    content = data_identity(task, split.language, split.split, mirror)
    identical = _rows(content, reading_of(task, split.language)) in trained
    if not shared and not identical:
        return None
    return Leak(
        task=task.name,
        language=split.language,
        split=split.split,  # type: ignore[arg-type]
        texts=len(texts),
        shared=shared,
        identical=identical,
    )


def _trained_rows(identity: Mapping[str, Any]) -> set[str]:
    """What `_rows` gives for all training data of a run."""
    entries = [entry for task in identity.get("tasks", ()) for entry in task["train"].values()]
    return {_rows(entry["data"], entry["reading"]) for entry in entries}


def _rows(content: str, reading: Mapping[str, Any]) -> str:
    """Which rows of which files: one file may hold all languages, told apart by a filter."""
    rules = ((key, reading["language"].get(key) or reading["data"].get(key) or {}) for key in ("filter", "exclude"))
    filters = [(key, sorted((name, list(map(str, values))) for name, values in rule.items())) for key, rule in rules]
    return repr((content, filters))
