"""From a request to a job: what goes together, the recipe that it gets, and what its identity holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.jobs.job import Intermediate, Job, MixedIn
from adapter_stilts.jobs.refusals import (
    check_amount,
    check_control,
    check_control_of,
    check_development_limit,
    check_equal_shapes,
    check_intermediate,
    check_languages,
    check_lengths,
    check_names,
)
from adapter_stilts.jobs.remembered import Remembered
from adapter_stilts.jobs.request import Request, only_train_language
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
from adapter_stilts.runs.store import Run
from adapter_stilts.schema import Recipe, Task, override
from adapter_stilts.tasks.catalog import find_task
from adapter_stilts.tasks.data import MissingData, data_identity
from adapter_stilts.tasks.encode import ENCODING_VERSION, reading_of
from adapter_stilts.tasks.kinds import MIXED_IN, find_kind
from adapter_stilts.tasks.recipes import recipe_for

# Raise it when training gives other weights for the same request: run names change with it.
TRAINING_VERSION = 3
# Fusion learns slowly: at the adapter's own rate it takes up what helps English, and zero-shot scores fall (embedded
# backbone, 500 examples, UDPOS: 76.3 at the adapter's rate, 77.2 at a tenth, 77.3 without intermediates).
FUSION_RATE_DIVISOR = 10
_MIXING = ("mixing", "mixing_cap", "mixing_temperature")
_MLM = ("mlm_share", "mlm_task")
# Fields that a recipe's `tuning` is not about.
_NOT_TUNED = ("tuning", "development_examples")
# Fields that make a row of their own in a table where they are set: what is trained, not how fast.
_VARIANT = (*USED_BY_METHOD, *_MIXING, *_MLM)

# What a request underneath is to the job that stands on it.
Below = Callable[[Request], Intermediate]


def mixed_in_of(
    request: Request, recipe: Recipe, mirror: Path | None, below: Below, known: Remembered
) -> MixedIn | None:
    """What a recipe mixes in. A backbone whose checkpoint has no head for it gets one that is trained first, on as much
    text. Raises UsageError for a task of another kind than recipes mix in."""
    if not recipe.mlm_share:
        return None
    task = find_task(recipe.mlm_task)
    if find_kind(task.kind) is not MIXED_IN:
        raise UsageError(f"mlm_task: found {task.name}, of kind {task.kind}, accepted a task of kind {MIXED_IN.name}")
    languages = known(present_languages, task, mirror)
    if MIXED_IN.has_pretrained is not None and known(MIXED_IN.has_pretrained, request.backbone):
        return MixedIn(task, languages, None)
    alone = replace(request, over=(), compose=None, settings={}, control=None)
    return MixedIn(task, languages, below(replace(alone, tasks=(task,), method="head", languages=languages)))


def resolve(
    request: Request,
    mirror: Path | None,
    below: Below | None = None,
    remembered: Remembered | None = None,
) -> Job:
    """Check a request and resolve it, with what it stands on; trains nothing, loads no weights and no rows.

    `below` gives the intermediate that a request underneath stands for (None: a job that is yet to run); `remembered`
    serves whoever resolves thousands. Data come from the Hub, or from the folder `mirror`. Raises UsageError for a
    composition that is not possible, a recipe field that does not exist or decides nothing, an intermediate of another
    backbone, method or shape.
    """
    request, known = request.normalised(), remembered or Remembered()
    composition, recipe = check_request(request, known)
    below = below or (lambda source: Intermediate.of_job(resolve(source, mirror, remembered=known)))
    over = tuple(Intermediate.of_run(source) if isinstance(source, Run) else below(source) for source in request.over)
    for intermediate in over:
        check_intermediate(intermediate, request.method, composition, recipe, request.backbone)
    if composition == "merge":
        check_equal_shapes(over, request.method)
    job = Job(
        tasks=request.tasks,
        method=request.method,  # type: ignore[arg-type]
        composition=composition,
        intermediates=over,
        backbone=request.backbone,
        recipe=recipe,
        seed=request.seed,
        limit=request.limit,
        match_tokens=request.match_tokens,
        languages=request.languages,
        control=request.control,
        mixed_in=mixed_in_of(request, recipe, mirror, below, known),
        variant=_variant(request, recipe, composition),
        precision=request.precision,
        mirror=mirror,
        identity={},
    )
    check_lengths(job)
    return identified(job, known)


def identified(job: Job, remembered: Remembered | None = None) -> Job:
    """The job with the identity of its data as they are now: everything that decides its weights, whose hash names the
    run."""
    known, masked = remembered or Remembered(), job.mixed_in
    identity = {
        "training": TRAINING_VERSION,
        "backbone": job.backbone.sha256,
        "tokenizer": job.backbone.summary.tokenizer_sha256,
        "tasks": [
            known(_task_identity, task, job.languages or (task.train_language,), job.mirror) for task in job.tasks
        ],
        "method": job.method,
        "composition": job.composition,
        "over": [intermediate.identity_hash for intermediate in job.intermediates],
        "recipe": known(_used_fields, job.recipe, job.tasks, job.method, job.composition, masked is not None),
        "seed": job.seed,
        "limit": job.limit,
        "match_tokens": job.match_tokens,
        "control": job.control,
        MIXED_IN.name: None if masked is None else _mixed_in_identity(masked, job.mirror),
        "precision": job.precision,
    }
    return replace(job, identity=identity)


def check_request(request: Request, remembered: Remembered | None = None) -> tuple[Composition, Recipe]:
    """Composition and recipe of a (normalised) request, checked as far as that goes without what lies underneath.

    Raises UsageError for what does not go together: so a request that cannot end well trains no intermediate first.
    """
    known, intermediates = remembered or Remembered(), len(request.over)
    check_development_limit(request.development_limit, request.settings)
    check_languages(request.tasks, request.languages)
    choice = (request.tasks, request.method, request.compose, intermediates, request.recipe_settings, request.backbone)
    composition, recipe = known(_composition_and_recipe, *choice)
    check_names(request.tasks)
    check_amount(request.limit, request.match_tokens)
    check_control(request.control, intermediates)
    check_control_of(request.tasks, request.control)
    return composition, recipe


def _composition_and_recipe(
    tasks: Sequence[Task],
    method: str,
    compose: str | None,
    intermediates: int,
    settings: Mapping[str, str],
    backbone: Backbone,
) -> tuple[Composition, Recipe]:
    composition = choose_composition(method, compose, intermediates)
    recipe = resolve_recipe(tasks, method, composition, settings, backbone)
    if composition == "fuse" and recipe.fusion_learning_rate is None:
        recipe = recipe.model_copy(update={"fusion_learning_rate": recipe.learning_rate / FUSION_RATE_DIVISOR})
    check_recipe(recipe, method, composition, intermediates, backbone)
    return composition, recipe


def _used_fields(
    recipe: Recipe, tasks: Sequence[Task], method: str, composition: str, mixed_in: bool
) -> dict[str, Any]:
    """The fields of the recipe that decide something here."""
    unused = {"tuning", *unused_fields(method, composition), *_mixed(tasks)}
    return recipe.model_dump(mode="json", exclude=unused if mixed_in else {*unused, *_MLM})


def resolve_recipe(
    tasks: Sequence[Task], method: str, composition: str, settings: Mapping[str, str], backbone: Backbone
) -> Recipe:
    """The recipe of the first task for the method and backbone with `settings` in place.

    Raises UsageError for a setting that decides nothing here: who typed it expects it to.
    """
    default = recipe_for(tasks[0], method, backbone.id)  # type: ignore[arg-type]
    recipe, tuning = override(default, settings), default.tuning
    changed = [key for key in settings if key not in _NOT_TUNED and getattr(recipe, key) != getattr(default, key)]
    if tuning and changed and recipe.tuning == tuning:
        # What was tuned for other values is no word on these.
        recipe = recipe.model_copy(update={"tuning": f"{', '.join(changed)} set otherwise than tuned: {tuning}"})
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
    task, head = mixed_in.task, mixed_in.head
    return {
        "name": task.name,
        "version": task.version,
        "text": {code: data_identity(task, code, "train", mirror) for code in mixed_in.languages},
        "head": "checkpoint" if head is None else head.identity_hash,
    }


def _variant(request: Request, recipe: Recipe, composition: str) -> str:
    """What sets a run apart from others of its method and composition, in a reader's words."""
    parts = []
    if composition == "fuse":
        parts.append(f"{recipe.fusion} fusion" + ("" if recipe.fusion_null else " without null"))
    if composition == "merge":
        parts.append(f"{recipe.merge or MERGES[request.method][0]}, then {recipe.merge_then}")
        weights = recipe.merge_weights
        parts += [f"weights {'/'.join(f'{weight:g}' for weight in weights)}"] if weights else []
    defaults = Recipe()
    unset = recipe_for(request.tasks[0], request.method, request.backbone.id)  # type: ignore[arg-type]
    for key in _VARIANT:
        changed = key in request.settings and getattr(recipe, key) != getattr(unset, key)
        # An architecture other than the usual one is another row also where the task's own recipe says so.
        unusual = key in ("adapter", "layers") and getattr(recipe, key) != getattr(defaults, key)
        if key != "mlm_share" and (changed or unusual):
            parts.append(f"{key}={request.settings.get(key, getattr(recipe, key))}")
    parts += [f"{recipe.mlm_share:g} MLM"] if recipe.mlm_share else []
    if request.languages and not only_train_language(request.tasks, request.languages):
        parts.append(f"in {'+'.join(request.languages)}")
    parts += [f"{request.match_tokens} tokens"] if request.match_tokens else []
    return ", ".join(parts)
