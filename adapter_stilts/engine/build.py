"""A job's model: backbone, intermediates with their trained weights, a target adapter and heads."""

from __future__ import annotations

import hashlib

import torch

from adapter_stilts.engine.bundle import head_weights, load_adapter, load_encoder
from adapter_stilts.jobs.job import MERGED, NULL, Job
from adapter_stilts.jobs.training_data import TrainingData, TrainingPart
from adapter_stilts.model.bottleneck import add_bottleneck, add_fusion, add_null, average_bottlenecks
from adapter_stilts.model.composition import MERGES, PEFT_METHODS
from adapter_stilts.model.dropout import pack_dropout
from adapter_stilts.model.packing import install
from adapter_stilts.model.parts import activate, quiet_adapters, set_dropout, set_trainable
from adapter_stilts.model.peft_adapters import add_peft_adapter, bake_peft_adapters
from adapter_stilts.model.peft_merge import merge_peft_adapters
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.model.protocols import Model
from adapter_stilts.runs.store import bundle_of, checked_bundle
from adapter_stilts.tasks.kinds import HeadSpec


def build_model(job: Job, data: TrainingData, device: torch.device | str = "cpu") -> Model:
    """The job's model, packing in place, only the arrangement's parts trainable (`set_trainable` checks that).

    The seed decides the fresh weights: a task's adapter, head and fusion start alike under every composition. Raises
    StiltsError for an intermediate whose files are damaged.
    """
    for run in job.runs:
        checked_bundle(run)
    arrangement = job.arrangement
    model = load_model(job.backbone)
    set_dropout(model, job.recipe.dropout)
    for part in data.mixed_in:
        # Before any other encoder is loaded: such a head's decoder may be the backbone's own embedding.
        _add_mixed_in_head(job, model, part)
    with quiet_adapters():
        _load_underneath(job, model)
        if job.method == "full":
            for run in job.runs:
                load_encoder(model, bundle_of(run))
        elif arrangement.adapters:
            _add_adapters(job, model)
    for part in data.tasks:
        _seed(job, f"head of {part.task.name}")
        _add_head(job, model, part)
    pack_dropout(model)
    activate(model, arrangement)
    set_trainable(model, arrangement)
    return install(model).to(device)


def _seed(job: Job, what: str) -> None:
    """Seed PyTorch for one part of the model, independently of what was drawn before."""
    digest = hashlib.blake2b(f"{job.seed}: {what}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest) >> 1)


def _load_underneath(job: Job, model: Model) -> None:
    """Load the intermediates' adapters; merge or bake them where the composition says so."""
    loaded = job.underneath
    for intermediate, adapter, name in loaded:
        continued = job.adapter if job.composition == "continue" else name
        load_adapter(model, bundle_of(intermediate.run) / adapter, job.method, continued)
    names, recipe = [name for _, _, name in loaded], job.recipe
    weights = recipe.merge_weights and tuple(weight / sum(recipe.merge_weights) for weight in recipe.merge_weights)
    if job.composition == "bake":
        bake_peft_adapters(model, names)
    elif job.composition == "merge":
        merged = MERGED if recipe.merge_then == "stack" else job.adapter
        if job.method in PEFT_METHODS:
            how = recipe.merge or MERGES[job.method][0]
            merge_peft_adapters(model, names, merged, how, weights, job.seed)
        else:
            average_bottlenecks(model, names, merged, weights)


def _add_adapters(job: Job, model: Model) -> None:
    """The fresh adapters of the arrangement: null, fusion, target."""
    arrangement, recipe = job.arrangement, job.recipe
    null = NULL if NULL in arrangement.adapters else None
    if null is not None:
        _seed(job, f"null adapter under {job.title}")
        add_null(model, NULL, [name for name in arrangement.adapters[: arrangement.fused] if name != NULL])
    if arrangement.fused:
        _seed(job, f"fusion under {job.title}")
        add_fusion(model, list(arrangement.adapters[: arrangement.fused]), recipe, null)
    if job.composition == "continue" or (job.composition == "merge" and recipe.merge_then == "continue"):
        return
    _seed(job, f"adapter of {job.title}")
    if job.method in PEFT_METHODS:
        add_peft_adapter(model, job.adapter, job.method, recipe)  # type: ignore[arg-type]
    else:
        add_bottleneck(model, job.adapter, recipe)


def _add_head(job: Job, model: Model, part: TrainingPart) -> None:
    kind = part.use.kind
    weights = None if kind.pretrained is None else kind.pretrained(job.backbone)
    kind.add_head(model, part.head, HeadSpec(part.labels, job.recipe.dropout, part.prepared, weights))


def _add_mixed_in_head(job: Job, model: Model, part: TrainingPart) -> None:
    """The checkpoint's own head, or the one that was trained on text for a backbone without one."""
    assert job.mixed_in is not None
    run = job.mixed_in.head_run
    if run is None:
        _add_head(job, model, part)
    else:
        weights = head_weights(bundle_of(run))
        part.use.kind.add_head(model, part.head, HeadSpec(part.labels, job.recipe.dropout, part.prepared, weights))
