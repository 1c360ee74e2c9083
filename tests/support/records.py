"""Scored runs written by hand: a record, scores and predictions, without any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapter_stilts.evaluation.predictions import Predictions, write_predictions
from adapter_stilts.evaluation.scores import SCORES, Scores
from adapter_stilts.runs.manifest import StoredBackbone
from adapter_stilts.runs.record import Control, Cost, Record, StoredData, StoredTask, Underneath, write_record
from adapter_stilts.runs.store import EVALUATIONS, Run
from adapter_stilts.schema import Recipe

SENTENCES, WORDS = 20, 5
TRAIN = StoredData(
    task="tags",
    language="en",
    split="train",
    sha256="0",
    source="by hand",
    revision=None,
    available=1_000,
    examples=1_000,
    tokens=9_000,
    units=8_000,
)
TASK = StoredTask(
    config="tags",
    name="tags",
    version=1,
    kind="tagging",
    role="target",
    knowledge="syntactic",
    granularity="token",
    metrics=("accuracy",),
    selection_metric="accuracy",
    licence="none",
)


def under(label: str, control: Control | None = None, run: str | None = None, development: float = 80.0) -> Underneath:
    """An intermediate by its label."""
    task = label.partition(" (")[0]
    return Underneath(
        run=run or f"run of {label}",
        task=task,
        label=label,
        control=control,
        knowledge="syntactic",
        granularity="token",
        development=development,
    )


def write_run(
    store: Path,
    method: str,
    composition: str,
    right: int | Mapping[str, int],
    *,
    over: Sequence[Underneath] = (),
    seed: int = 0,
    development: float = 90.0,
    recipe: Mapping[str, Any] | None = None,
    bundle_bytes: int = 3_456_789,
    **changes: Any,
) -> Run:
    """A run that got so many of the 100 words of each language right: the same number in German, Dutch and Chinese, and
    90 in English, unless it says otherwise."""
    counts = {"en": 90, **(dict.fromkeys(("de", "nl", "zh"), right) if isinstance(right, int) else right)}
    name = f"run-{len(list(store.glob('*'))):02}"
    fields: dict[str, Any] = {
        "variant": "",
        "control": None,
        "languages": ("en",),
        "match_tokens": None,
        "limit": None,
        "identity": {},
        "trainable_parameters": 1_234_567,
        "precision": "float32",
    }
    record = Record(
        name=name,
        task=TASK,
        method=method,  # type: ignore[arg-type]
        composition=composition,  # type: ignore[arg-type]
        over=tuple(over),
        backbone=StoredBackbone(id="tiny", revision=None, sha256="0", hidden_size=32, layers=2),
        seed=seed,
        recipe=Recipe(**(recipe or {})),
        word_piece="first_content",
        labels=("A", "B"),
        data=(TRAIN,),
        parts=(),
        total_parameters=100_000_000,
        history=(),
        selected_epoch=0,
        development=development,
        cost=Cost(
            train_seconds=1_000.0,
            seconds=1_234.4,
            steps=10,
            tokens_per_second=9.0,
            peak_memory_bytes=1,
            bundle_bytes=bundle_bytes,
        ),
        device="cpu",
        threads=1,
        packages={},
        python="3.11",
        created="2026-01-01",
        **(fields | changes),
    )
    folder = store / name
    (folder / EVALUATIONS / "test").mkdir(parents=True)
    write_record(folder, record)
    _write_scores(folder / EVALUATIONS / "test", record, counts)
    return Run(folder, record)


def _write_scores(folder: Path, record: Record, counts: Mapping[str, int]) -> None:
    zero_shot = [counts[code] for code in counts if code != "en"]
    scores = Scores(
        run=record.name,
        task=record.task.name,
        split="test",
        limit=None,
        metrics=("accuracy",),
        metric_versions={},
        labelling="first_content",
        languages={code: {"accuracy": float(right), "n": float(SENTENCES)} for code, right in counts.items()},
        mean={"accuracy": float(np.mean(list(counts.values())))},
        mean_zero_shot={"accuracy": float(np.mean(zero_shot))},
        missing={},
    )
    (folder / SCORES).write_text(scores.model_dump_json())
    write_predictions(folder, [_predictions(code, right) for code, right in counts.items()], "tagging")


def _predictions(code: str, right: int) -> Predictions:
    """The right words are spread over the sentences, the same ones for the same number."""
    words = SENTENCES * WORDS
    labels = np.full(words, "B")
    labels[np.random.default_rng(len(code)).permutation(words)[:right]] = "A"
    gold = [["A"] * WORDS] * SENTENCES
    return Predictions(code, range(SENTENCES), labels.reshape(SENTENCES, WORDS).tolist(), gold)
