"""What a run is scored on: the task as it is now, which must read its files as the run's training did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapter_stilts.errors import UsageError
from adapter_stilts.runs.manifest import MULTI_TASK
from adapter_stilts.runs.store import Run, content_hash
from adapter_stilts.schema import Task
from adapter_stilts.strict_yaml import Location, location_text
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.data import MissingData, data_identity
from adapter_stilts.tasks.encode import reading_of
from adapter_stilts.tasks.kinds import find_kind

# Which sentences are scored, where a part of a split is asked for: the same for every run, whatever its seed.
TEST_SEED = 0
# Raised where an unchanged run would get other scores. 2: on CUDA in fp16 in place of bf16.
SCORING_VERSION = 2


def task_of(run: Run, task: Task | Path | str | None = None) -> Task:
    """The task whose files the run is scored on: the one given (itself, its name or its YAML), else the one that the
    run was last asked for with.

    Raises UsageError where that is gone, and where it is not what the run was trained on: another name or version,
    other columns, labels, filters (where the data files lie, and what is in them, is free).
    """
    require_labels(run)
    if task is None:
        config = run.record.task.config
        if config.endswith((".yaml", ".yml")) and not Path(config).is_file():
            raise UsageError(f"{config}: found no such file, accepted with --task FILE: the YAML of {run.name}'s task")
        task = config
    current = task if isinstance(task, Task) else find_task(str(task))
    difference = next(_differences(run, current), None)
    if difference is not None:
        location, value, accepted = difference
        key = f"{current.name}: {'.'.join(map(str, location))}"
        where = location_text(current.path, location) if current.path.is_file() else key
        raise UsageError(f"{where}: found {_shown(value)}, accepted {_shown(accepted)}, as {run.name} was trained")
    return current


def _differences(run: Run, task: Task) -> Iterator[tuple[Location, Any, Any]]:
    """(key of the YAML, what it says, what the run was trained with) of all that training took from the YAML."""
    stored = run.record.task
    trained: Mapping[str, Any] = next(iter(run.record.identity.get("tasks", ())), {})
    pairs = [
        ("name", task.name, stored.name),
        ("version", task.version, stored.version),
        ("kind", task.kind, stored.kind),
        ("word_piece", task.options.labelling, run.record.word_piece),
        ("selection_metric", task.selection_metric, stored.selection_metric),
    ]
    # Runs from before a kind had options of its own say nothing of them.
    options = task.options.stored()
    pairs += [(key, value, trained.get("options", options).get(key)) for key, value in options.items()]
    yield from (((key,), now, then) for key, now, then in pairs if now != then)
    for code, entry in trained.get("train", {}).items():
        # A YAML that has no such language is held against what training took for all languages.
        some = code if code in task.data.languages else next(iter(task.data.languages))
        now, then = reading_of(task, some), entry["reading"]
        if some != code:
            now, then = ({**reading, "language": {}} for reading in (now, then))
        yield from _reading_differences(now, then, some)


def _reading_differences(
    now: Mapping[str, Any], then: Mapping[str, Any], code: str
) -> Iterator[tuple[Location, Any, Any]]:
    above: dict[str, Location] = {"data": ("data",), "language": ("data", "languages", code)}
    for key in dict.fromkeys([*then, *now]):
        yield from _deepest(above.get(key, (key,)), now.get(key), then.get(key))


def _deepest(location: Location, now: Any, then: Any) -> Iterator[tuple[Location, Any, Any]]:
    """The parts of two nested mappings that differ."""
    if isinstance(now, Mapping) and isinstance(then, Mapping):
        for key in dict.fromkeys([*then, *now]):
            yield from _deepest((*location, key), now.get(key), then.get(key))
    elif now != then:
        yield location, now, then


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def require_labels(run: Run) -> None:
    """Raise UsageError for a run that predicts no answers of one task: on several tasks, or on text without any."""
    kind = run.record.task.kind
    if kind == MULTI_TASK or not find_kind(kind).has_answers:
        raise UsageError(f"{run.name}: found kind {kind}, accepted a run on one task that has labels")


def check_languages(task: Task, languages: str | Sequence[str] | None) -> list[str]:
    """The languages asked for (a text holds one, or several with commas between), or all of the task.

    Raises UsageError for one that the task does not have, and for none.
    """
    if languages is None:
        return list(task.data.languages)
    codes = [code.strip() for code in languages.split(",")] if isinstance(languages, str) else list(languages)
    accepted = f"accepted for {task.name}: {', '.join(task.data.languages)}"
    if not codes:
        raise UsageError(f"--languages: found none, {accepted}")
    for code in codes:
        if code not in task.data.languages:
            raise UsageError(f"--languages: found {code!r}, {accepted}")
    return list(dict.fromkeys(codes))


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


def evaluation_name(
    run: Run, metrics: Sequence[str], split: str, limit: int | None, identities: Mapping[str, str]
) -> str:
    """The name of an evaluation's folder: what is scored, by content, and in which of the task's metrics."""
    known = find_kind(run.record.task.kind).metrics
    identity = {
        "run": content_hash(run.record.identity),
        "split": split,
        "limit": limit,
        "test_seed": TEST_SEED,
        "scoring": SCORING_VERSION,
        "data": dict(identities),
        "metrics": {name: known[name].version for name in metrics},
    }
    return f"{split}-{content_hash(identity)}"
