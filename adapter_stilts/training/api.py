"""`train`: from a request to a finished run in the store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from adapter_stilts.arguments import choice, kind, language_codes, listed, path_of, seed_of, settings_of, whole_number
from adapter_stilts.engine.build import build_model
from adapter_stilts.engine.bundle import save_bundle
from adapter_stilts.engine.device import (
    TRAINING_PRECISIONS,
    default_device,
    default_precision,
    peak_memory_bytes,
    reset_peak_memory,
)
from adapter_stilts.errors import StiltsError, UsageError
from adapter_stilts.evaluation.floor import nothing_learnt_in_development
from adapter_stilts.jobs.job import Job
from adapter_stilts.jobs.leaks import leaks_of_job, refuse_leaks, trained_on
from adapter_stilts.jobs.refusals import check_control
from adapter_stilts.jobs.request import check_request, make_job, present_languages
from adapter_stilts.jobs.training_data import load_training_data
from adapter_stilts.memory import memory_given_back
from adapter_stilts.model.backbone import DEFAULT_BACKBONE, Backbone, fetch_weights, load_backbone
from adapter_stilts.model.composition import BOTTLENECK_NAMES
from adapter_stilts.paths import exists, mirror_dir, sha256_file, user_path
from adapter_stilts.progress import say
from adapter_stilts.runs.claims import Claims
from adapter_stilts.runs.leaks import Leak, leak_line
from adapter_stilts.runs.record import Control, Cost, read_record, write_record
from adapter_stilts.runs.store import BUNDLE, TRAINED_ON, Keep, Run, RunStore, bundle_of, check_copy
from adapter_stilts.runs.tidy import tidy
from adapter_stilts.schema import Task
from adapter_stilts.tasks.catalog import Named, find_task, find_tasks
from adapter_stilts.tasks.kinds import find_kind
from adapter_stilts.tasks.overlap import write_signatures
from adapter_stilts.threads import computing_with, thread_count
from adapter_stilts.training.checkpoint import checkpoints_of
from adapter_stilts.training.describe import asked_with, manifest_of, record_of
from adapter_stilts.training.execution import Execution
from adapter_stilts.training.trainer import fit

Underneath = str | Path | Task | Run


def train(
    task: Named | Sequence[Named],
    *,
    over: Underneath | Sequence[Underneath] = (),
    compose: str | None = None,
    method: str = "bottleneck",
    backbone: str | Path | Backbone = DEFAULT_BACKBONE,
    seed: int = 0,
    limit: int | None = None,
    development_limit: int | None = None,
    match_tokens: int | None = None,
    languages: str | Sequence[str] | None = None,
    control: Control | None = None,
    settings: Mapping[str, Any] | None = None,
    runs: RunStore | Path | str | None = None,
    mirror: Path | str | None = None,
    out: Path | str | None = None,
    device: str | None = None,
    weights: bool = True,
    keep: Keep = "all",
    precision: str | None = None,
    execution: Execution | None = None,
    threads: int | None = None,
) -> Run:
    """Train a task, over intermediates if any are given, and return the finished run.

    `task` is a task's name, a YAML file or a loaded `Task`; several of them, or names with + between, train together,
    with one adapter and a head each. Each of `over` is a finished run (itself, its name, a unique beginning of it, its
    folder) or a task, or tasks with + between, which is then trained first with the same method, backbone, seed and
    limits (`settings` are the target's alone); TASK@random and TASK@shuffled are its controls. `compose` says how the
    intermediates lie under the target: see `adapter_stilts.model.composition`. `method` is bottleneck, lora, dora, ia3,
    full or head; houlsby, parallel and compacter are bottleneck adapters by name. `limit` is the number of training
    examples of each task, drawn with the seed; `match_tokens` is instead a number of pieces: of the intermediates, or
    of the run itself where it stands on none. `development_limit` is the number of development examples that are scored
    after each epoch, of the intermediates too: the recipe's `development_examples` (default: the recipe's, or all).
    `languages` are those of the training data (default: the task's own, English); `settings` replace fields of the
    recipe, by values or by the text that would be typed after --set.
    A run that exists is returned as it is; one whose weights were not kept is trained again if `weights` are wanted.
    `keep="scores"` wants no weights and writes none: a trial whose development score alone matters.
    `out` gets a copy of the run's folder. `precision` is float32 or bf16 (default: bf16 on CUDA, float32 on a CPU), of
    the intermediates that are trained first too; predictions have one of their own. `execution` says how it is
    computed, which decides nothing of the result. `threads` compute on a CPU, the intermediates too (default: as many
    as PyTorch has been given); batches of fewer than 512 pieces may round otherwise with one than with several.

    Raises UsageError for a request that makes no sense, StiltsError for work that failed; nothing half-written stays.
    """
    over = listed("--over", over, (str, Path, Task, Run), "runs and tasks: names, paths, Run or Task objects")
    languages = language_codes("--languages", languages)
    seed, limit = seed_of("--seed", seed), whole_number("--limit", limit)
    match_tokens, threads = whole_number("--match-tokens", match_tokens), thread_count(threads)
    settings = with_development_limit(settings_of("settings", settings), development_limit)
    out = path_of("--out", out)
    check_kinds(backbone=backbone, runs=runs, method=method, compose=compose, device=device, execution=execution)
    choice("keep", keep, get_args(Keep))
    choice("--precision", precision, TRAINING_PRECISIONS)
    store = runs if isinstance(runs, RunStore) else RunStore(runs)
    tidy(store)
    mirror = mirror_dir(path_of("--hub-mirror", mirror))
    if out is not None:
        check_copy(out)
    device = device or default_device()
    precision = precision or default_precision(device)
    base = backbone if isinstance(backbone, Backbone) else load_backbone(backbone, mirror=mirror)
    tasks = find_tasks(task)
    named = method
    if method in BOTTLENECK_NAMES:
        method, settings = "bottleneck", {"adapter": method, **settings}
    amount: dict[str, Any] = {"limit": limit, "match_tokens": None if over else match_tokens}
    below_amount = {"limit": None if match_tokens else limit, "match_tokens": match_tokens}
    check_languages(tasks, languages)
    _, recipe = check_request(
        tasks, method, compose, len(over), settings, base, amount["limit"], amount["match_tokens"], control
    )
    below = [resolve_intermediate(own, store) for own in over]
    # By the name that was asked for: what lies under a houlsby adapter is one.
    shared: dict[str, Any] = {"method": named, "backbone": base, "seed": seed, "device": device}
    shared |= {"runs": store, "mirror": mirror, "precision": precision, "execution": execution}
    shared["threads"] = threads
    shared["development_limit"] = development_limit
    mixed_in = find_task(recipe.mlm_task) if recipe.mlm_share else None

    def job_over(want_weights: bool) -> Job:
        return make_job(
            tasks,
            intermediates=[own.run({**shared, **below_amount, "weights": want_weights}) for own in below],
            compose=compose,
            method=method,
            backbone=base,
            seed=seed,
            **amount,
            languages=languages,
            control=control,
            settings=settings,
            mixed_in_head=_mixed_in_head(mixed_in, {**shared, **amount, "weights": want_weights}),
            mixed_in_task=mixed_in,
            precision=precision,
            mirror=mirror,
        )

    # A target that is done needs no weights underneath: an intermediate that was dropped is not trained again for it.
    job = job_over(want_weights=False)
    run = store.get(job.name)
    if run is None or (weights and keep != "scores" and not run.has_weights):
        store.check()
        (execution or Execution()).check()
        with _needing(job.intermediates, store), computing_with(threads), _random_numbers_kept(device):
            job = job_over(want_weights=True)
            refuse_leaks(job)
            run = execute(job, store, device, keep, execution)
    else:
        say(f"{run.name}: done before, in {run.folder}")
        _say_leaks(run.name, run.record.leaks)
    run = asked_with(run, tasks)
    _say_nothing_learnt(run)
    if out is not None:
        store.copy(run, out)
    return run


def _needing(intermediates: Sequence[Run], store: RunStore) -> AbstractContextManager[Any]:
    """For the time of the block no other process drops the weights of these runs."""
    names = [run.name for run in intermediates]
    return Claims(store.folder).need(names) if names else nullcontext()


def _random_numbers_kept(device: str) -> AbstractContextManager[None]:
    """The caller's random numbers go on after the block as if it had drawn none."""
    return torch.random.fork_rng(devices=[torch.device(device)] if device.startswith("cuda") else [])


def _say_leaks(name: str, leaks: Sequence[Leak] | None) -> None:
    if leaks:
        say(f"{name}: {leak_line(leaks)}")


def _say_nothing_learnt(run: Run) -> None:
    record = run.record
    line = nothing_learnt_in_development(
        record.task.selection_metric, record.development, record.development_majority, record.development_labels
    )
    if line and record.control is None:
        say(f"{run.name}: {line}")


def check_kinds(**arguments: Any) -> None:
    """Raise UsageError for an argument of `train` or `tune` that is of another kind than what it takes."""
    text: tuple[tuple[type, ...], str] = ((str,), "text")
    kinds: dict[str, tuple[tuple[type, ...], str]] = {
        "backbone": ((str, Path, Backbone), "a Hub id, a folder, or a Backbone"),
        "runs": ((str, Path, RunStore), "a folder, or a RunStore"),
        "execution": ((Execution,), "an Execution"),
    }
    for name, value in arguments.items():
        kind(f"--{name}", value, *kinds.get(name, text))


def with_development_limit(settings: dict[str, str], limit: int | None) -> dict[str, str]:
    """The settings with that number of development examples. Raises UsageError where they say another."""
    if whole_number("--development-limit", limit, 1) is None:
        return settings
    if "development_examples" in settings:
        raise UsageError("--development-limit and --set development_examples: found both, accepted one of them")
    return {**settings, "development_examples": str(limit)}


def check_languages(tasks: Sequence[Task], languages: Sequence[str] | None) -> None:
    """Raise UsageError for a training language that a task does not have."""
    for task in tasks:
        for code in languages or ():
            if code not in task.data.languages:
                accepted = ", ".join(task.data.languages)
                raise UsageError(f"--languages: found {code!r}, accepted for {task.name}: {accepted}")


@dataclass(frozen=True)
class Intermediate:
    """One of `over`, resolved: a finished run, or tasks (as a control, or not) that are to be trained first."""

    done: Run | None
    tasks: tuple[Task, ...] = ()
    control: Control | None = None

    def run(self, shared: Mapping[str, Any]) -> Run:
        """The finished run; `shared` are the options of `train` for one that is trained first."""
        return self.done or train(self.tasks, control=self.control, **shared)


def resolve_intermediate(own: Underneath, store: RunStore) -> Intermediate:
    """What one of `over` names, before anything is trained: tasks (a text with + between, and @ and a control behind),
    else a run of the store. Raises UsageError for neither."""
    if isinstance(own, Run):
        return Intermediate(own)
    if isinstance(own, Task):
        return Intermediate(None, (own,))
    own = str(own)
    names, _, control = own.partition("@") if not exists(user_path(own)) else (own, "", "")
    try:
        tasks = find_tasks(names)
    except UsageError as no_task:
        if names.endswith((".yaml", ".yml")):
            raise
        try:
            return Intermediate(store.find(own))
        except UsageError as no_run:
            raise UsageError(f"--over {own}: neither a run nor a task ({no_run}; {no_task})") from None
    check_control(control or None, 0)
    return Intermediate(None, tuple(tasks), control or None)  # type: ignore[arg-type]


def _mixed_in_head(task: Task | None, shared: dict[str, Any]) -> Run | None:
    """The run that trains a head of masked language modelling, for a backbone whose checkpoint has none."""
    if task is None:
        return None
    fetch_weights(shared["backbone"])
    if (pretrained := find_kind(task.kind).pretrained) is None or pretrained(shared["backbone"]) is not None:
        return None
    if not shared["weights"]:  # the first of the two looks at what lies underneath
        say(f"{shared['backbone'].id}: has no head for masked language modelling; it gets one trained on {task.name}")
    languages = present_languages(task, shared["mirror"])
    return train(task, **{**shared, "method": "head"}, languages=languages)


@memory_given_back()
def execute(job: Job, store: RunStore, device: str, keep: Keep = "all", execution: Execution | None = None) -> Run:
    """Train a job and put its folder into the store, whole or not at all; without weights where `keep` is "scores".

    A job that was cut off goes on from its last checkpoint."""
    started = time.perf_counter()
    reset_peak_memory(device)
    data = load_training_data(job)
    signatures = trained_on(job, data)
    leaks = leaks_of_job(job, data, signatures)
    _say_leaks(job.name, leaks)
    model = build_model(job, data, device)
    checkpoints = checkpoints_of(job.name, store, execution or Execution())
    try:
        fitted = fit(job, model, data, execution, checkpoints)
    except StiltsError:
        if checkpoints is not None:
            checkpoints.remove()  # it would fail again
        raise
    model.eval()
    try:
        with store.create(job.name) as folder:
            manifest = manifest_of(job, data)
            if keep != "scores":
                baked = {name: bundle_of(run) / adapter for run, adapter, name in job.underneath}
                baked = baked if job.composition == "bake" else {}
                manifest = save_bundle(folder / BUNDLE, model, manifest, baked)
            write_signatures(folder / TRAINED_ON, signatures)
            cost = Cost(
                train_seconds=fitted.train_seconds,
                seconds=time.perf_counter() - started + (checkpoints.seconds_before if checkpoints else 0.0),
                steps=fitted.steps,
                tokens_per_second=fitted.tokens / fitted.train_seconds if fitted.train_seconds else 0.0,
                peak_memory_bytes=peak_memory_bytes(device),
                bundle_bytes=sum(file.bytes for file in manifest.files.values()),
            )
            record = record_of(job, data, fitted, cost, device, leaks)
            write_record(folder, record.model_copy(update={"trained_on": sha256_file(folder / TRAINED_ON)}))
    except FileExistsError:
        say(f"{job.name}: another process finished it first; its run stays")
    if checkpoints is not None:
        checkpoints.remove()
    return Run(store.folder / job.name, read_record(store.folder / job.name))
