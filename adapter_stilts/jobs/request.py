"""From a request to a job: what goes together, the recipe that it gets, and what its identity holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.jobs.job import Job, MixedIn
from adapter_stilts.jobs.refusals import (
    check_amount,
    check_control,
    check_equal_shapes,
    check_intermediate,
    check_names,
)
from adapter_stilts.jobs.remembered import Remembered
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.composition import (
    MERGES,
    USED_BY_COMPOSITION,
    USED_BY_METHOD,
    Composition,
    check_recipe,
    choose_composition,
    unused_fields,
)
from adapter_stilts.runs.record import Control
from adapter_stilts.runs.store import Run, content_hash
from adapter_stilts.schema import Recipe, Task, override
from adapter_stilts.tasks.data import MissingData, data_identity
from adapter_stilts.tasks.encode import ENCODING_VERSION, reading_of
from adapter_stilts.tasks.kinds import MIXED_IN
from adapter_stilts.tasks.recipes import recipe_for

# Raise it when training gives other weights for the same request: run names change with it.
TRAINING_VERSION = 3
# Fusion learns slowly: at the adapter's own rate it takes up what helps English, and zero-shot scores fall (embedded
# backbone, 500 examples, UDPOS: 76.3 at the adapter's rate, 77.2 at a tenth, 77.3 without intermediates).
FUSION_RATE_DIVISOR = 10
_MIXING = ("mixing", "mixing_cap", "mixing_temperature")
_MASKED_LM = ("mlm_share", "mlm_task")
# Fields that a recipe's `tuning` is not about.
_NOT_TUNED = ("tuning", "development_examples")
# Fields that make a row of their own in a table where they are set: what is trained, not how fast.
_VARIANT = (*USED_BY_METHOD, *_MIXING, *_MASKED_LM)


def make_job(
    tasks: Sequence[Task],
    *,
    intermediates: Sequence[Run] = (),
    compose: str | None = None,
    method: str,
    backbone: Backbone,
    seed: int,
    limit: int | None = None,
    match_tokens: int | None = None,
    languages: Sequence[str] | None = None,
    control: Control | None = None,
    settings: Mapping[str, str] | None = None,
    mixed_in_head: Run | None = None,
    mixed_in_task: Task | None = None,
    precision: str,
    mirror: Path | None,
    remembered: Remembered | None = None,
) -> Job:
    """Check a request and resolve it; loads no weights and no rows. `remembered` serves whoever makes thousands.

    Raises UsageError for a composition that is not possible, a recipe field that does not exist or decides nothing, an
    intermediate of another backbone, method or shape.
    """
    known = remembered or Remembered()
    request = (tasks, method, compose, len(intermediates), settings or {}, backbone, limit, match_tokens, control)
    composition, recipe = known(check_request, *request)
    for run in intermediates:
        check_intermediate(run, method, composition, recipe, backbone)
    if composition == "merge":
        check_equal_shapes(intermediates, method)
    mixed_in = None
    if mixed_in_task is not None:
        mixed_in = MixedIn(mixed_in_task, present_languages(mixed_in_task, mirror), mixed_in_head)
    job = Job(
        tuple(tasks),
        method,  # type: ignore[arg-type]
        composition,
        tuple(intermediates),
        backbone,
        recipe,
        seed,
        limit,
        match_tokens,
        tuple(languages) if languages else None,
        control,
        mixed_in,
        _variant(recipe, method, composition, settings or {}, languages, match_tokens),
        precision,
        mirror,
        identity={},
    )
    return replace(job, identity=_identity(job, known))


def _identity(job: Job, known: Remembered) -> dict[str, Any]:
    """Everything that decides the weights of a job: its hash names the run."""
    masked = job.mixed_in
    return {
        "training": TRAINING_VERSION,
        "backbone": job.backbone.sha256,
        "tokenizer": job.backbone.summary.tokenizer_sha256,
        "tasks": [known(_task_identity, own, job.languages or (own.train_language,), job.mirror) for own in job.tasks],
        "method": job.method,
        "composition": job.composition,
        "over": [known(content_hash, run.record.identity, by_content=False) for run in job.intermediates],
        "recipe": known(_used_fields, job.recipe, job.tasks, job.method, job.composition, masked),
        "seed": job.seed,
        "limit": job.limit,
        "match_tokens": job.match_tokens,
        "control": job.control,
        MIXED_IN.name: None if masked is None else _mixed_in_identity(masked, job.mirror),
        "precision": job.precision,
    }


def check_request(
    tasks: Sequence[Task],
    method: str,
    compose: str | None,
    intermediates: int,
    settings: Mapping[str, str],
    backbone: Backbone,
    limit: int | None,
    match_tokens: int | None,
    control: str | None,
) -> tuple[Composition, Recipe]:
    """Composition and recipe of a request over so many intermediates, checked as far as that goes without them.

    Raises UsageError for what does not go together: so a request that cannot end well trains no intermediate first.
    """
    composition = choose_composition(method, compose, intermediates)
    recipe = resolve_recipe(tasks, method, composition, settings, backbone)
    if composition == "fuse" and recipe.fusion_learning_rate is None:
        recipe = recipe.model_copy(update={"fusion_learning_rate": recipe.learning_rate / FUSION_RATE_DIVISOR})
    check_recipe(recipe, method, composition, intermediates, backbone)
    check_names(tasks)
    check_amount(limit, match_tokens)
    check_control(control, intermediates)
    return composition, recipe


def _used_fields(
    recipe: Recipe, tasks: Sequence[Task], method: str, composition: str, mixed_in: MixedIn | None
) -> dict[str, Any]:
    """The fields of the recipe that decide something here."""
    unused = {"tuning", *unused_fields(method, composition), *_mixed(tasks)}
    return recipe.model_dump(mode="json", exclude=unused if mixed_in is not None else {*unused, *_MASKED_LM})


def resolve_recipe(
    tasks: Sequence[Task], method: str, composition: str, settings: Mapping[str, str], backbone: Backbone
) -> Recipe:
    """The recipe of the first task for the method and backbone with `settings` in place.

    Raises UsageError for a setting that decides nothing here: who typed it expects it to.
    """
    own = recipe_for(tasks[0], method, backbone.id)  # type: ignore[arg-type]
    recipe = override(own, settings)
    changed = [key for key in settings if key not in _NOT_TUNED and getattr(recipe, key) != getattr(own, key)]
    if own.tuning and changed and recipe.tuning == own.tuning:
        # What was found for other values is no word on these.
        recipe = recipe.model_copy(update={"tuning": f"{', '.join(changed)} set otherwise than tuned: {own.tuning}"})
    unused = unused_fields(method, composition) | set(_mixed(tasks))
    for key in settings:
        if key in unused:
            users = USED_BY_METHOD.get(key) or USED_BY_COMPOSITION.get(key) or ("several tasks",)
            raise UsageError(
                f"--set {key}: decides nothing under {method} {composition}, accepted with {', '.join(users)}"
            )
    return recipe


def present_languages(task: Task, mirror: Path | None) -> tuple[str, ...]:
    """The task's languages that have training data. Raises StiltsError where none has."""
    present, reason = [], ""
    for code in task.data.languages:
        try:
            data_identity(task, code, "train", mirror)
            present.append(code)
        except MissingData as error:
            reason = reason or str(error)
    if not present:
        raise StiltsError(f"{task.name}: no training text in any language; first: {reason}")
    return tuple(present)


def _mixed(tasks: Sequence[Task]) -> tuple[str, ...]:
    return () if len(tasks) > 1 else _MIXING


def _task_identity(task: Task, languages: Sequence[str], mirror: Path | None) -> dict[str, Any]:
    def content(split: str, codes: Sequence[str]) -> dict[str, Any]:
        return {
            code: {"data": data_identity(task, code, split, mirror), "reading": reading_of(task, code)}
            for code in codes
        }

    return {
        "name": task.name,
        "version": task.version,
        "encoding": ENCODING_VERSION,
        "train": content("train", languages),
        "development": content("validation", (task.train_language,)),
        **task.options.identity(),
        "selection_metric": task.selection_metric,
    }


def _mixed_in_identity(mixed_in: MixedIn, mirror: Path | None) -> dict[str, Any]:
    task, run = mixed_in.task, mixed_in.head_run
    return {
        "name": task.name,
        "version": task.version,
        "text": {code: data_identity(task, code, "train", mirror) for code in mixed_in.languages},
        "head": "checkpoint" if run is None else content_hash(run.record.identity),
    }


def _variant(
    recipe: Recipe,
    method: str,
    composition: str,
    settings: Mapping[str, str],
    languages: Sequence[str] | None,
    match_tokens: int | None,
) -> str:
    """What sets a run apart from others of its method and composition, in a reader's words."""
    parts = []
    if composition == "fuse":
        parts.append(f"{recipe.fusion} fusion" + ("" if recipe.fusion_null else " without null"))
    if composition == "merge":
        parts.append(f"{recipe.merge or MERGES[method][0]}, then {recipe.merge_then}")
        parts += [f"weights {'/'.join(f'{own:g}' for own in recipe.merge_weights)}"] if recipe.merge_weights else []
    defaults = Recipe()
    for field in _VARIANT:
        # An architecture other than the usual one is another row also where the task's own recipe says so.
        unusual = field in ("adapter", "layers") and getattr(recipe, field) != getattr(defaults, field)
        if field != "mlm_share" and (field in settings or unusual):
            parts.append(f"{field}={settings.get(field, getattr(recipe, field))}")
    parts += [f"{recipe.mlm_share:g} MLM"] if recipe.mlm_share else []
    parts += [f"in {'+'.join(languages)}"] if languages else []
    parts += [f"{match_tokens} tokens"] if match_tokens else []
    return ", ".join(parts)
