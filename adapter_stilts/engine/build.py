"""A job's model: backbone, intermediates with their trained weights, a target adapter and heads."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from adapter_stilts.engine.bundle import load_adapter, load_encoder, masked_lm_weights
from adapter_stilts.jobs.job import MERGED, NULL, Job
from adapter_stilts.jobs.training_data import TrainingData, TrainingPart
from adapter_stilts.model.bottleneck import add_bottleneck, add_fusion, add_null, average_bottlenecks
from adapter_stilts.model.composition import MERGES, PEFT_METHODS
from adapter_stilts.model.dropout import pack_dropout
from adapter_stilts.model.masked_lm_head import MaskedLMHead, pretrained_head
from adapter_stilts.model.packing import install
from adapter_stilts.model.parts import activate, quiet_adapters, set_dropout, set_trainable
from adapter_stilts.model.peft_adapters import add_peft_adapter, bake_peft_adapters
from adapter_stilts.model.peft_merge import merge_peft_adapters
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.runs.manifest import read_manifest
from adapter_stilts.runs.store import bundle_of, checked_bundle
from adapter_stilts.tasks.kinds import find_kind


def build_model(job: Job, data: TrainingData, device: torch.device | str = "cpu") -> Any:
    """The job's model, packing in place, only the arrangement's parts trainable (`set_trainable` checks that).

    The seed decides the fresh weights: a task's adapter, head and fusion start alike under every composition. Raises
    StiltsError for an intermediate whose files are damaged.
    """
    for run in job.runs:
        checked_bundle(run)
    arrangement = job.arrangement
    model = load_model(job.backbone)
    set_dropout(model, job.recipe.dropout)
    if data.masked_lm is not None:
        # Before any other encoder is loaded: the head's decoder is the backbone's own embedding.
        _add_masked_lm_head(job, model, data.masked_lm)
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


def _load_underneath(job: Job, model: Any) -> None:
    """Load the intermediates' adapters; merge or bake them where the composition says so."""
    placed = job.underneath
    for intermediate, adapter, name in placed:
        continued = job.adapter if job.composition == "continue" else name
        load_adapter(model, bundle_of(intermediate.run) / adapter, job.method, continued)
    names, recipe = [name for _, _, name in placed], job.recipe
    weights = recipe.merge_weights and tuple(own / sum(recipe.merge_weights) for own in recipe.merge_weights)
    if job.composition == "bake":
        bake_peft_adapters(model, names)
    elif job.composition == "merge":
        merged = MERGED if recipe.merge_then == "stack" else job.adapter
        if job.method in PEFT_METHODS:
            how = recipe.merge or MERGES[job.method][0]
            merge_peft_adapters(model, names, merged, how, weights, job.seed)
        else:
            average_bottlenecks(model, names, merged, weights)


def _add_adapters(job: Job, model: Any) -> None:
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


def _add_head(job: Job, model: Any, part: TrainingPart) -> None:
    if part.candidates is not None:
        model.heads[part.head] = MaskedLMHead.build(model, part.candidates, pretrained_head(job.backbone))
    else:
        find_kind(part.task.kind).add_head(model, part.head, part.labels, job.recipe.dropout)


def _add_masked_lm_head(job: Job, model: Any, part: TrainingPart) -> None:
    """The checkpoint's own head, or the one that was trained on text for a backbone without one."""
    assert job.masked_lm is not None
    assert part.candidates is not None
    run = job.masked_lm.head_run
    weights = pretrained_head(job.backbone) if run is None else masked_lm_weights(bundle_of(run), run_head(run))
    model.heads[part.head] = MaskedLMHead.build(model, part.candidates, weights)


def run_head(run: Any) -> str:
    """Name of the head in a run's bundle."""
    return read_manifest(bundle_of(run)).head
