"""Labels for a user's own file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapter_stilts.engine.device import default_device
from adapter_stilts.engine.predicting import predict_answers
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.evaluation.scored_task import require_labels
from adapter_stilts.evaluation.zero_shot import load_run
from adapter_stilts.memory import memory_given_back
from adapter_stilts.model.protocols import Model
from adapter_stilts.paths import mirror_dir
from adapter_stilts.progress import Reporter, progress
from adapter_stilts.runs.manifest import Manifest, read_manifest
from adapter_stilts.runs.store import Run, bundle_of
from adapter_stilts.tasks.documents.document import Reading
from adapter_stilts.tasks.encode import EncodedSplit
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.kinds.contract import Answer, HeadUse
from adapter_stilts.tasks.tokenizer import Tokenizer
from adapter_stilts.threads import computing_with, thread_count

# Examples that are encoded and predicted at a time: a large file never stands encoded in memory as a whole.
PORTION = 2_000


@memory_given_back()
def predict_file(
    run: Run,
    path: Path,
    *,
    file_format: str | None = None,
    columns: Mapping[str, str] | None = None,
    mirror: Path | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> bytes:
    """The file with the run's labels, in its own format and order, whatever the length of its sentences.

    `file_format` is one of `formats.FORMATS`, known from the name or from what the lines look like where it is None. A
    tagging run reads all but `tsv`, a classification run `tsv`, `jsonl`, `parquet` and `text`. `columns` (role -> the
    file's column) replaces columns of the run's task. Everything but the labels stays as it was:

    - `conllu`, `conllup`: in UPOS where all labels are UPOS tags, in XPOS, DEPREL or a key of MISC where the run was
      trained on that, else as `Label=...` in MISC (in CoNLL-U Plus without MISC in a new column STILTS:LABEL).
    - `conll`: over the task's column of labels where the task's data are such files, else as one more column, the last.
    - `tsv`, `jsonl`, `parquet`: in the task's column of labels, or else in `labels` (`label`), replaced or added.
    - `text`: a sentence a line with blanks between its words becomes `word<TAB>label` a line and a blank line between
      sentences; a text, or `text<TAB>text_pair`, a line becomes `label<TAB>line`. Blank lines produce nothing.

    `threads` compute on a CPU (default: as many as PyTorch has been given).

    Raises UsageError where there is no such file and where its format cannot be known, DataError for a malformed line
    (file and line), for labels that would break the file and for a file without a sentence, StiltsError for a run whose
    weights are damaged or were not kept.
    """
    require_labels(run)
    mirror, threads = mirror_dir(mirror), thread_count(threads)
    kind = find_kind(run.record.task.kind)
    if kind.documents is None:
        raise UsageError(
            f"{run.name}: found kind {kind.name}, which reads no files of users, accepted a run of another"
        )
    document = kind.documents(reading_of_run(run), path, file_format, columns or {})
    count = len(next(iter(document.columns.values())))
    model, manifest, backbone = load_run(run, mirror, device or default_device())
    answers: list[Answer] = []
    with computing_with(threads), progress(f"{run.name} {path.name}", count, "examples") as reporter:
        for first in range(0, count, PORTION):
            portion = {name: values[first : first + PORTION] for name, values in document.columns.items()}
            answers += _predict(model, manifest, encode_texts(portion, manifest, backbone.tokenizer), reporter)
    return document.render(answers)


def _predict(model: Model, manifest: Manifest, split: EncodedSplit, reporter: Reporter) -> list[Answer]:
    use, examples = HeadUse(manifest.head, find_kind(manifest.kind)), np.arange(split.examples)
    predicted = predict_answers(model, use, split, examples, lambda tokens: reporter.advance(0, tokens=tokens))
    reporter.advance(split.examples)
    return predicted.answers


def reading_of_run(run: Run) -> Reading:
    """How the run read its first training language. Raises StiltsError where its record does not say so."""
    record, kind = run.record, find_kind(run.record.task.kind)
    tasks = record.identity.get("tasks")
    if not tasks:
        raise StiltsError(f"{record.name}: its record does not say which columns it read; train it again to have them")
    reading = next(iter(tasks[0]["train"].values()))["reading"]
    of_language, shared = reading["language"], reading["data"]
    columns = of_language.get("columns") or shared["columns"]
    if lacking := [role for role in kind.columns if role not in columns]:
        named = f"columns {', '.join(columns)[:80]} in its record's identity"
        raise StiltsError(f"{record.name}: found {named}, accepted {', '.join(lacking)} among them")
    return Reading(
        kind,
        of_language.get("format") or shared.get("format"),
        {role: tuple(name) if isinstance(name, list) else name for role, name in columns.items()},
        reading.get("label_until"),
        record.labels,
        read_manifest(bundle_of(run)).kind_options(),
    )


def encode_texts(columns: dict[str, list[Any]], manifest: Manifest, tokenizer: Tokenizer) -> EncodedSplit:
    """Texts without gold labels, encoded in memory as the run's training data were."""
    sequences = list(find_kind(manifest.kind).encode(columns, tokenizer, manifest.kind_options(), None))
    return EncodedSplit(
        language="",
        split="",
        sha256="",
        source="",
        revision=None,
        examples=len(next(iter(columns.values()))),
        label_names=manifest.labels,
        trained=len(manifest.labels),
        example=np.array([sequence.example for sequence in sequences]),
        ids=_flat(sequence.input_ids for sequence in sequences),
        id_offsets=_offsets(len(sequence.input_ids) for sequence in sequences),
        starts=_flat(sequence.starts for sequence in sequences),
        ends=_flat(sequence.ends for sequence in sequences),
        targets={},
        unit_offsets=_offsets(len(sequence.starts) for sequence in sequences),
    )


def _flat(parts: Iterable[Sequence[int]]) -> np.ndarray:
    return np.fromiter((number for part in parts for number in part), dtype=np.int32)


def _offsets(lengths: Iterable[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(list(lengths))]).astype(np.int64)
