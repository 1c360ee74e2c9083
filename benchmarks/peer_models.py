"""The jobs' models as users of `adapters`, `peft` and `transformers` build them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from adapters.composition import Fuse
from peft import LoraConfig, TaskType, get_peft_model
from transformers import XLMRobertaForTokenClassification

from adapter_stilts.jobs.job import NULL, Job
from adapter_stilts.model.arrangement import Arrangement, arrange
from adapter_stilts.model.backbone import Backbone
from adapter_stilts.model.bottleneck import add_bottleneck
from adapter_stilts.model.parts import activate, quiet_adapters, set_trainable
from adapter_stilts.model.peft_adapters import LORA_TARGETS
from adapter_stilts.model.pretrained import load_model
from adapter_stilts.tasks.kinds import HeadSpec, find_kind


def peer_model(job: Job, labels: Sequence[str]) -> Any:
    """The peer's model of a job."""
    if job.method == "full":
        return peer_full_model(job, labels)
    return peer_lora_model(job, labels) if job.method == "lora" else peer_adapter_model(job, labels)


def peer_backbone(job: Job) -> Backbone:
    """The backbone with our dropout: the recipe's on states, none on attention probabilities."""
    backbone = replace(job.backbone)  # which reads a configuration of its own
    backbone.config.hidden_dropout_prob, backbone.config.attention_probs_dropout_prob = job.recipe.dropout, 0.0
    return backbone


def peer_arrangement(job: Job) -> Arrangement:
    """The job's arrangement without the adapter that does nothing, which `adapters` has not."""
    arrangement = job.arrangement
    underneath = [name for name in arrangement.adapters[:-1] if name != NULL]
    return arrange(job.method, job.composition, arrangement.adapters[-1], underneath, arrangement.heads)


def peer_adapter_model(job: Job, labels: Sequence[str]) -> Any:
    """The job's model as a user of `adapters` builds it; an intermediate is left untrained, which costs the same."""
    model, arrangement = load_model(peer_backbone(job)), peer_arrangement(job)
    for name in arrangement.adapters:
        add_bottleneck(model, name, job.recipe)
    if arrangement.fused:
        model.add_adapter_fusion(Fuse(*arrangement.adapters[: arrangement.fused]))
    find_kind(job.task.kind).add_head(model, arrangement.head, HeadSpec(labels, job.recipe.dropout))
    with quiet_adapters():
        model.train_adapter(arrangement.adapters[-1])
    activate(model, arrangement)
    set_trainable(model, arrangement)
    return model


def peer_full_model(job: Job, labels: Sequence[str]) -> Any:
    """`transformers`' own model for tagging, without anything of `adapters`."""
    backbone = peer_backbone(job)
    backbone.config.num_labels = len(labels)
    return XLMRobertaForTokenClassification.from_pretrained(
        str(backbone.folder), config=backbone.config, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )


def peer_lora_model(job: Job, labels: Sequence[str]) -> Any:
    """`peft`'s LoRA on it, of the job's rank, alpha and targets; the head trains with it, as peft lets it."""
    recipe = job.recipe
    config = LoraConfig(
        task_type=TaskType.TOKEN_CLS,
        r=recipe.rank,
        lora_alpha=2 * recipe.rank if recipe.alpha is None else recipe.alpha,  # type: ignore[arg-type]
        lora_dropout=0.0,
        target_modules=list(recipe.targets or LORA_TARGETS),
    )
    return get_peft_model(peer_full_model(job, labels), config)
